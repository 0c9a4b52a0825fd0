"""Clips packed into one sequence come out as each does alone: forward, backward, guidance."""

from fractions import Fraction
from itertools import accumulate

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from avgen.clips.timebase import num_samples
from avgen.latents.context import Prefix, make_stream
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import concatenate, make_layout
from avgen.models.attention import Attention
from avgen.models.phonemes import TimedPhoneme
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig

SPOKEN = [TimedPhoneme("B", 0.0, 0.1), TimedPhoneme("AA", 0.1, 0.3)]
# sizes, aspect ratios, lengths and rates of a batch; the last but one has no sound
CLIPS = [
    (9, 32, 32, Fraction(25), True),
    (17, 32, 64, Fraction(30000, 1001), True),
    (5, 64, 32, Fraction(24), False),
    (13, 48, 32, Fraction(30), True),
]
CAPTIONS = ["a man", "a woman in a red coat beside a very long blue wall of old bricks", "", "a"]
SPEECH = [SPOKEN, [], SPOKEN * 9, SPOKEN]


def layout_of(num_frames, height, width, fps, has_sound):
    video = VideoGrid(num_frames, height, width, fps, (4, 16, 16), 3, 1)
    audio = AudioGrid(num_samples(num_frames, fps, 24000), 24000, 320, 2, 3)
    return make_layout(video, audio, has_sound)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = AVTransformer(AVTransformerConfig(token_width=6, width=32, depth=3, num_heads=2))
    for name, parameter in made.named_parameters():
        size = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
        with torch.no_grad():
            parameter.copy_(size * torch.randn(parameter.shape) + name.endswith("gain"))
    return made


@pytest.fixture
def clips():
    layouts = [layout_of(*clip) for clip in CLIPS]
    tokens = [torch.randn(1, layout.num_tokens, 6) * layout.used for layout in layouts]
    sigmas = [torch.rand(1, layout.num_tokens) for layout in layouts]
    return layouts, tokens, sigmas


def run_alone(model, clips, decoupled=False):
    return [
        model(token, sigma, model.prepare(layout, make_text([caption], [speech]), decoupled))
        for layout, token, sigma, caption, speech in zip(*clips, CAPTIONS, SPEECH, strict=True)
    ]


def run_packed(model, clips, decoupled=False):
    layouts, tokens, sigmas = clips
    text = make_text(CAPTIONS, SPEECH)
    packed = concatenate(layouts)
    context = model.prepare(packed, text, decoupled)
    made = model(torch.cat(tokens, 1), torch.cat(sigmas, 1), context)
    return made.split(packed.lengths, 1)


@pytest.mark.parametrize("decoupled", [False, True])
@torch.no_grad()
def test_packed_is_alone(model, clips, decoupled):
    for alone, packed in zip(
        run_alone(model, clips, decoupled), run_packed(model, clips, decoupled), strict=True
    ):
        torch.testing.assert_close(packed, alone, atol=2e-5, rtol=1e-4)
        assert float(alone.abs().max()) > 0.1


def test_gradients_of_packed_are_the_sum_of_those_alone(model, clips):
    gradients = []
    for run in (run_alone, run_packed):
        model.zero_grad()
        sum(made.square().sum() for made in run(model, clips)).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, alone in gradients[0].items():
        scale = float(alone.abs().max()) + 1e-6
        assert float((gradients[1][name] - alone).abs().max()) < 1e-4 * scale, name


def test_equal_clips_packed_are_a_batch(model, clips):
    layout, token, sigma = (part[1] for part in clips)
    tokens, sigmas = torch.cat([token, token.flip(1)]), torch.cat([sigma, sigma.flip(1)])
    text = make_text(["a man", "a"], [SPOKEN, []])
    with torch.no_grad():
        batched = model(tokens, sigmas, model.prepare(layout, text))
        packed = model.prepare(concatenate([layout, layout]), text)
        one = model(tokens.reshape(1, -1, 6), sigmas.reshape(1, -1), packed)
    torch.testing.assert_close(one.view_as(batched), batched, atol=2e-5, rtol=1e-4)


