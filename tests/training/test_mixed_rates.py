"""Files of many rates, one without sound, through the training transforms: in sync, and trained on.

Every clip has a flash and a click at one instant. Frames and sound are what training sees of them.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch

from avgen.clips import Clip, write_clip
from avgen.clips.timebase import num_samples, to_index, to_seconds
from avgen.codecs.base import load_module
from avgen.corpora.manifest import ClipRecord
from avgen.diffusion.schedules import IndependentSigma, LogitNormal
from avgen.latents.conditioning import Tasks
from avgen.latents.packing import PackedLayout
from avgen.preparation.encode import encode
from avgen.preparation.latent_store import read_latent_config, read_shape
from avgen.preparation.run import Request, prepare
from avgen.preparation.settings import Settings
from avgen.training.batches import Packs
from avgen.training.clip_latents import read_stretch
from avgen.training.data import ClipData
from avgen.training.optimization import OptimizerConfig
from avgen.training.system import DiffusionSystem, LossWeights, NetworkConfig, TextDrops

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")
# frames a second, samples a second, (height, width), seconds
FILES = [
    ("24", 16000, (64, 64), 1.0),
    ("25", 22050, (64, 96), 1.4),
    ("30000/1001", 44100, (96, 64), 1.2),
    ("30", 48000, (64, 64), 1.0),
    ("25", None, (64, 64), 1.0),
]
FLASH_S, RATE = 0.52, 24000


def flash_and_click(fps, sample_rate, size, seconds):
    """White for 0.12 s, and a burst of noise that starts with the white; where they start."""
    num_frames = to_index(seconds, fps)
    frame = to_index(FLASH_S, fps)
    frames = np.full((num_frames, *size, 3), 40, np.uint8)
    frames[frame : frame + to_index(0.12, fps)] = 230
    if sample_rate is None:
        return Clip(frames, fps), frame
    waveform = np.zeros((1, num_samples(num_frames, fps, sample_rate)), np.float32)
    sample = to_index(to_seconds(frame, fps), sample_rate)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, to_index(0.03, sample_rate))
    waveform[0, sample : sample + len(noise)] = noise
    return Clip(frames, fps, waveform, sample_rate), frame


@pytest.fixture(scope="module")
def prepared(tiny_model, tmp_path_factory):
    """The files, prepared at rates and sizes of their own."""
    root = tmp_path_factory.mktemp("files")
    folder, records = root / "prepared", []
    for index, (fps, sample_rate, size, seconds) in enumerate(FILES):
        clip, _ = flash_and_click(Fraction(fps), sample_rate, size, seconds)
        write_clip(clip, root / f"f{index}.mp4")
        records.append(
            ClipRecord(f"f{index}", f"f{index}.mp4", "own", "s", "train", "a flash", (), None, "")
        )
    settings = Settings(None, None, RATE, stages="none", keep_silent=True)
    assert prepare(Request("own", root, folder, settings), records).clips == len(FILES)
    encode(folder, *(load_module(tiny_model / name) for name in ("video_codec", "audio_codec")))
    return folder


def onset_s(values, rate):
    """When the values pass half of their way up, in seconds."""
    return float(np.argmax(values > (np.median(values) + values.max()) / 2) / rate)


@pytest.mark.parametrize("index", range(len(FILES) - 1))
def test_flash_and_click_stay_together(prepared, index):
    fps = Fraction(FILES[index][0])
    frames = np.load(prepared / "frames" / f"f{index}.npy")
    sound = np.load(prepared / "waveforms" / f"f{index}.npy")[0] / 32767
    flash = onset_s(frames.mean((1, 2, 3)), fps)
    width = to_index(0.002, RATE)
    click = onset_s(np.convolve(sound**2, np.ones(width) / width, mode="same"), RATE)
    assert flash == float(to_seconds(to_index(FLASH_S, fps), fps))
    assert abs(flash - click) < 0.01
    config = read_latent_config(prepared)
    shape = read_shape(prepared / "latents" / f"f{index}.safetensors", config)
    assert (shape.fps, shape.num_frames, shape.has_sound) == (fps, len(frames), True)
    assert (shape.height, shape.width) == FILES[index][2]
    assert len(sound) == num_samples(len(frames), fps, RATE)


def test_a_latent_is_where_its_layout_says(prepared):
    """The frames that a video token covers and the samples that an audio token covers."""
    config = read_latent_config(prepared)
    for index, (fps, *_) in enumerate(FILES[:-1]):
        shape = read_shape(prepared / "latents" / f"f{index}.safetensors", config)
        video, audio = config.clip_grids(shape)
        frame = to_index(FLASH_S, Fraction(fps))
        flash = float(to_seconds(frame, Fraction(fps)))
        (latent,) = (
            i
            for i in range(video.num_latents)
            if video.latent_frames(i)[0] <= frame < video.latent_frames(i)[1]
        )
        start, stop = (float(second) for second in video.span(latent))
        assert start <= flash < stop
        token = int(flash * RATE) // (audio.patch * audio.hop_length)
        start, stop = (float(second) for second in audio.span(token))
        assert start <= flash < stop


def test_no_sound_is_not_silence(prepared):
    config = read_latent_config(prepared)
    path = prepared / "latents" / "f4.safetensors"
    shape = read_shape(path, config)
    assert shape.has_sound is False
    assert np.load(prepared / "waveforms" / "f4.npy").shape == (0, 0)
    assert read_stretch(path, config, shape, 0)[1] is None


def test_they_train_together(prepared):
    torch.manual_seed(0)
    system = DiffusionSystem(
        prepared,
        NetworkConfig(width=32, depth=1, num_heads=2),
        OptimizerConfig(0.01, 1, 100),
        IndependentSigma(LogitNormal(0.0, 1.0, 0.2), {"video": 1.0, "audio": 1.0}),
        Tasks(),
        TextDrops(),
        LossWeights(),
    )
    batch = next(iter(ClipData(prepared, Packs(10_000, 10.0)).train_dataloader()))
    assert sorted(record.id for record in batch["records"]) == [f"f{i}" for i in range(5)]
    assert isinstance(system.draw(batch, "train").layout, PackedLayout)
    optimizer = system.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = system.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]
