"""What is made when the network's answers are known: guidance, samplers, shifts, statistics.

The network here knows three clips: what is asked for, what is pushed away from, and what it would
make if picture and sound did not see each other. Its velocity leads straight to one of them, so the
latents that come out are sums of the three with the scales as weights.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from avgen.codecs.normalize import LatentStatistics
from avgen.latents.packing import AUDIO, VIDEO
from avgen.models.text import make_text
from avgen.pipeline import AVPipeline, GenerateRequest
from avgen.pipeline.continuation import windows

ASKED, AVOIDED, APART = range(3)


@dataclass(frozen=True)
class Known:
    distilled: bool = False
    has_references: bool = False
    has_sound: bool = True
    num_expressions: int = 0


class KnownNetwork(nn.Module):
    """Clean tokens are a level for each clip and modality; it keeps what it was told."""

    levels = torch.tensor([[2.0, -1.0], [0.5, 0.75], [3.0, 1.5]])  # of clip, of modality

    def __init__(self, distilled: bool = False) -> None:
        super().__init__()
        self.config = Known(distilled)
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[Any] = []
        self.noisy: list[torch.Tensor] = []
        self.layout: Any = None

    def read(self, captions, speech):
        return make_text(captions, speech)

    def prepare(self, layout, text, decoupled=False, reference=None):
        assert len(text.caption_ids) == 1 or not decoupled
        self.layout = layout
        return layout, [APART] if decoupled else [ASKED, AVOIDED][: len(text.caption_ids)]

    def forward(self, tokens, sigma, context):
        layout, clips = context
        assert len(tokens) == len(clips)
        self.noisy.append(tokens)
        if self.config.distilled:
            length, scale = sigma.told[sigma.index][0].T
            sigma = sigma.values[sigma.index]
            self.calls.append((sigma[0], length, scale))
        else:
            assert sigma.shape == tokens.shape[:2]
            self.calls.append((sigma[0], clips))
        clean = self.levels[clips][:, layout.modality][..., None]
        return (
            torch.where(sigma > 0, 1, 0)[..., None]
            * (tokens - clean)
            / sigma.clamp_min(1e-6)[..., None]
        )


@pytest.fixture
def known(tiny_model):
    def make(distilled: bool = False, **settings: Any) -> AVPipeline:
        pipe = AVPipeline.from_pretrained(tiny_model)
        statistics = (
            LatentStatistics((0.5, -2.0, 1.0, 3.0), (0.5, 2.0, 1.5, 0.7)),
            LatentStatistics((1.0, 0.3, -0.7, 0.2), (3.0, 0.4, 1.1, 2.5)),
        )
        config = replace(
            pipe.config,
            video_statistics=statistics[0],
            audio_statistics=statistics[1],
            **{"num_inference_steps": 4, "shift": 2.0, **settings},
        )
        network: Any = KnownNetwork(distilled)
        return AVPipeline(network, pipe.video_codec, pipe.audio_codec, config)

    return make


def made(pipe: AVPipeline, **fields: Any) -> tuple[torch.Tensor, torch.Tensor]:
    conditions = pipe.conditions(GenerateRequest(speech="place red", **fields))
    window = next(windows(conditions, pipe.video_codec, pipe.audio_codec))
    with torch.inference_mode():
        return pipe.make_window(conditions, window, None, False)[:2]


def check(latents: tuple[torch.Tensor, torch.Tensor], video: float, audio: float) -> None:
    for part, level in zip(latents, (video, audio), strict=True):
        assert torch.allclose(part, torch.tensor(float(level)), atol=1e-4)


@pytest.mark.parametrize("sampler", ["euler", "heun", "ab2", "renoise"])
def test_guidance_of_each_modality_is_its_own(known, sampler):
    """2 + 1.5 (2 - 0.5) and -1 + 0.25 (-1 - 0.75)."""
    pipe = known(sampler=sampler)
    check(made(pipe, guidance_scale=2.5, audio_guidance_scale=1.25), 4.25, -1.4375)
    assert all(clips == [ASKED, AVOIDED] for _, clips in pipe.transformer.calls)
    assert len(pipe.transformer.calls) == (7 if sampler == "heun" else 4)


def test_renoising_takes_new_noise_of_the_same_seed_and_temperature(known):
    """The second step, at 0.75, begins with a quarter of what was expected, the rest new noise."""
    pipe = known(sampler="renoise", temperature=0.7, shift=1.0)
    made(pipe, guidance_scale=1.0, audio_guidance_scale=1.0, seed=19)
    seed = int(np.random.SeedSequence((19, 0)).generate_state(1, np.uint64)[0] >> 1)
    generator, layout = torch.Generator().manual_seed(seed), pipe.transformer.layout
    first, second = (
        torch.randn(1, *layout.used.shape, generator=generator) * layout.used for _ in range(2)
    )
    assert torch.allclose(pipe.transformer.noisy[0], 0.7 * first)
    clean = KnownNetwork.levels[ASKED][layout.modality][:, None] * torch.ones(1, *layout.used.shape)
    expected = 0.25 * clean + 0.75 * 0.7 * second
    assert torch.allclose(pipe.transformer.noisy[1], expected, atol=1e-5)


def test_sound_that_runs_ahead_is_told_to_be_earlier_than_it_is(known):
    """And nothing else of the layout is another."""
    pipe = known(sound_delay_s=0.03)
    conditions = pipe.conditions(GenerateRequest(speech="place red"))
    window = next(windows(conditions, pipe.video_codec, pipe.audio_codec))
    made(pipe)
    layout, told = pipe.layout(conditions, window), pipe.transformer.layout
    is_sound = layout.modality == AUDIO
    assert torch.equal(told.spans[~is_sound], layout.spans[~is_sound])
    assert torch.allclose(told.spans[is_sound], layout.spans[is_sound] - 0.03)
    assert torch.equal(told.order, layout.order)
    made(pipe, audio=(np.full((1, 17_280), 0.1, np.float32), 24_000), num_frames=18)
    assert torch.equal(pipe.transformer.layout.spans, layout.spans)


def test_scales_of_one_ask_for_one_row(known):
    pipe = known()
    check(made(pipe, guidance_scale=1.0, audio_guidance_scale=1), 2, -1)
    assert all(clips == [ASKED] for _, clips in pipe.transformer.calls)
    check(made(pipe, guidance_scale=1.0, audio_guidance_scale=3.0), 2, -4.5)


def test_steps_lie_where_the_shifts_put_them(known):
    """s t / (1 + (s - 1) t) of 1, 3/4, 1/2, 1/4."""
    pipe = known(guidance_scale=1.0, audio_guidance_scale=1.0)
    conditions = pipe.conditions(GenerateRequest(speech="red"))
    layout = pipe.layout(conditions, next(windows(conditions, pipe.video_codec, pipe.audio_codec)))
    is_video = layout.modality == VIDEO

    def steps() -> list[list[float]]:
        calls, pipe.transformer.calls = pipe.transformer.calls, []
        for sigma, _ in calls:
            assert sigma[is_video].unique().numel() == sigma[~is_video].unique().numel() == 1
        return [[float(s[own][0]) for s, _ in calls] for own in (is_video, ~is_video)]

    made(pipe)
    assert steps() == [pytest.approx([1, 6 / 7, 2 / 3, 0.4])] * 2
    made(pipe, shift=1.0, audio_shift=3.0)
    assert steps() == [pytest.approx([1, 0.75, 0.5, 0.25]), pytest.approx([1, 0.9, 0.75, 0.5])]


def test_guidance_in_an_interval_costs_a_row_there_alone(known):
    """Levels 1, 6/7, 2/3, 0.4: the last step decides where the straight way ends."""
    pipe = known(sampler="euler")
    check(made(pipe, guidance_scale=2.0, guidance_interval=(0.5, 0.9)), 2, -1)
    assert [len(clips) for _, clips in pipe.transformer.calls] == [1, 2, 2, 1]
    check(made(pipe, guidance_scale=2.0, guidance_interval=(0.0, 0.5)), 3.5, -1.875)


def test_synchrony_pushes_away_from_what_each_would_be_alone(known):
    """2 + 0.5 (2 - 0.5) - 2 (2 - 3) ..., the scale of 2 being that of the difference."""
    pipe = known()
    check(
        made(pipe, guidance_scale=1.5, audio_guidance_scale=1.0, synchrony_scale=2.0),
        2.75 + 2 * (2 - 3),
        -1 + 2 * (-1 - 1.5),
    )
    assert [clips for _, clips in pipe.transformer.calls[:2]] == [[ASKED, AVOIDED], [APART]]


def test_rescaling_keeps_the_spread_of_what_is_made(known, monkeypatch):
    """Guided latents have the spread of unguided ones again, each modality its own."""
    pattern = torch.tensor([1.0, -1.0, 0.5, 2.0]).repeat(4)

    class Patterned(KnownNetwork):
        def forward(self, tokens, sigma, context):
            layout, clips = context
            clean = self.levels[clips][:, layout.modality][..., None] * pattern * layout.used
            return (tokens - clean) / sigma[..., None]

    pipe = known()
    pipe.transformer = Patterned()
    plain = made(pipe, guidance_scale=1.0, audio_guidance_scale=1.0)
    strong = made(pipe, guidance_scale=3.0, audio_guidance_scale=2.0)
    kept = made(pipe, guidance_scale=3.0, audio_guidance_scale=2.0, guidance_rescale=1.0)
    half = made(pipe, guidance_scale=3.0, audio_guidance_scale=2.0, guidance_rescale=0.5)
    for one, more, like, between in zip(plain, strong, kept, half, strict=True):
        assert more.std().item() > 1.5 * one.std().item()
        assert torch.allclose(like.abs(), one.abs(), atol=1e-4)
        assert torch.allclose(between, (more + like) / 2, atol=1e-4)


def test_guidance_is_limited_at_its_first_step_for_all(known):
    """Pulls of 4 (2 - 0.5) and 1.5 (-1 - 0.75) at sigma 1, over the numbers that are used.

    They fade with sigma, and what was settled at the first step stays: at the last, 0.4.
    """

    class Fading(KnownNetwork):
        def forward(self, tokens, sigma, context):
            layout, _ = context
            asked, avoided = self.levels[[ASKED, AVOIDED]][:, layout.modality][..., None]
            clean = torch.stack([asked, asked - (asked - avoided) * sigma[1][:, None]])
            return (tokens - clean) / sigma[..., None]

    pipe = known(guidance_limit=0.9, shift=2.0, sampler="euler")
    pipe.transformer = Fading()
    found = made(pipe, guidance_scale=5.0, audio_guidance_scale=2.5)
    conditions = pipe.conditions(GenerateRequest(speech="place red"))
    layout = pipe.layout(conditions, next(windows(conditions, pipe.video_codec, pipe.audio_codec)))
    used = layout.used.sum(1)
    squares = torch.where(layout.modality == AUDIO, (1.5 * 1.75) ** 2, (4 * 1.5) ** 2) * used
    share = 0.9 / (squares.sum() / used.sum()).sqrt().item()
    assert 0.1 < share < 0.5
    check(found, 2 + 0.4 * share * 6, -1 - 0.4 * share * 2.625)
    check(made(known(guidance_limit=9.0), guidance_scale=5.0, audio_guidance_scale=1.0), 8, -1)


def test_given_tokens_are_not_moved_by_any_of_it(known):
    import numpy as np

    image = np.full((32, 48, 3), 140, np.uint8)
    pipe = known()
    guided = {"guidance_scale": 3.0, "guidance_rescale": 0.7, "synchrony_scale": 1.0}
    first = made(pipe, image=image, **guided)[0][:, :, 0]
    with torch.inference_mode():
        assert torch.equal(first, pipe.encode_video(image[None])[:, :, 0])


def test_latents_are_denormalised_before_they_are_decoded(known):
    pipe = known(guidance_scale=1.0, audio_guidance_scale=1.0)
    clip = pipe(speech="place red", progress=False)
    video, audio = (
        statistics.denormalize(torch.full(shape, level))
        for statistics, shape, level in (
            (pipe.config.video_statistics, (1, 4, 3, 2, 3), 2.0),
            (pipe.config.audio_statistics, (1, 4, 27), -1.0),
        )
    )
    with torch.inference_mode():
        pixels = pipe.video_codec.decode(video, num_frames=9, height=32, width=48)
        sound = pipe.audio_codec.decode(audio, num_samples=8640)
    shown = torch.from_numpy(clip.frames).movedim(-1, 0).float()
    assert (shown - (pixels[0] + 1) * 127.5).abs().max().item() < 0.51
    assert torch.allclose(torch.from_numpy(clip.waveform), sound[0].clamp(-1, 1), atol=1e-4)


def test_a_distilled_network_is_told_of_its_steps(known):
    """Levels 1, 2/3, 0 of shift 2: steps of 1/3 and 2/3, and the scale of each modality."""
    pipe = known(True, sampler="mean", num_inference_steps=2)
    check(made(pipe, guidance_scale=2.5, audio_guidance_scale=1.25), 2, -1)
    conditions = pipe.conditions(GenerateRequest(speech="red"))
    layout = pipe.layout(conditions, next(windows(conditions, pipe.video_codec, pipe.audio_codec)))
    assert len(pipe.transformer.calls) == 2
    for call, sigma, length in zip(
        pipe.transformer.calls, (1.0, 2 / 3), (1 / 3, 2 / 3), strict=True
    ):
        assert torch.allclose(call[0], torch.tensor(sigma))
        assert torch.allclose(call[1], torch.tensor(length))
        assert torch.equal(call[2], torch.tensor([2.5, 1.25])[layout.modality])
    pipe.transformer.calls = []
    made(pipe, sampler="euler", num_inference_steps=3)  # of instants, which it knows as well
    assert all((length == 0).all() for _, length, _ in pipe.transformer.calls)


@pytest.mark.parametrize(
    ("distilled", "fields", "message"),
    [
        (False, {"sampler": "mean"}, "sampler is mean; this model was not distilled"),
        (True, {"negative_prompt": "a cat"}, "negative_prompt"),
        (True, {"synchrony_scale": 1.0}, "synchrony_scale"),
        (True, {"guidance_rescale": 0.5}, "guidance_rescale"),
    ],
)
def test_what_a_network_cannot_do_is_refused(known, distilled, fields, message):
    pipe = known(distilled)
    with pytest.raises(ValueError, match=message):
        pipe.conditions(GenerateRequest(speech="red", **fields))


def test_audio_shift_alone(known):
    assert AUDIO == 1
    pipe = known(guidance_scale=1.0, audio_guidance_scale=1.0, audio_shift=5.0, shift=1.0)
    made(pipe)
    second = pipe.transformer.calls[1][0]
    assert sorted({round(float(level), 4) for level in second}) == [0.75, round(15 / 16, 4)]


def test_expressions_are_of_the_last_step_and_guided_as_the_picture(known):
    """3 for what is asked, 1 for what is avoided: 1 + 2.5 * 2; without guidance what is asked."""

    class Telling(KnownNetwork):
        def forward(self, tokens, sigma, context, with_expressions=False):
            made = super().forward(tokens, sigma, context)
            assert with_expressions
            step = float(sigma.max())
            told = [{ASKED: 3.0, AVOIDED: 1.0}[clip] + step for clip in context[1]]
            return made, torch.tensor(told)[:, None, None, None].expand(-1, 3, 4, 2)

    def expressions(**settings):
        pipe = known(**settings)
        network: Any = Telling()
        network.config = Known(num_expressions=2)
        pipe.transformer = network
        conditions = pipe.conditions(GenerateRequest(speech="place red", seconds=0.36))
        window = next(windows(conditions, pipe.video_codec, pipe.audio_codec))
        made = pipe.make_window(conditions, window, None, False)[2]
        last = float(network.calls[-1][0].max())
        return made.shape, float(made.min()) - last, float(made.max()) - last

    shape, least, most = expressions(guidance_scale=2.5)
    assert shape == (1, 3, 4, 2) and least == pytest.approx(6) == pytest.approx(most)
    _, least, most = expressions(guidance_scale=1.0, audio_guidance_scale=1.0)
    assert least == pytest.approx(3) == pytest.approx(most)