def test_memory_tricks_change_nothing(model, clips):
    with torch.no_grad():
        plain = torch.cat(run_packed(model, clips), 1)
    model.checkpoint_blocks = True
    again = torch.cat(run_packed(model.train(), clips), 1)
    model.checkpoint_blocks = False
    assert torch.equal(plain, again.detach())


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_packed_stream_attends_in_blocks(clips, decoupled):
    """Against attention over the whole stream with a dense mask of blocks."""
    packed, text = concatenate(clips[0]), make_text(CAPTIONS, SPEECH)
    seen = [text.caption_mask, text.speech_mask]
    prefixes = [
        Prefix(kind, mask, torch.zeros(mask.shape), torch.zeros(*mask.shape, 2))
        for kind, mask in zip((3, 2), seen, strict=True)
    ]
    segments = make_stream(packed, prefixes, decoupled).segments
    words = sum(mask.sum(1) for mask in seen)
    assert segments.lengths == tuple((words + torch.tensor(packed.lengths)).tolist())
    assert segments.ends.tolist() == [0, *accumulate(segments.lengths)]
    total = sum(segments.lengths)
    dense = torch.block_diag(*(torch.ones(n, n) for n in segments.lengths)).bool()
    if decoupled:
        kinds = torch.cat(
            [
                part
                for count, own in zip(words, packed.modality.split(packed.lengths), strict=True)
                for part in (torch.full((int(count),), -1), own)
            ]
        )
        dense &= (kinds[:, None] == kinds) | (kinds == -1)
    attention, stream = Attention(32, 2), torch.randn(total, 32)
    cos, sin = torch.ones(total, 8), torch.zeros(total, 8)
    with torch.no_grad():
        in_blocks = attention(stream, cos, sin, segments)
        query, key, value = rearrange(attention.inward(stream), "l (n k e) -> n k l e", n=3, k=2)
        query, key = (F.rms_norm(x, (16,), eps=1e-6) for x in (query, key))
        scores = (query @ key.mT / 4).masked_fill(~dense, -torch.inf).softmax(-1)
        by_hand = attention.outward(rearrange(scores @ value, "k l e -> l (k e)"))
    torch.testing.assert_close(in_blocks, by_hand, atol=1e-5, rtol=1e-4)


def test_attention_costs_the_sum_of_the_clips_squares(model):
    """Clips of 10 to 260 tokens: counted by torch, within 1 %; padded to the longest, 2.9 times."""
    sizes = [(5, 32, 32, 25), (9, 32, 32, 25), (33, 64, 64, 25), (13, 32, 64, 24), (5, 16, 32, 25)]
    layouts = [layout_of(n, h, w, Fraction(fps), True) for n, h, w, fps in sizes]
    packed = concatenate(layouts)
    context = model.prepare(packed, make_text(["a"] * 5, [SPOKEN] * 5))
    tokens, sigma = torch.randn(1, packed.num_tokens, 6), torch.rand(1, packed.num_tokens)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(tokens, sigma, context)
    attended = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
    squares = [(length + 3) ** 2 for length in packed.lengths]
    assert attended == pytest.approx(3 * 4 * 32 * sum(squares), rel=0.01)
    assert 5 * max(squares) > 2.5 * sum(squares)


def test_no_clip_sees_another(model, clips):
    layouts, tokens, sigmas = clips
    with torch.no_grad():
        before = run_packed(model, clips)
        changed = [*tokens[:3], tokens[3] + 1]
        after = run_packed(model, (layouts, changed, sigmas))
    assert all(torch.equal(a, b) for a, b in zip(before[:3], after[:3], strict=True))
    assert not torch.equal(before[3], after[3])


def test_packing_says_whose_each_token_is(clips):
    layouts, _, _ = clips
    packed = concatenate(layouts)
    expected = [i for i, layout in enumerate(layouts) for _ in range(layout.num_tokens)]
    assert packed.segment.tolist() == expected
    assert torch.equal(packed.spans[-1], layouts[-1].spans[-1])
    wider = make_layout(VideoGrid(1, 32, 32, Fraction(25), (4, 16, 16), 8, 1), layouts[0].audio)
    with pytest.raises(ValueError, match=r"widths \[6, 8\]"):
        concatenate([layouts[0], wider])
