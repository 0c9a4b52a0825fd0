"""A studio with the tiny model, served on a free port of this machine, as `avgen serve` does."""

import json

import pytest
from served import TOKEN, Served


@pytest.fixture(scope="session")
def moving_model(tiny_model, tmp_path_factory):
    """The tiny model with weights that answer something, of 96 x 96 pixels, in eight steps."""
    import torch

    from avgen.pipeline import AVPipeline

    pipe = AVPipeline.from_pretrained(tiny_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in pipe.transformer.named_parameters():
            size = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
            drawn = size * torch.randn(parameter.shape, generator=generator)
            parameter.copy_((drawn + name.endswith("gain")).bfloat16())
    folder = tmp_path_factory.mktemp("moving") / "model"
    pipe.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"height": 96, "width": 96, "num_inference_steps": 8}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def served(moving_model, tmp_path_factory):
    """One server for all tests that leave it as it was."""
    server = Served(moving_model, tmp_path_factory.mktemp("studio"))
    yield server.ready()
    server.stop()


@pytest.fixture(scope="session")
def limited(moving_model, tmp_path_factory):
    """A server that holds six clips, marks none, and wants a token."""
    server = Served(
        moving_model,
        tmp_path_factory.mktemp("limited"),
        *("--max-queued", "6", "--no-marks"),
        environment={"AVGEN_TOKEN": TOKEN},
    )
    yield server.ready()
    server.stop()


@pytest.fixture
def serve(moving_model, tmp_path):
    """Start servers with arguments of their own; they are stopped afterwards."""
    servers = []

    def start(*arguments, folder=None, model=None, environment=None):
        where = folder or tmp_path / f"studio{len(servers)}"
        where.mkdir(exist_ok=True)
        servers.append(Served(model or moving_model, where, *arguments, environment=environment))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def sent():
    """What OpenAI's client has sent, one entry each time that it tried: method and path."""
    return []


@pytest.fixture(scope="session")
def client(served, sent):
    """OpenAI's own client, pointed at the studio."""
    import openai

    told = [lambda request: sent.append(f"{request.method} {request.url.path}")]
    http = openai.DefaultHttpxClient(event_hooks={"request": told})
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", http_client=http)
