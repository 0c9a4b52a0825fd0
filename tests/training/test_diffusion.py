"""What a training step draws, hides and weighs."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from safetensors.torch import load_file

from avgen.clips.timed_words import Word
from avgen.diffusion.schedules import IndependentSigma, LogitNormal
from avgen.errors import UserError
from avgen.latents.conditioning import Tasks
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, make_layout, unpack
from avgen.training.batches import Buckets
from avgen.training.data import ClipData
from avgen.training.optimization import OptimizerConfig, configure
from avgen.training.sample import LossWeights, TextDrops, overlap
from avgen.training.system import DiffusionSystem, NetworkConfig

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


@pytest.fixture
def make_system(prepared_latents):
    def make(drops=TextDrops(), tasks=None, seed=0):  # noqa: B008 - frozen
        torch.manual_seed(0)
        return DiffusionSystem(
            prepared_latents,
            NetworkConfig(width=32, depth=1, num_heads=2),
            OptimizerConfig(0.01, 1, 100),
            IndependentSigma(LogitNormal(0.0, 1.0, 0.2), {"video": 1.0, "audio": 1.0}),
            Tasks() if tasks is None else tasks,
            drops,
            LossWeights(),
            seed,
        )

    return make


@pytest.fixture
def batch(prepared_latents):
    return next(iter(ClipData(prepared_latents, Buckets(8, [0.36])).train_dataloader()))


def test_a_batch_is_of_its_records(prepared_latents, batch):
    assert sorted(record.id for record in batch["records"]) == [f"c{i}" for i in range(8)]
    assert sorted(batch["draws"]) == list(range(8))
    for clip in batch["clips"]:
        whole = load_file(prepared_latents / "latents" / f"{clip.record.id}.safetensors")
        assert torch.equal(clip.video, whole["video"])
        assert torch.equal(clip.audio, whole["audio"])


def test_latents_are_cut_to_the_length_of_training(prepared_latents):
    (batch,) = ClipData(prepared_latents, Buckets(8, [0.2])).train_dataloader()
    for clip in batch["clips"]:
        whole = load_file(prepared_latents / "latents" / f"{clip.record.id}.safetensors")
        assert torch.equal(clip.video, whole["video"][:, :2])  # 1 + 4 / 4 latent frames
        assert torch.equal(clip.audio, whole["audio"][:, :15])  # 0.2 s of 75 a second
    with pytest.raises(ValueError, match="no train clip is long enough"):
        ClipData(prepared_latents, Buckets(8, [0.6])).train_dataloader()


def test_the_sample_is_of_the_clips(make_system, batch):
    system = make_system(tasks=Tasks({"sound": 1.0}))
    drawn = system.draw(batch, "train")
    layout = drawn.layout
    expected = make_layout(*system.latents.grids(9))
    assert torch.equal(layout.spans, expected.spans)
    assert torch.equal(layout.order, expected.order)
    assert drawn.clean.shape == (8, layout.num_tokens, 16)
    video, audio = unpack(drawn.clean, layout)
    for index, clip in enumerate(batch["clips"]):
        own = system.video_statistics.normalize(clip.video[None])
        torch.testing.assert_close(video[index], own[0])
        torch.testing.assert_close(
            audio[index], system.audio_statistics.normalize(clip.audio[None])[0]
        )
    assert torch.equal(drawn.given, (layout.modality == AUDIO).expand(8, -1))
    assert (drawn.sigma[drawn.given] == 0).all()
    assert (drawn.sigma[~drawn.given] > 0).all()
    assert torch.equal(drawn.made()["video"] > 0, ~drawn.given)
    assert not drawn.made()["audio"].any()
    shape = batch["clips"][0].shape
    assert system.drawing.layout(shape) is system.drawing.layout(replace(shape))  # made once


def test_micro_batches_of_one_step_draw_each_their_own(make_system, prepared_latents):
    """The step's number does not move between them (faults.md, 3.1)."""
    system = make_system(tasks=Tasks({"everything": 1.0}))
    batches = list(ClipData(prepared_latents, Buckets(2, [0.36])).train_dataloader())
    drawn = [system.draw(batch, "train") for batch in batches]
    assert len(drawn) == 4
    for name in ("noise", "sigma"):
        assert len({float(getattr(own, name).double().sum()) for own in drawn}) == 4


