"""The picture's codec: pieces equal the whole, any size comes back.

Residual blocks start as the identity, so every weight is drawn anew first: what a halo leaves out
then shows.
"""

from dataclasses import replace

import pytest
import torch

from avgen.codecs.base import VideoCodec
from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig, Flaws, fold, tiles, unfold

SMALL = ConvVideoCodecConfig(
    latent_channels=4,
    encoder_widths=(16, 16, 16),
    decoder_widths=(16, 16, 16),
    decoder_depths=(2, 1, 1),
    chunk_latents=64,
    tile_latents=64,
)


MOVING = replace(SMALL, mover_widths=(8, 16, 24))


@pytest.fixture(scope="module", params=[SMALL, MOVING], ids=["plain", "moving"])
def codec(request):
    model = ConvVideoCodec(request.param)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("gain"):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
        # keeps pixels inside [-1, 1]: a clamp would hide differences
        model.decoder.outward.weight.mul_(0.2)
        if model.mover is not None:
            for layer in (model.mover.paint, model.mover.frames.outward):
                layer.weight.mul_(0.2)
    return model.requires_grad_(False).eval()


def cut(codec, **sizes):
    """The same codec, working in smaller pieces."""
    other = ConvVideoCodec(replace(codec.config, **sizes))
    other.load_state_dict(codec.state_dict())
    return other.requires_grad_(False).eval()


