"""What every test shares: a fixed seed, two threads, and where the real clips are."""

import faulthandler
import json
import os
import random
import zlib
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: a thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # reads how many threads it may have
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

REPOSITORY = Path(__file__).resolve().parents[1]
# Files that take longest, in this order. Processes that share the tests begin with them: whoever
# begins one at the end keeps all others waiting.
LONGEST = (
    "training/test_distributed.py", "recipes/test_people.py", "recipes/test_every_recipe.py",
    "preparation/test_run.py", "training/test_resume.py", "test_readme.py", "studio/test_lives.py",
    "test_puppets_tiny.py", "evaluation/test_likeness.py", "evaluation/test_odd_inputs.py",
    "evaluation/test_run.py", "training/test_others.py", "evaluation/test_faults.py",
    "training/test_ddp.py", "training/test_optimization.py", "training/test_finetune.py",
    "studio/test_security.py", "studio/test_page.py", "corpora/test_voices.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list) -> None:
    """The longest files first, where processes share them (--no-loadscope-reorder keeps it so)."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {REPOSITORY / "tests" / name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def seed(pytestconfig) -> int:
    """Every test starts from the same random state, on at most two threads.

    A crash in a library prints where: Lightning, when a training ends, sets all signals back to
    what they were before pytest's faulthandler, and a process then dies without a word.
    """
    import torch

    if faulthandler.is_enabled() and (
        stderr := pytestconfig.stash.get(fault_handler_stderr_fd_key, 0)
    ):
        faulthandler.disable()
        faulthandler.enable(stderr)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(min(2, torch.get_num_threads()))  # OMP_NUM_THREADS=1 stays 1
    return 0


@pytest.fixture(scope="session")
def fill():
    """Sets every parameter of a module by its name alone: the same for ever, and none is 0.

    No random generator is asked, whose numbers may be others in the next version, and the order of
    the parameters does not matter. Rows that are added to a table leave those before as they are.
    """
    import torch

    def fill(module):
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                size = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
                values = size * chirp(parameter.shape, zlib.crc32(name.encode()) % 1000)
                parameter.copy_(torch.from_numpy(values) + name.endswith(("gain", "norm.weight")))
        return module.eval()

    return fill


def chirp(shape, phase=0):
    """Numbers in [-1, 1] without a pattern, float64: the sine of a square."""
    index = np.arange(int(np.prod(shape)), dtype=np.float64)
    return np.sin(phase + 0.618 * index**2).reshape(shape)


@pytest.fixture(scope="session", name="chirp")
def chirp_fixture():
    """`chirp(shape, phase)`, float64."""
    return chirp


@pytest.fixture(scope="session")
def golden():
    """`golden(name, values)`: numbers from all over `values` are those stored in golden.json.

    They are what the arithmetic gave when they were stored, to rounding. Whoever changes it on
    purpose stores new ones (`AVGEN_GOLDEN=write pytest FILE`) and says why in the commit.
    """
    path = Path(__file__).with_name("golden.json")

    def golden(name, values, number=32, rel=2e-5, atol=1e-5):
        flat = np.asarray(values, np.float64).ravel()
        number = min(number, flat.size)
        some = flat[np.arange(number) * (flat.size - 1) // max(1, number - 1)]
        stored = json.loads(path.read_text()) if path.is_file() else {}
        if os.environ.get("AVGEN_GOLDEN") == "write":
            stored[name] = [float(f"{value:.8g}") for value in some]
            lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(stored.items())]
            path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        np.testing.assert_allclose(some, stored[name], rtol=rel, atol=atol, err_msg=name)

    return golden


@pytest.fixture(scope="session")
def clips_folder() -> Path:
    """The folder of real clips (environment variable AVGEN_CLIPS); no folder, a visible skip."""
    default = REPOSITORY.parent / "shared" / "clips"
    folder = Path(os.environ.get("AVGEN_CLIPS", default))
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}; set AVGEN_CLIPS to a folder of them")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model folder as `avgen generate --model` reads it: the real classes, untrained, tiny.

    It makes clips of 9 frames of 32x48 at 25 fps by default.
    """
    import torch

    from avgen.clips import Word
    from avgen.codecs.audio import AudioAutoencoder, AudioAutoencoderConfig
    from avgen.codecs.normalize import LatentStatistics
    from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig
    from avgen.models.timing import SpeechTimer
    from avgen.models.transformer import AVTransformer, AVTransformerConfig
    from avgen.pipeline import AVPipeline, PipelineConfig

    torch.manual_seed(0)
    widths, depths = (8, 8, 8), (1, 1, 1)
    video = ConvVideoCodec(ConvVideoCodecConfig(4, widths, widths, depths, depths))
    audio = AudioAutoencoder(
        AudioAutoencoderConfig(
            latent_channels=4,
            num_mels=16,
            phase_bins=0,
            encoder_width=8,
            encoder_hidden=8,
            encoder_depth=1,
            decoder_width=8,
            decoder_hidden=8,
            decoder_depth=1,
        )
    )
    transformer = AVTransformer(AVTransformerConfig(token_width=16, width=16, depth=1, num_heads=2))
    statistics = LatentStatistics((0.0,) * 4, (1.0,) * 4)
    words = (Word("place", 0.05, 0.15), Word("red", 0.15, 0.3))
    config = PipelineConfig(
        height=32,
        width=48,
        fps="25",
        num_frames=9,
        context_frames=5,
        video_patch=2,
        audio_patch=3,
        video_statistics=statistics,
        audio_statistics=statistics,
        timer=SpeechTimer.fit([(words, 0.36)]),
        num_inference_steps=2,
    )
    folder = tmp_path_factory.mktemp("tiny") / "model"
    AVPipeline(transformer, video, audio, config).save_pretrained(folder)
    return folder