def test_an_untrained_model_errs_by_the_variance_of_the_velocity(make_system, batch):
    """It answers 0; noise - clean has a variance of 2 where latents are normalised."""
    system = make_system(tasks=Tasks({"everything": 1.0}))
    loss = system.training_step(batch, 0)
    assert float(loss.detach()) / 2 == pytest.approx(2.0, abs=0.3)  # the sum of both modalities


def test_a_step_looks_at_no_number_on_its_device(make_system, batch):
    """All of it on the meta device, where none can be looked at: a GPU need not be waited for.

    Of a whole run there is one look a step, `LossGuard`'s, and the progress bar's at the loss.
    """
    system = make_system()
    drawn = system.draw(batch, "train").to("meta")
    system.to("meta")
    for parameter in system.parameters():
        assert parameter.is_meta
    system.loss(drawn, "train", len(batch["clips"])).backward()
    optimizer = configure(system, system.optimizer)["optimizer"]
    assert sum(p.grad is not None for group in optimizer.param_groups for p in group["params"]) > 9
    optimizer.step()


def test_a_modality_that_is_given_costs_nothing(make_system, batch):
    for task in ("sound", "silent video"):
        loss = make_system(tasks=Tasks({task: 1.0})).training_step(batch, 0)
        assert float(loss.detach()) == pytest.approx(2.0, abs=0.4)


