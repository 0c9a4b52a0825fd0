"""Windows of a long clip, and latents that wait until no later one can change them."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from avgen.clips.timebase import num_samples
from avgen.pipeline import AVPipeline, GenerateRequest
from avgen.pipeline.continuation import LatentQueue, windows


@pytest.mark.parametrize(
    ("reach", "stretches"),
    [
        (0, [(0, 5), (5, 9), (9, 10)]),
        (2, [(0, 3), (3, 7), (7, 10)]),
        (7, [(0, 0), (0, 2), (2, 10)]),
    ],
)
def test_latents_wait_for_those_that_reach_them(reach, stretches):
    queue = LatentQueue(reach)
    whole = torch.arange(10.0).expand(1, 2, 10)
    for stretch, (start, stop) in zip(stretches, [(0, 5), (5, 9), (9, 10)], strict=True):
        latents, *decoded = queue.push(whole[:, :, start:stop], stop == 10)
        assert torch.equal(latents, whole[:, :, :stop])
        assert tuple(decoded) == stretch


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(30000, 1001)], ids=["24", "29.97"])
def test_windows_lie_on_one_grid_of_tokens(tiny_model, fps):
    """Tokens of 960 samples, frames of 1000 or 800.8: a window begins within its first token."""
    pipe = AVPipeline.from_pretrained(tiny_model)
    video, audio = pipe.video_codec, pipe.audio_codec
    settings = replace(pipe.config, num_frames=17, context_frames=5)
    said = GenerateRequest(speech="place red", num_frames=61, fps=fps)
    conditions = replace(pipe.conditions(said), settings=settings)
    plan = list(windows(conditions, video, audio))
    token = settings.audio_patch * audio.hop_length
    assert token == 960 and len(plan) > 3
    latents, end = 0, 0
    for window in plan:
        first = num_samples(window.start, fps, audio.sample_rate)
        assert window.begin % token == 0
        assert window.begin <= first < window.begin + token
        count = -(-(window.end - window.begin) // audio.hop_length)
        own = range(*window.new_audio.indices(count))
        assert window.begin + own.start * audio.hop_length == end  # none twice, none left out
        latents, end = latents + len(own), window.begin + own.stop * audio.hop_length
    assert latents == -(-num_samples(61, fps, audio.sample_rate) // audio.hop_length)
    assert any(window.begin != num_samples(window.start, fps, audio.sample_rate) for window in plan)
