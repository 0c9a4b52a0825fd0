"""Statistics of latents are those of all their numbers together."""

import pytest
import torch

from avgen.codecs.normalize import LatentStatistics


def clips():
    scale = torch.tensor([0.1, 1.0, 30.0])
    return [
        scale[:, None, None] * torch.randn(3, size, 5)
        + torch.tensor([5.0, 0.0, -2.0])[:, None, None]
        for size in (4, 9, 2)
    ]


def test_fit_is_mean_and_deviation_of_everything():
    latents = clips()
    together = torch.cat([clip.flatten(1) for clip in latents], 1).double()
    statistics = LatentStatistics.fit(iter(latents))
    assert statistics.mean == pytest.approx(together.mean(1).tolist())
    assert statistics.std == pytest.approx(together.std(1, correction=0).tolist())


def test_normalised_latents_are_centred_and_come_back():
    latents = clips()
    statistics = LatentStatistics.fit(latents)
    made = torch.cat([statistics.normalize(clip[None])[0].flatten(1) for clip in latents], 1)
    torch.testing.assert_close(made.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(made.square().mean(1), torch.ones(3), atol=1e-3, rtol=0)
    for clip in latents:
        back = statistics.denormalize(statistics.normalize(clip[None]))
        torch.testing.assert_close(back[0], clip, atol=1e-4, rtol=1e-5)


def test_a_channel_that_never_changes_can_still_be_divided_by():
    statistics = LatentStatistics.fit([torch.full((1, 8), 3.0)])
    assert statistics.mean == (3.0,)
    assert bool(statistics.normalize(torch.full((1, 1, 8), 3.0)).abs().max() < 1e-3)


def test_errors():
    with pytest.raises(ValueError, match="no latents"):
        LatentStatistics.fit([])
    with pytest.raises(ValueError, match="as many"):
        LatentStatistics((0.0, 1.0), (1.0,))
    with pytest.raises(ValueError, match="above 0"):
        LatentStatistics((0.0,), (0.0,))
    with pytest.raises(ValueError, match="latents of 3 channels; these statistics are of 1"):
        LatentStatistics((0.0,), (1.0,)).normalize(torch.zeros(1, 3, 4))


def test_lists_from_json_are_the_same_statistics():
    assert LatentStatistics([0.5], [2.0]) == LatentStatistics((0.5,), (2.0,))  # type: ignore[arg-type]