def test_a_step_repeats_itself_and_another_seed_does_not(make_system, batch):
    first, again, other = (
        float(make_system(seed=seed).training_step(batch, 0).detach()) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_training_learns_a_batch(make_system, batch):
    system = make_system(tasks=Tasks({"everything": 1.0}))
    optimizer = system.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = 0.02
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = system.training_step(batch, 0)  # the same draws, since no step is counted
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_the_mouth_weighs_more():
    video = VideoGrid(1, 128, 128, Fraction(25), (4, 16, 16), 4, 2)  # 4 x 4 tokens of 32 pixels
    layout = make_layout(video, AudioGrid(960, 24000, 320, 4, 3))
    weights = LossWeights().of_tokens(layout)
    # rows 0.72 to 0.97 of 128 are 92.16 to 124.16, columns 0.32 to 0.70 are 40.96 to 89.6
    rows, columns = [0.0, 0.0, 3.84 / 32, 28.16 / 32], [0.0, 23.04 / 32, 25.6 / 32, 0.0]
    expected = [1 + 2 * row * column for row in rows for column in columns]
    assert weights[layout.modality == VIDEO].tolist() == pytest.approx(expected, abs=1e-5)
    assert bool((weights[layout.modality == AUDIO] == 1).all())


def test_overlap_is_the_share_inside():
    centers = torch.tensor([0.0, 1.0, 2.0, 3.0, 9.0])
    shares = overlap(centers, 1.0, 1.5, 3.0)
    assert shares.tolist() == pytest.approx([0.0, 0.25, 0.75, 0.5, 0.0])


def test_jitter_moves_words_a_little(make_system):
    words = (Word("red", 0.01, 0.02), Word("now", 0.5, 0.9))
    drawing = make_system(TextDrops(jitter_s=0.02)).drawing
    moved = [drawing.jitter(words, torch.Generator().manual_seed(i)) for i in range(400)]
    starts = torch.tensor([two[1].start_s for two in moved])
    assert float(starts.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(starts.std()) == pytest.approx(0.02, rel=0.15)
    assert all(word.end_s - word.start_s >= 0.02 - 1e-9 for two in moved for word in two)
    assert all(word.start_s >= 0 for two in moved for word in two)
    still = make_system(TextDrops(jitter_s=0.0)).drawing.jitter(words[1:], torch.Generator())
    assert still == list(words[1:])


def test_text_is_hidden_as_often_as_said(make_system):
    drawing = make_system(TextDrops(both=0.1, caption=0.2, speech=0.05, given_speech=0.5)).drawing
    layout = make_layout(*drawing.latents.grids(9))
    generator = torch.Generator().manual_seed(0)
    for modality, shown in ((None, 0.95), (VIDEO, 0.95 * 0.5)):  # then a silent video
        given = (layout.modality == modality)[None] if modality is not None else None
        given = torch.zeros(1, layout.num_tokens, dtype=torch.bool) if given is None else given
        hidden = torch.tensor([drawing.hidden(given, layout, generator) for _ in range(2000)])
        caption, speech = 1 - hidden.float().mean(0)
        assert float(caption) == pytest.approx(0.9 * 0.8, abs=0.03)
        assert float(speech) == pytest.approx(0.9 * shown, abs=0.03)


def test_words_of_captions_are_hidden_in_any_number_and_in_training_alone(make_system, batch):
    """As many as one draw of the clip says, up to the share; those that stay keep their order."""
    drops = TextDrops(both=0.0, caption=0.0, words=0.6)
    system, words = make_system(drops), [f"w{i}" for i in range(40)]
    kept = [
        system.drawing.caption(" ".join(words), torch.Generator().manual_seed(i)).split()
        for i in range(600)
    ]
    shares = torch.tensor([len(some) / 40 for some in kept])
    assert float(shares.mean()) == pytest.approx(1 - 0.3, abs=0.02)
    assert float(shares.std()) == pytest.approx(0.6 / 12**0.5, abs=0.03)  # uniform, not 40 coins
    assert all(some == sorted(some, key=words.index) for some in kept)
    record = replace(batch["clips"][0].record, caption=" ".join(words))
    clip = replace(batch["clips"][0], record=record)
    counts = {jitter: {int(system.drawing([clip], [seed], jitter).text.caption_mask.sum())
                       for seed in range(8)} for jitter in (False, True)}  # fmt: skip
    assert counts[False] == {40} and len(counts[True]) > 4
    with pytest.raises(UserError, match=r"drops.words is 0.6; captions were encoded whole"):
        replace(system.drawing, has_features=True)


def spoken(system, clip, words, start_s=0.0):
    """Spans of the phonemes that a step without jitter has of a clip with these words."""
    clip = replace(clip, record=replace(clip.record, words=words), start_s=start_s)
    text = system.drawing([clip], [0], jitter=False).text
    return text.speech_spans[0][text.speech_mask[0]]


def test_phonemes_are_the_records_words(make_system, batch):
    nothing = TextDrops(both=0.0, caption=0.0, speech=0.0, given_speech=0.0)
    clip, system = batch["clips"][0], make_system(nothing)
    assert len(spoken(system, clip, (Word("red", 0.1, 0.3),))) == 3  # R EH D
    assert len(spoken(system, clip, clip.record.words)) == 5  # and N AW
    assert float(spoken(system, clip, (Word("red", 0.1, 0.3),))[2, 1]) == pytest.approx(0.3)


def test_words_that_began_before_a_stretch_keep_their_time(make_system, batch):
    """R is over before the stretch begins, EH D are not; NOW comes when it is over."""
    nothing = TextDrops(both=0.0, caption=0.0, speech=0.0, given_speech=0.0)
    words = (Word("red", 0.05, 0.3), Word("now", 0.7, 1.0))
    clip, system = batch["clips"][0], make_system(nothing)
    whole = spoken(system, clip, words)
    start_s = float(whole[0, 1] + whole[1, 1]) / 2
    spans = spoken(system, clip, words, start_s)
    assert torch.allclose(spans, whole[1:3] - start_s, atol=1e-6)
    assert float(spans[0, 0]) < 0 < float(spans[0, 1])
