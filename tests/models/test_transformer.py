"""The transformer: what it may see, what it is made of, and that memory tricks change nothing."""

import copy
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch._dynamo.utils import counters

from avgen.clips.timebase import num_samples
from avgen.latents.context import NoiseLevels, distinct_levels
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, make_layout
from avgen.models.phonemes import TimedPhoneme
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig


def run(model, tokens, sigma, layout, text, decoupled=False):
    return model(tokens, sigma, model.prepare(layout, text, decoupled))


SPOKEN = [TimedPhoneme("B", 0.0, 0.1), TimedPhoneme("AA", 0.1, 0.3)]


def make_small_layout(num_frames=9, fps=Fraction(25)):
    video = VideoGrid(num_frames, 32, 32, fps, (4, 16, 16), 3, 1)
    return make_layout(video, AudioGrid(num_samples(num_frames, fps, 24000), 24000, 320, 2, 3))


def randomize(module):
    """Every weight random: at its own start the model answers 0, which would prove nothing."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        size = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
        with torch.no_grad():
            parameter.copy_(
                size * torch.randn(parameter.shape, generator=generator) + name.endswith("gain")
            )
    return module


@pytest.fixture(scope="module")
def model():
    config = AVTransformerConfig(token_width=6, width=32, depth=3, num_heads=2)
    return randomize(AVTransformer(config)).requires_grad_(False).eval()


@pytest.fixture
def inputs():
    layout = make_small_layout()
    tokens = torch.randn(2, layout.num_tokens, 6) * layout.used
    return tokens, torch.rand(2, layout.num_tokens), layout


def test_a_new_model_answers_zero(inputs):
    fresh = AVTransformer(AVTransformerConfig(token_width=6, width=32, depth=2, num_heads=2))
    with torch.no_grad():
        made = run(fresh, *inputs, make_text(["a man"] * 2, [SPOKEN] * 2))
    assert made.shape == inputs[0].shape
    assert not bool(made.any())


def test_a_token_is_no_wider_than_its_modality(model, inputs):
    tokens, sigma, layout = inputs
    made = run(model, tokens, sigma, layout, make_text([""] * 2, [[]] * 2))
    assert bool((made[:, ~layout.used] == 0).all())
    assert float(made[:, layout.used].abs().min()) > 0


def test_masked_text_is_invisible(model, inputs):
    text = make_text(["a man", "a"], [SPOKEN, []])
    other = replace(
        text,
        caption_ids=torch.where(text.caption_mask, text.caption_ids, 77),
        speech_ids=torch.where(text.speech_mask, text.speech_ids, 5),
        speech_spans=torch.where(text.speech_mask[..., None], text.speech_spans, 1.5),
    )
    torch.testing.assert_close(
        run(model, *inputs, text), run(model, *inputs, other), atol=0, rtol=0
    )
    hidden = text.drop(torch.tensor([True, True]), torch.tensor([True, True]))
    nothing = make_text(["", ""], [[], []])
    torch.testing.assert_close(run(model, *inputs, hidden), run(model, *inputs, nothing))
    assert float((run(model, *inputs, hidden) - run(model, *inputs, text)).abs().max()) > 1e-3


def test_padding_changes_nothing(model, inputs):
    """A clip beside one with far more words comes out as it does alone."""
    tokens, sigma, layout = inputs
    many = [TimedPhoneme("T", 0.01 * i, 0.01 * (i + 1)) for i in range(30)]
    together = run(model, tokens, sigma, layout, make_text(["a man", "word " * 20], [SPOKEN, many]))
    alone = run(model, tokens[:1], sigma[:1], layout, make_text(["a man"], [SPOKEN]))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-4)


def test_words_and_their_times_and_order_matter(model, inputs):
    one = [value[:1] for value in inputs[:2]] + [inputs[2]]
    here = run(model, *one, make_text(["a man"], [SPOKEN]))
    later = [replace(p, start_s=p.start_s + 0.05, end_s=p.end_s + 0.05) for p in SPOKEN]
    for text in (
        make_text(["man a"], [SPOKEN]),
        make_text(["a man"], [later]),
        make_text(["a man"], [SPOKEN[:1]]),
    ):
        assert float((run(model, *one, text) - here).abs().max()) > 1e-4


def test_a_context_serves_every_step_and_counted_levels_are_the_same(model, inputs):
    """Whoever counts the levels: per token, per distinct level, or given."""
    tokens, _, layout = inputs
    context = model.prepare(layout, make_text(["a man", "a"], [SPOKEN, []]))
    for levels in ((0.9, 0.4), (0.25, 0.7)):
        sigma = torch.tensor(levels)[layout.modality].repeat(2, 1)
        sigma[1, :7] = 0.0
        few = distinct_levels(sigma, layout.modality)
        assert len(few.values) == 4  # both modalities at 0 and at their own
        each = NoiseLevels(
            sigma.flatten(),
            layout.modality.repeat(2),
            torch.arange(sigma.numel()).view_as(sigma),
        )
        made = model(tokens, sigma, context)
        assert torch.equal(model(tokens, few, context), made)
        torch.testing.assert_close(model(tokens, each, context), made, atol=1e-6, rtol=1e-6)


def test_a_student_starts_as_its_teacher_and_hears_of_its_steps(model, inputs):
    tokens, _, layout = inputs
    student = AVTransformer(replace(model.config, distilled=True)).requires_grad_(False).eval()
    missing, extra = student.load_state_dict(model.state_dict(), strict=False)
    assert missing and all(name.startswith("step.") for name in missing) and not extra
    context = model.prepare(layout, make_text(["a man", "a"], [SPOKEN, []]))
    sigma = torch.tensor([0.9, 0.4])[layout.modality].repeat(2, 1)
    sigma[1, :7] = 0.0
    told = torch.stack([0.6 * sigma, torch.full_like(sigma, 2.5)], -1)
    levels = distinct_levels(sigma, layout.modality, told)
    assert len(levels.values) == 4
    assert torch.equal(levels.told[levels.index], told)
    assert torch.equal(levels.values[levels.index], sigma)
    assert torch.equal(levels.kinds[levels.index], layout.modality.repeat(2, 1))
    taught = model(tokens, sigma, context)
    torch.testing.assert_close(student(tokens, levels, context), taught, atol=1e-6, rtol=1e-6)
    for part in (student.step.length, student.step.scale):
        randomize(part)
        heard = student(tokens, levels, context)
        assert float((heard - taught).abs().max()) > 1e-4
        taught = heard


def test_noise_levels_are_each_tokens_own(model, inputs):
    tokens, sigma, layout = inputs
    text = make_text([""] * 2, [[]] * 2)
    other = sigma.clone()
    other[:, 5] = 0.0
    change = (
        (run(model, tokens, other, layout, text) - run(model, tokens, sigma, layout, text))
        .abs()
        .amax((0, 2))
    )
    assert int(change.argmax()) == 5


@pytest.mark.parametrize("changed", [VIDEO, AUDIO])
def test_decoupled_modalities_do_not_see_each_other(model, inputs, changed):
    """Not even through the words, which could carry from one to the other in two blocks."""
    tokens, sigma, layout = inputs
    text = make_text(["a man"] * 2, [SPOKEN] * 2)
    own = layout.modality == changed
    noise = torch.randn_like(tokens) * own[:, None] * layout.used
    for decoupled in (False, True):
        before = run(model, tokens, sigma, layout, text, decoupled)
        change = (run(model, tokens + noise, sigma, layout, text, decoupled) - before).abs()
        assert float(change[:, own].max()) > 1e-3
        if decoupled:
            assert float(change[:, ~own].max()) == 0
        else:
            assert float(change[:, ~own].max()) > 1e-4


def test_any_rate_and_size_is_only_other_places(model):
    """Weights know no frame rate: the same tokens at the same seconds give the same answer."""
    slow, fast = make_small_layout(9, Fraction(25)), make_small_layout(9, Fraction(50))
    tokens, sigma = torch.randn(1, slow.num_tokens, 6) * slow.used, torch.rand(1, slow.num_tokens)
    text = make_text([""], [[]])
    stretched = replace(slow, spans=slow.spans * 2)
    assert (
        fast.num_tokens < slow.num_tokens
    )  # the same frames last half as long, so there is less sound
    change = run(model, tokens, sigma, stretched, text) - run(model, tokens, sigma, slow, text)
    assert float(change.abs().max()) > 1e-4
    shifted = replace(slow, spans=slow.spans + 7.0)
    torch.testing.assert_close(
        run(model, tokens, sigma, shifted, text),
        run(model, tokens, sigma, slow, text),
        atol=1e-4,
        rtol=1e-3,
    )


@pytest.mark.parametrize("half", [False, True])
def test_checkpointing_changes_no_gradient(inputs, half):
    """In float32, and in bfloat16, where attention is trained by products."""
    tokens, sigma, layout = inputs
    text = make_text(["a man"] * 2, [SPOKEN] * 2)
    gradients = []
    for checkpointed in (False, True):
        model = randomize(AVTransformer(AVTransformerConfig(6, 32, 2, 2))).train()
        model.checkpoint_blocks = checkpointed
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            made = run(model, tokens, sigma, layout, text)
        made.square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(gradients[0][name], grad) for name, grad in gradients[1].items())
    assert all(float(grad.abs().max()) > 0 for name, grad in gradients[1].items())


def parameters(token_width, width, depth, num_heads):
    """Closed form of the number of weights."""
    ends = 2 * (token_width * width + width) + 2 * (width * token_width + token_width)
    words = 512 * width + 39 * width + 3 * width
    levels = 65 * width + (width + 1) * width + (width + 1) * 6 * width + (width + 1) * 2 * width
    block = 4 * width**2 + 2 * (width // num_heads) + 8 * width**2 + 24 * width
    return ends + words + levels + depth * block


@pytest.mark.parametrize(
    ("sizes", "at_least"),
    [((96, 96, 8, 3), 1e6), ((96, 320, 8, 5), 10e6), ((512, 4096, 40, 32), 8e9)],
)
def test_sizes_from_a_million_to_eight_gpus(sizes, at_least):
    layout = make_small_layout()
    with torch.device("meta"):
        model = AVTransformer(AVTransformerConfig(*sizes))
        tokens = torch.zeros(1, layout.num_tokens, sizes[0])
        sigma = torch.zeros(1, layout.num_tokens)
    count = sum(p.numel() for p in model.parameters())
    assert count == parameters(*sizes)
    assert at_least <= count < 1.5 * at_least
    wide = replace(layout, video=replace(layout.video, channels=sizes[0]))
    text = make_text(["a man"], [SPOKEN])
    layout = wide.to("meta")
    levels = NoiseLevels(sigma[0, :1], layout.modality[:1], sigma.long())
    made = model(tokens, levels, model.prepare(layout, text))
    assert made.shape == tokens.shape


def test_heads_that_do_not_fit_are_an_error():
    for width, heads in ((30, 4), (36, 3)):
        with pytest.raises(ValueError, match=f"width {width} over {heads} heads"):
            AVTransformerConfig(6, width, 1, heads)


@pytest.mark.parametrize("half", [False, True])
def test_a_compiled_step_is_the_plain_one(half):
    """Velocity and gradients of clips of two lengths; blocks share what is compiled. What torch
    generates from the graphs is its own: inductor takes a minute and a half here. In bfloat16
    attention is trained by products, which would be compiled anew for every set of lengths."""
    close = {"atol": 1e-2, "rtol": 0.1} if half else {"atol": 1e-5, "rtol": 1e-3}
    plain = randomize(
        AVTransformer(AVTransformerConfig(token_width=6, width=32, depth=3, num_heads=2))
    )
    compiled = copy.deepcopy(plain)
    counters.clear()
    compiled.compile_blocks("aot_eager")
    graphs = []
    for num_frames in (9, 21):
        layout = make_small_layout(num_frames)
        tokens = torch.randn(2, layout.num_tokens, 6) * layout.used
        sigma = torch.where(layout.modality == VIDEO, 0.7, 0.3).expand(2, -1)
        made = []
        for network in (plain, compiled):
            network.zero_grad()
            text = make_text(["a man"] * 2, [SPOKEN] * 2)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                made.append(run(network, tokens, sigma, layout, text))
            made[-1].square().mean().backward()
        torch.testing.assert_close(*made, **close)
        for (name, one), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
            if one.grad is not None:
                torch.testing.assert_close(other.grad, one.grad, msg=name, **close)
        graphs.append(counters["stats"]["unique_graphs"])
    assert 1 <= graphs[0] <= 8  # of one block: before and after attention, which is not compiled
    assert graphs[1] <= 2 * graphs[0]  # once more, for any length
    torch._dynamo.reset()  # or its tensors without memory outlive the test