def picture(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_it_is_what_a_video_codec_promises(codec):
    assert isinstance(codec, VideoCodec)
    assert codec.stride == (4, 16, 16)
    assert codec.latent_channels == 4


def test_a_picture_is_the_first_latent_of_its_clip(codec):
    video = picture(2, 3, 9, 32, 48)
    latents = codec.encode(video)
    assert latents.shape == (2, 4, 3, 2, 3)
    torch.testing.assert_close(codec.encode(video[:, :, :1]), latents[:, :, :1])


def test_a_latent_covers_its_own_frames_alone(codec):
    video = picture(1, 3, 9, 32, 32)
    latents = codec.encode(video)
    for frame, latent in ((0, 0), (1, 1), (4, 1), (5, 2), (8, 2)):
        other = video.clone()
        other[:, :, frame] *= -1
        change = (codec.encode(other) - latents).abs().amax((0, 1, 3, 4))
        assert (change > 1e-4).tolist() == [i == latent for i in range(3)]


def test_latents_have_unit_variance_over_their_channels(codec):
    latents = codec.encode(picture(1, 3, 5, 32, 32))
    torch.testing.assert_close(latents.mean(1), torch.zeros_like(latents[:, 0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        latents.square().mean(1), torch.ones_like(latents[:, 0]), atol=1e-3, rtol=0
    )


def test_encoding_in_chunks_is_encoding_whole(codec):
    video = picture(2, 3, 14, 32, 32)
    torch.testing.assert_close(
        cut(codec, chunk_latents=2).encode(video), codec.encode(video), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    "sizes", [{"chunk_latents": 2}, {"chunk_latents": 1}, {"chunk_latents": 3}]
)
def test_decoding_in_chunks_is_decoding_whole(codec, sizes):
    latents = torch.randn(2, 4, 13, 2, 2)
    clip = {"num_frames": 48, "height": 32, "width": 30}
    whole = codec.decode(latents, **clip)
    assert float((whole.abs() < 1).float().mean()) > 0.9
    assert float(whole.std()) > 0.05
    torch.testing.assert_close(
        cut(codec, **sizes, tile_latents=2).decode(latents, **clip), whole, atol=1e-4, rtol=0
    )


def test_of_a_small_picture_more_is_decoded_at_a_time(codec):
    """What is beside a chunk is decoded anew for each: 2 latents of a tile of 6 x 6 are 12 here."""
    latents = torch.randn(1, 4, 29, 2, 3)
    clip = {"num_frames": 113, "height": 32, "width": 48, "anchor": picture(1, 3, 32, 48)}
    parts = cut(codec, chunk_latents=2, tile_latents=6).decode_chunks(latents, **clip)
    assert [part.shape[2] for part in parts] == [45, 48, 20]
    large = {"num_frames": 13, "height": 112, "width": 96}
    parts = cut(codec, chunk_latents=2, tile_latents=6).decode_chunks(
        torch.randn(1, 4, 4, 7, 6), **large
    )
    assert [part.shape[2] for part in parts] == [5, 8]


def test_decoding_in_tiles_is_decoding_whole(codec):
    latents = torch.randn(1, 4, 3, 13, 13)
    clip = {"num_frames": 8, "height": 204, "width": 195}
    whole = codec.decode(latents, **clip)
    tiled = cut(codec, chunk_latents=2, tile_latents=4).decode(latents, **clip)
    assert tiled.shape == (1, 3, 8, 204, 195)
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


def test_the_decoder_does_mix_neighbours(codec):
    """Or the tests above would hold without any halo."""
    latents = torch.randn(1, 4, 6, 18, 2)
    clip = {"num_frames": 21, "height": 288, "width": 32}
    whole = codec.decode(latents, **clip)
    assert (
        float(
            (codec.decode(latents[:, :, :2], **{**clip, "num_frames": 5}) - whole[:, :, :5])
            .abs()
            .max()
        )
        > 1e-3
    )
    top = codec.decode(latents[:, :, :, :9], **{**clip, "height": 144})
    assert float((top - whole[:, :, :, :144]).abs().max()) > 1e-3


def test_no_latent_reaches_further_than_the_halo(codec):
    reach_t, reach = codec.halo_latents
    latents = torch.randn(1, 4, 2 * reach_t + 3, 2 * reach + 3, 1)
    clip = {"num_frames": 4 * (2 * reach_t + 2) + 1, "height": 16 * (2 * reach + 3), "width": 16}
    before = codec.decode(latents, **clip)
    other = latents.clone()
    other[:, :, reach_t + 1, reach + 1] += 1
    change = (codec.decode(other, **clip) - before).abs()
    rows, frames = change.amax((0, 1, 2, 4)), change.amax((0, 1, 3, 4))
    assert float(rows[:16].max()) == float(rows[-16:].max()) == 0
    assert float(frames[0]) == float(frames[-4:].max()) == 0
    assert float(frames[1:-4].min()) > 0  # in time every latent of the halo is needed


@pytest.mark.parametrize(
    ("num_frames", "height", "width"),
    [(1, 16, 16), (1, 17, 31), (2, 33, 16), (6, 50, 20), (10, 16, 40)],
)
def test_odd_sizes_and_lengths_come_back(codec, num_frames, height, width):
    video = picture(1, 3, num_frames, height, width)
    latents = codec.encode(video)
    assert latents.shape[2:] == (1 + -(-(num_frames - 1) // 4), -(-height // 16), -(-width // 16))
    first = video[:, :, 0]
    made = codec.decode(latents, num_frames=num_frames, height=height, width=width, anchor=first)
    assert made.shape == video.shape
    frames = codec(video, anchor=first).frames
    torch.testing.assert_close(frames.clamp(-1, 1), made, atol=1e-4, rtol=0)


def test_chunks_come_in_order_and_bounded(codec):
    latents = torch.randn(1, 4, 6, 1, 1)
    chunks = list(
        cut(codec, chunk_latents=2, tile_latents=1).decode_chunks(
            latents, num_frames=19, height=16, width=16
        )
    )
    assert [chunk.shape[2] for chunk in chunks] == [5, 8, 6]


def test_a_stretch_decodes_as_in_the_whole(codec):
    """And no later latent than `reach` beyond it is looked at."""
    latents = torch.randn(1, 4, 14, 1, 1)
    size = {"num_frames": 51, "height": 16, "width": 16}
    whole = codec.decode(latents, **size)
    seen = latents.clone()
    seen[:, :, 6 + codec.reach :] = torch.nan
    parts = list(
        cut(codec, chunk_latents=2, tile_latents=1).decode_chunks(seen, **size, start=3, stop=6)
    )
    assert [part.shape[2] for part in parts] == [8, 4]
    torch.testing.assert_close(torch.cat(parts, 2), whole[:, :, 9:21], atol=1e-5, rtol=0)
    last = torch.cat(list(codec.decode_chunks(latents, **size, start=12)), 2)
    torch.testing.assert_close(last, whole[:, :, 45:], atol=1e-5, rtol=0)


def test_latents_of_another_clip_are_an_error(codec):
    latents = torch.randn(1, 4, 3, 2, 2)
    for wrong in ({"num_frames": 10}, {"num_frames": 5}, {"height": 33}, {"width": 16}):
        with pytest.raises(ValueError, match="cannot be"):
            codec.decode(latents, **{"num_frames": 9, "height": 32, "width": 32, **wrong})


def test_unfold_mirrors_fold():
    video = picture(2, 3, 8, 16, 12)
    folded = fold(video)
    assert folded.shape == (2, 2, 192, 4, 3)
    assert torch.equal(unfold(folded.flatten(0, 1), 2), video)


def test_tiles_cover_once():
    found = list(tiles(10, 4, 2))
    assert found == [(0, 4, 0, 6), (4, 8, 2, 10), (8, 10, 6, 10)]


def test_a_mover_carries_the_first_picture_on(codec):
    """The given one, else what it makes of the first latent alone; one without looks at neither."""
    latents = torch.randn(1, 4, 14, 2, 2, generator=torch.Generator().manual_seed(7))
    size = {"num_frames": 53, "height": 32, "width": 30}
    first = picture(1, 3, 32, 30)
    whole, given = codec.decode(latents, **size), codec.decode(latents, **size, anchor=first)
    other = latents.clone()
    other[:, :, 0] += 1
    far = (codec.decode(other, **size, anchor=first) - given)[:, :, 40:].abs().max()
    if codec.mover is None:
        assert torch.equal(given, whole) and float(far) == 0
        return
    assert float((given - whole)[:, :, 40:].abs().max()) > 0.05
    assert float(far) > 0.01  # the first latent is looked at wherever one is decoded
    alone = unfold(codec.decoder(latents[:, :, 0], 1), 1)
    still = alone[:, :3, -1, :, :30].clamp(-1, 1)
    torch.testing.assert_close(codec.decode(latents, **size, anchor=still), whole)
    late = list(codec.decode_chunks(latents, **size, start=11, anchor=first))
    torch.testing.assert_close(torch.cat(late, 2), given[:, :, 41:], atol=1e-5, rtol=0)


def test_a_codec_with_a_new_mover_is_the_one_without():
    """All but what of the first picture its mask shows at first, a quarter."""
    torch.manual_seed(3)
    plain = ConvVideoCodec(SMALL)
    plain.decoder.outward.weight.data *= 0.2  # or a clamp would hide differences
    anchored = ConvVideoCodec(MOVING)
    anchored.load_state_dict(plain.state_dict(), strict=False)
    latents, first = torch.randn(1, 4, 3, 2, 2), picture(1, 3, 32, 32)
    size = {"num_frames": 9, "height": 32, "width": 32}
    share = float(torch.sigmoid(torch.tensor(-1.0)))
    expected = (1 - share) * plain.decode(latents, **size) + share * first[:, :, None]
    torch.testing.assert_close(anchored.decode(latents, **size, anchor=first), expected)


def test_training_moves_given_pictures_in_half_of_a_batch_and_its_own_in_the_other():
    torch.manual_seed(4)
    model = ConvVideoCodec(MOVING).requires_grad_(False)
    model.decoder.outward.weight.data *= 0.2
    video, first = picture(4, 3, 5, 32, 32), picture(5, 3, 32, 32)[1:]
    made = model(video, anchor=first)
    still = model.decode(
        model.encode(first[1::2, :, None]), num_frames=1, height=32, width=32,
        anchor=torch.zeros(2, 3, 32, 32),
    )  # fmt: skip
    still = still / (1 - torch.sigmoid(torch.tensor(-1.0)))  # of which the mask shows the rest
    assert made.flow.shape == (4, 2, 5, 32, 32) and not bool(made.flow.any())
    for row in range(4):
        source = first[row, :, None] if row % 2 == 0 else still[row // 2]
        torch.testing.assert_close(made.warped[row], source.expand(3, 5, 32, 32), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="first pictures"):
        model(video)


def test_drift_adds_another_persons_first_latent_to_all_but_the_anchor():
    """At most the share: with all first pictures alike, or a share of 0, nothing is added."""
    torch.manual_seed(4)
    model = ConvVideoCodec(MOVING).requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    video, first = picture(3, 3, 5, 32, 32), picture(4, 3, 32, 32)[1:]
    alike = first[:1].expand(3, 3, 32, 32)

    def frames(pictures, drift):
        return model(video, Flaws(drift=drift), torch.Generator().manual_seed(8), pictures)

    assert torch.equal(frames(alike, 0.9).frames, frames(alike, 0.0).frames)
    plain, drifted = frames(first, 0.0), frames(first, 0.9)
    assert float((plain.frames - drifted.frames).abs().amax((1, 2, 3, 4)).min()) > 1e-3


@pytest.fixture(scope="module")
def told():
    """A codec that is told two numbers of every frame's face."""
    torch.manual_seed(5)
    model = ConvVideoCodec(replace(MOVING, expression_scales=(2.0, 0.5)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.requires_grad_(False).eval()


def test_what_a_decoder_is_told(told):
    """Numbers over their scales, as they are and less the first frame's; of latent 0, one frame."""
    expressions = torch.arange(24.0).view(1, 3, 4, 2)
    heard = told.tell(expressions)
    assert heard.shape == (1, 3, 17)
    assert heard[0, 0].tolist() == [*[3, 14] * 4, *[0, 0] * 4, 1]
    own = [8, 34, 9, 38, 10, 42, 11, 46]
    assert heard[0, 2].tolist() == [*own, 5, 20, 6, 24, 7, 28, 8, 32, 1]
    of_window = told.tell(expressions, torch.tensor([[2.0, 3.0]]))
    assert of_window[0, 0].tolist() == [0, 2, 1, 6, 2, 10, 3, 14, -1, -4, 0, 0, 1, 4, 2, 8, 1]
    assert told.tell(None) is None
    assert ConvVideoCodec(MOVING).tell(expressions) is None
    with pytest.raises(ValueError, match="without mover_widths"):
        replace(SMALL, expression_scales=(1.0,))


def test_expressions_change_their_own_frames_alike_in_chunks_and_whole(told):
    latents = torch.randn(1, 4, 14, 2, 2, generator=torch.Generator().manual_seed(7))
    expressions = torch.randn(1, 14, 4, 2, generator=torch.Generator().manual_seed(8))
    size = {"num_frames": 53, "height": 32, "width": 30}
    plain, whole = (
        told.decode(latents, **size),
        told.decode(latents, **size, expressions=expressions),
    )
    assert float((plain - whole).abs().amax((0, 1, 3, 4)).min()) > 1e-3
    cut_up = cut(told, chunk_latents=2).decode(latents, **size, expressions=expressions)
    torch.testing.assert_close(cut_up, whole, atol=1e-4, rtol=0)
    other = expressions.clone()
    other[0, 7] += 1
    change = (told.decode(latents, **size, expressions=other) - whole).abs().amax((0, 1, 3, 4))
    reach = told.reach
    assert float(change[25:29].min()) > 1e-3  # latent 7 is of these frames
    assert float(change[: 25 - 4 * reach].max()) == float(change[29 + 4 * reach :].max()) == 0


def test_in_training_expressions_are_of_the_frames_that_a_latent_covers(told):
    """The forward pass is what is decoded of the same numbers, padded as frames are."""
    first = picture(3, 3, 32, 32)[1:]
    video = torch.cat([first[:, :, None], picture(2, 3, 6, 32, 32)], 2)
    track = torch.randn(2, 7, 2, generator=torch.Generator().manual_seed(9))
    made = told(video, anchor=first, expressions=(track, track[:, 0]))
    alone = unfold(told.decoder(told.encode(first[1:, :, None])[:, :, 0], 1), 1)
    carries = torch.stack([first[0], alone[0, :, -1].clamp(-1, 1)])
    padded = torch.cat([track[:, :1].expand(2, 3, 2), track, track[:, -1:].expand(2, 2, 2)], 1)
    size = {"num_frames": 7, "height": 32, "width": 32}
    again = told.decode(
        told.encode(video), **size, anchor=carries, expressions=padded.view(2, 3, 4, 2)
    )
    torch.testing.assert_close(made.frames.clamp(-1, 1), again, atol=1e-4, rtol=0)


def test_without_expressions_latents_are_decoded_alone(told):
    """By a codec that goes by them; whatever the first picture is."""
    latents = torch.randn(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(7))
    size = {"num_frames": 9, "height": 32, "width": 32}
    plain = ConvVideoCodec(SMALL)
    plain.load_state_dict({k: v for k, v in told.state_dict().items() if "mover" not in k})
    expected = plain.requires_grad_(False).decode(latents, **size)
    assert torch.equal(told.decode(latents, **size), expected)
    assert torch.equal(told.decode(latents, **size, anchor=picture(1, 3, 32, 32)), expected)


def test_flaws_of_expressions_are_of_their_own_size(told):
    """Noise on what is told is neither nothing nor all that telling changes."""
    video, first = picture(2, 3, 5, 32, 32), picture(3, 3, 32, 32)[1:]
    track = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(9))

    def frames(flaws, track):
        both = None if track is None else (track, track[:, 3])
        return told(video, flaws, torch.Generator().manual_seed(3), first, both).frames

    silent = frames(Flaws(), None)
    exact, noisy = frames(Flaws(), track), frames(Flaws(told=0.5), track)
    assert float((exact - silent).abs().mean()) > float((noisy - exact).abs().mean()) > 1e-4


def test_calm_takes_away_what_differs_from_the_first_latent(told):
    """Of a clip that stands still nothing; of another something in every clip."""
    video = picture(2, 3, 5, 32, 32)
    alike = video[:, :, :1].expand(2, 3, 5, 32, 32)

    def change(clip):
        first, calm = clip[:, :, 0], Flaws(calm=0.9)
        moved = told(clip, calm, torch.Generator().manual_seed(3), first).frames
        return (moved - told(clip, anchor=first).frames).abs().amax((1, 2, 3, 4))

    assert float(change(alike).max()) < 1e-5
    assert float(change(video).min()) > 1e-4
