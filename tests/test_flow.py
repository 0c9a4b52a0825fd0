"""The whole way: file -> clip -> latents -> one sequence -> latents -> clip -> file, in time."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from avgen import AVPipeline
from avgen.clips import Clip, read_clip, write_clip
from avgen.clips.timebase import num_samples, to_index, to_seconds
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import make_layout, pack, unpack

SECONDS = 2
FLASH_S = 0.96  # on a frame of 25 fps; the nearest frame of the other rates
CLICK_SAMPLES = 240


@pytest.fixture(scope="module")
def pipe() -> AVPipeline:
    return AVPipeline.from_pretrained()


def flash_and_click(fps: Fraction, sample_rate: int) -> tuple[Clip, int, int]:
    """A grey clip that is white for 0.2 s, and a burst of noise that starts with the white."""
    num_frames = to_index(SECONDS, fps)
    frame = to_index(FLASH_S, fps)
    frames = np.full((num_frames, 64, 64, 3), 60, np.uint8)
    frames[frame : frame + to_index(0.2, fps)] = 220
    waveform = np.zeros((1, num_samples(num_frames, fps, sample_rate)), np.float32)
    sample = to_index(to_seconds(frame, fps), sample_rate)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, CLICK_SAMPLES)
    waveform[0, sample : sample + CLICK_SAMPLES] = noise
    return Clip(frames, fps, waveform, sample_rate), frame, sample


def onset(values: np.ndarray) -> int:
    """The first index at which the values pass half of their way up."""
    low, high = np.median(values), values.max()
    return int(np.argmax(values > (low + high) / 2))


def loudness(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Root mean square over 2 ms, centred on each sample."""
    width = to_index(0.002, sample_rate)
    return np.sqrt(np.convolve(waveform[0] ** 2, np.ones(width) / width, mode="same"))


@pytest.mark.parametrize("fps", ["24", "25", "30000/1001", "30"])
def test_flash_and_click_stay_together_through_everything(
    pipe: AVPipeline, tmp_path: Path, fps: str
) -> None:
    rate = pipe.audio_codec.sample_rate
    made, frame, sample = flash_and_click(Fraction(fps), rate)
    write_clip(made, tmp_path / "in.mp4")
    clip = read_clip(tmp_path / "in.mp4", sample_rate=rate, num_channels=1)
    assert clip.waveform is not None
    with torch.inference_mode():
        video, audio = pipe.encode_video(clip.frames), pipe.encode_audio(clip.waveform)
        size = clip.num_frames, clip.height, clip.width, clip.fps
        grid = VideoGrid(*size, pipe.video_codec.stride, video.shape[1], pipe.config.video_patch)
        sound = AudioGrid(clip.num_samples, rate, 320, audio.shape[1], pipe.config.audio_patch)
        layout = make_layout(grid, sound)
        video, audio = unpack(pack(video, audio, layout), layout)
        frames = np.concatenate(list(pipe.decode_video(video, 0, video.shape[2], grid)))
        (waveform,) = pipe.decode_audio(audio, 0, audio.shape[2], clip.num_samples)
    write_clip(Clip(frames, clip.fps, waveform, rate), tmp_path / "out.mp4")
    back = read_clip(tmp_path / "out.mp4", sample_rate=rate, num_channels=1)
    assert back.waveform is not None and back.num_frames == made.num_frames
    assert back.num_samples == made.num_samples
    assert onset(back.frames.mean((1, 2, 3))) == frame
    assert abs(onset(loudness(back.waveform, rate)) - sample) <= to_index(0.010, rate)
