"""A studio with the tiny model, served on a free port of this machine, as `avgen serve` does."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = next(
    (p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()), None
)
SAID = 'a man says "place red"'


class Served:
    """A server of its own process.

    `url` is where, `folder` what it keeps; `call` asks it, `wait` waits for a clip to end.
    """

    def __init__(self, model, folder, *arguments, environment=None):
        self.model, self.folder, self.arguments = model, folder, arguments
        self.environment = {
            **os.environ,
            "AVGEN_CONFIG": str(folder / "config"),
            **(environment or {}),
        }
        self.start()

    def start(self):
        told = {"--port": 0, "--threads": 1, "--model": self.model, "--data": self.folder}
        flags = [str(part) for pair in told.items() for part in pair]
        command = [sys.executable, "-m", "avgen.cli", "serve", *flags, *self.arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=self.environment
        )
        line = self.process.stdout.readline()
        self.url = re.search(r"http://[^/\s]+", line)[0]

    def ready(self):
        for _ in range(600):
            try:
                if self.call("/ready")["status"] == "ready":
                    return self
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server did not become ready within a minute")

    def call(self, path, body=None, method=None, headers=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path,
            data,
            {"Content-Type": "application/json", **(headers or {})},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def make(self, **fields):
        return self.call("/v1/videos", {"prompt": SAID, **fields})["id"]

    def wait(self, name, until=("completed", "failed"), seconds=60):
        for _ in range(20 * seconds):
            video = self.call(f"/v1/videos/{name}")
            if video["status"] in until:
                return video
            time.sleep(0.05)
        raise AssertionError(f"{name} is {video['status']} after {seconds} s")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        self.process.stdout.close()


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
def client(served):
    """OpenAI's own client, pointed at the studio."""
    import openai

    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=2)
