"""The first picture moved: by whole and half pixels, blended as the mask says, past the border."""

import math

import pytest
import torch

from avgen.codecs.warp import SHY, STEP, blend, warp


def picture():
    return torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_a_flow_says_from_where_a_pixel_comes():
    """3 across and -2 down: what is shown at row 5, column 4 was at row 3, column 7."""
    flow = torch.tensor([3.0, -2.0], dtype=torch.float64).view(1, 2, 1, 1).expand(2, 2, 8, 12)
    seen, first = warp(picture(), flow), picture()
    torch.testing.assert_close(seen[:, :, 5, 4], first[:, :, 3, 7])
    torch.testing.assert_close(seen[:, :, 2:, :-3], first[:, :, :-2, 3:])
    torch.testing.assert_close(seen[:, :, 0, -1], first[:, :, 0, -1])  # beyond is the border


def test_half_a_pixel_is_between_two():
    flow = torch.tensor([0.5, 0.0], dtype=torch.float64).view(1, 2, 1, 1).expand(2, 2, 8, 12)
    first = picture()
    torch.testing.assert_close(warp(first, flow)[..., 3], (first[..., 3] + first[..., 4]) / 2)


def test_frames_are_the_decoders_pixels_and_the_first_picture_warp():
    """Of each clip its own, each frame by its own flow, a quarter of what was moved."""
    first = picture().float()
    made = torch.randn(2, 6, 3, 8, 12, generator=torch.Generator().manual_seed(6))
    made[:, 4:] = 0
    made[1, 4, 2] = 2 / STEP  # of the second clip's last frame, two pixels across
    made[:, 3] = SHY - math.log(3)
    shown, alone, flow, mask = blend(made, first)
    torch.testing.assert_close(mask, torch.full((2, 1, 3, 8, 12), 0.25))
    assert flow.shape == (2, 2, 3, 8, 12)
    assert float(flow[1, 0, 2].min()) == float(flow[1, 0, 2].max()) == pytest.approx(2)
    assert not bool(flow[0].any()) and not bool(flow[:, 1].any())
    expected = first[:, :, None].expand(2, 3, 3, 8, 12).clone()
    expected[1, :, 2, :, :-2] = first[1, :, :, 2:]
    expected[1, :, 2, :, -2:] = first[1, :, :, -1:]
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(shown, 0.75 * made[:, :3] + 0.25 * expected, atol=1e-5, rtol=0)
