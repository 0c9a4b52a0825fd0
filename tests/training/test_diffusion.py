"""What a training step draws, hides and weighs."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from safetensors.torch import load_file

from avgen.clips.clip import Word
from avgen.diffusion.schedules import IndependentSigma, LogitNormal
from avgen.latents.conditioning import Tasks
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, make_layout
from avgen.training.data_latents import LatentData
from avgen.training.optimization import OptimizerConfig
from avgen.training.system import (
    DiffusionSystem,
    LossWeights,
    NetworkConfig,
    TextDrops,
    overlap,
)

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
    return next(iter(LatentData(prepared_latents, num_frames=9, batch_size=8).train_dataloader()))


def test_latents_are_cut_to_the_length_of_training(prepared_latents):
    items = LatentData(prepared_latents, num_frames=5, batch_size=2).latents("train")
    assert len(items) == 8
    for draw in range(8):
        item = items[draw]
        whole = load_file(prepared_latents / "latents" / f"{item['record'].id}.safetensors")
        assert torch.equal(item["video"], whole["video"][:, :2])  # 1 + 4 / 4 latent frames
        assert torch.equal(item["audio"], whole["audio"][:, :15])  # 0.2 s of 75 a second
        assert item["draw"] == draw
    with pytest.raises(ValueError, match="no train clip has 4 video latents"):
        LatentData(prepared_latents, num_frames=13, batch_size=2).latents("train")


def test_a_batch_is_of_its_records(prepared_latents, batch):
    assert batch["video"].shape == (8, 4, 3, 2, 2)
    assert batch["audio"].shape == (8, 4, 27)
    assert sorted(record.id for record in batch["records"]) == [f"c{i}" for i in range(8)]
    for record, video in zip(batch["records"], batch["video"], strict=True):
        path = prepared_latents / "latents" / f"{record.id}.safetensors"
        assert torch.equal(video, load_file(path)["video"])


def test_the_layout_is_that_of_the_clip(make_system, batch):
    system = make_system()
    layout, weights = system.layout(batch)
    expected = make_layout(*system.latents.grids(9))
    assert torch.equal(layout.spans, expected.spans)
    assert torch.equal(layout.order, expected.order)
    assert torch.equal(weights["audio"], (layout.modality == AUDIO).float())
    assert system.layout(batch)[0] is layout  # made once a shape


def test_an_untrained_model_errs_by_the_variance_of_the_velocity(make_system, batch):
    """It answers 0; noise - clean has a variance of 2 where latents are normalised."""
    system = make_system(tasks=Tasks({"everything": 1.0}))
    loss = system.training_step(batch, 0)
    assert float(loss.detach()) / 2 == pytest.approx(2.0, abs=0.3)  # the sum of both modalities


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


def test_the_mouth_weighs_more(make_system):
    video = VideoGrid(1, 128, 128, Fraction(25), (4, 16, 16), 4, 2)  # 4 x 4 tokens of 32 pixels
    layout = make_layout(video, AudioGrid(960, 24000, 320, 4, 3))
    weights = make_system().token_weights(layout)["video"]
    # rows 0.72 to 0.97 of 128 are 92.16 to 124.16, columns 0.32 to 0.70 are 40.96 to 89.6
    rows, columns = [0.0, 0.0, 3.84 / 32, 28.16 / 32], [0.0, 23.04 / 32, 25.6 / 32, 0.0]
    expected = [1 + 2 * row * column for row in rows for column in columns]
    assert weights[layout.modality == VIDEO].tolist() == pytest.approx(expected, abs=1e-5)
    assert not bool(weights[layout.modality == AUDIO].any())


def test_overlap_is_the_share_inside():
    centers = torch.tensor([0.0, 1.0, 2.0, 3.0, 9.0])
    shares = overlap(centers, 1.0, 1.5, 3.0)
    assert shares.tolist() == pytest.approx([0.0, 0.25, 0.75, 0.5, 0.0])


def test_jitter_moves_words_a_little(make_system):
    words = (Word("red", 0.01, 0.02), Word("now", 0.5, 0.9))
    system = make_system(TextDrops(jitter_s=0.02))
    moved = [system.jitter(words, torch.Generator().manual_seed(i)) for i in range(400)]
    starts = torch.tensor([two[1].start_s for two in moved])
    assert float(starts.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(starts.std()) == pytest.approx(0.02, rel=0.15)
    assert all(word.end_s - word.start_s >= 0.02 - 1e-9 for two in moved for word in two)
    assert all(word.start_s >= 0 for two in moved for word in two)
    still = make_system(TextDrops(jitter_s=0.0)).jitter(words[1:], torch.Generator())
    assert still == list(words[1:])


def of(records, start_s=0.0):
    return {"records": records, "starts_s": [start_s] * len(records)}


def test_text_is_hidden_as_often_as_said(make_system, batch):
    drops = TextDrops(both=0.1, caption=0.2, speech=0.05, given_speech=0.5)
    system = make_system(drops)
    layout, _ = system.layout(batch)
    text = system.texts(of([batch["records"][0]] * 4000), 1.0, None)
    given = torch.zeros(4000, layout.num_tokens, dtype=torch.bool)
    given[2000:] = layout.modality == VIDEO  # half of the clips are silent videos
    hidden = system.hide(text, given, layout, torch.Generator().manual_seed(0))
    caption, speech = hidden.caption_mask.any(1).float(), hidden.speech_mask.any(1).float()
    assert float(caption.mean()) == pytest.approx(0.9 * 0.8, abs=0.03)
    assert float(speech[:2000].mean()) == pytest.approx(0.9 * 0.95, abs=0.03)
    assert float(speech[2000:].mean()) == pytest.approx(0.9 * 0.95 * 0.5, abs=0.03)


def test_texts_are_the_records_words(make_system, batch):
    record = replace(batch["records"][0], words=(Word("red", 0.1, 0.3),))
    text = make_system().texts(of([record, batch["records"][1]]), 1.0, None)
    assert text.speech_mask.sum(1).tolist() == [3, 5]  # R EH D; and N AW
    assert float(text.speech_spans[0, 2, 1]) == pytest.approx(0.3)


def test_words_that_began_before_a_stretch_keep_their_time(make_system, batch):
    """R is over before the stretch begins, EH D are not; NOW comes when it is over."""
    words = (Word("red", 0.1, 0.4), Word("now", 0.7, 1.0))
    record, system = replace(batch["records"][0], words=words), make_system()
    whole = system.texts(of([record]), 2.0, None).speech_spans[0]
    start_s = float(whole[0, 1] + whole[1, 1]) / 2
    text = system.texts(of([record], start_s), 0.4, None)
    spans = text.speech_spans[0][text.speech_mask[0]]
    assert torch.allclose(spans, whole[1:3] - start_s, atol=1e-6)
    assert float(spans[0, 0]) < 0 < float(spans[0, 1])
