"""Clips of all shapes: alone, stacked or packed they have one loss; what is missing is absent."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from safetensors.torch import load_file

from avgen.diffusion.schedules import IndependentSigma, LogitNormal
from avgen.latents.conditioning import Tasks
from avgen.latents.packing import AUDIO, MODALITIES, VIDEO, Layout, PackedLayout, make_layout
from avgen.preparation.latent_store import read_latent_config, read_shape
from avgen.preparation.merge import merge
from avgen.training.batches import Buckets, Packs
from avgen.training.clip_latents import Stretches
from avgen.training.data import ClipData
from avgen.training.optimization import OptimizerConfig
from avgen.training.sample import LossWeights, TextDrops, tasks_for
from avgen.training.system import DiffusionSystem, NetworkConfig

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")
EVERYTHING = Packs(max_tokens=10**6, longest_s=10.0)


def make_system(folder, tasks=None, drops=TextDrops()):  # noqa: B008 - frozen
    torch.manual_seed(0)
    system = DiffusionSystem(
        folder,
        NetworkConfig(width=32, depth=2, num_heads=2),
        OptimizerConfig(0.01, 1, 100),
        IndependentSigma(LogitNormal(0.0, 1.0, 0.2), {"video": 1.0, "audio": 1.0}),
        Tasks() if tasks is None else tasks,
        drops,
        LossWeights(),
    )
    for parameter in system.transformer.parameters():  # a new model answers 0
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return system


def batch_of(folder, batching=EVERYTHING, **options):
    return next(iter(ClipData(folder, batching, **options).train_dataloader()))


def of(batch, indices):
    """The batch of some of its clips."""
    return {name: [values[i] for i in indices] for name, values in batch.items()}


def clip_errors(system, batch):
    """Errors and weights of each clip's tokens, [L] each."""
    drawn = system.draw(batch, "train")
    errors, _ = system.errors(drawn)
    made = torch.stack([drawn.made()[name] for name in MODALITIES], -1)
    if isinstance(drawn.layout, PackedLayout):
        lengths = drawn.layout.lengths
        pairs = zip(errors[0].split(lengths), made[0].split(lengths), strict=True)
    else:
        pairs = zip(errors, made, strict=True)
    return list(pairs)


@torch.no_grad()
def test_packed_stacked_and_alone_have_one_loss(prepared_mixed):
    system, batch = make_system(prepared_mixed), batch_of(prepared_mixed)
    assert len(batch["clips"]) == 15
    packed = clip_errors(system, batch)
    alone = [clip_errors(system, of(batch, [i]))[0] for i in range(15)]
    by_shape: dict = {}
    for i, clip in enumerate(batch["clips"]):
        by_shape.setdefault(clip.shape, []).append(i)
    assert [len(indices) for indices in by_shape.values()] == [3] * 5
    for indices in by_shape.values():
        assert isinstance(system.draw(of(batch, indices), "train").layout, Layout)
        stacked = clip_errors(system, of(batch, indices))
        for i, (errors, made) in zip(indices, stacked, strict=True):
            for other in (packed[i], alone[i]):
                torch.testing.assert_close(errors, other[0], atol=1e-5, rtol=1e-4)
                assert torch.equal(made, other[1])
    # and the step's loss is the mean over all tokens of each modality
    total = sum(made.sum(0) for _, made in alone)
    summed = sum((made * errors[:, None]).sum(0) for errors, made in alone)
    loss = float(system.training_step(batch, 0))
    assert loss == pytest.approx(float((summed / total).sum()), rel=1e-5)


def test_gradients_of_packed_are_those_of_each_alone(prepared_mixed):
    system, batch = make_system(prepared_mixed), batch_of(prepared_mixed)
    made = torch.stack([made.sum(0) for _, made in clip_errors(system, batch)])
    system.training_step(batch, 0).backward()
    together = {name: p.grad.clone() for name, p in system.named_parameters()}
    system.zero_grad()
    for i in range(15):
        ((errors, weight),) = clip_errors(system, of(batch, [i]))
        (errors[:, None] * weight / made.sum(0)).sum().backward()
    for name, parameter in system.named_parameters():
        difference = float((parameter.grad - together[name]).abs().max())
        assert difference < 1e-4 * (1e-3 + float(together[name].abs().max())), name


def silent(batch, has_sound=False):
    return of(batch, [i for i, c in enumerate(batch["clips"]) if c.shape.has_sound == has_sound])


def test_missing_sound_is_absent_and_trains_the_picture(prepared_mixed):
    system, batch = make_system(prepared_mixed), silent(batch_of(prepared_mixed))
    drawn = system.draw(batch, "train")
    assert not bool((drawn.layout.modality == AUDIO).any())
    loss = system.training_step(batch, 0)
    loss.backward()
    network = system.transformer
    assert float(loss.detach()) > 0.5
    assert float(network.inward[VIDEO].weight.grad.abs().max()) > 0
    for part in (network.inward[AUDIO], network.outward[AUDIO]):
        assert not bool(part.weight.grad.any())
    assert not bool(network.blocks[0].table.grad[AUDIO].any())


def test_silence_is_sound(prepared_mixed):
    """Zeros are tokens like any other: they are made, and cost where they are made wrong."""
    system, batch = make_system(prepared_mixed, Tasks({"everything": 1.0})), None
    batch = silent(batch_of(prepared_mixed), has_sound=True)
    clips = [replace(clip, audio=torch.zeros_like(clip.audio)) for clip in batch["clips"]]
    drawn = system.draw(batch | {"clips": clips}, "train")
    assert bool((drawn.layout.modality == AUDIO).any())
    system.training_step(batch | {"clips": clips}, 0).backward()
    assert float(system.transformer.outward[AUDIO].weight.grad.abs().max()) > 0
    mute = [replace(clip, audio=None) for clip in clips]
    with pytest.raises(ValueError, match="audio latents are missing; the layout is of a clip with"):
        system.training_step(batch | {"clips": mute}, 0)


def test_a_clip_without_words_is_seen_without_words(prepared_mixed):
    nothing = TextDrops(both=0.0, caption=0.0, speech=0.0, given_speech=1.0)
    # words are hidden where a modality is given; a sound that is not there is not given
    system = make_system(prepared_mixed, Tasks({"everything": 1.0}), nothing)
    batch = batch_of(prepared_mixed)
    text = system.draw(batch, "train").text
    for clip, speech, caption in zip(
        batch["clips"], text.speech_mask, text.caption_mask, strict=True
    ):
        assert int(speech.sum()) == (3 if clip.record.words else 0)  # R EH D
        assert int(caption.sum()) == 2
    wordless = of(batch, [i for i, clip in enumerate(batch["clips"]) if not clip.record.words])
    system.training_step(wordless, 0).backward()
    assert not bool(system.transformer.speech.table.weight.grad.any())


def test_a_task_for_sound_is_none_of_a_clip_without(prepared_mixed):
    config = read_latent_config(prepared_mixed)
    layout = make_layout(*config.grids(9), has_sound=False)
    assert tasks_for(Tasks(), layout).weights.keys() == Tasks().weights.keys() - {"silent video"}
    with pytest.raises(ValueError, match="a clip without sound has nothing to learn by silent vid"):
        tasks_for(Tasks({"silent video": 1.0}), layout)


def test_a_task_that_gives_a_single_frame_whole_is_none_of_it(prepared_mixed):
    """It would be drawn for ever."""
    config = read_latent_config(prepared_mixed)
    still = make_layout(*config.grids(1), has_sound=False)
    whole = {"silent video", "picture", "frames", "sound and picture"}
    assert tasks_for(Tasks(), still).weights.keys() == Tasks().weights.keys() - whole
    with pytest.raises(ValueError, match="a clip without more than a frame has nothing to learn"):
        tasks_for(Tasks({"sound and picture": 1.0}), still)
    assert "frames" in tasks_for(Tasks(), make_layout(*config.grids(1))).weights


def test_what_a_clip_draws_depends_on_its_number_alone(prepared_mixed):
    system, batch = make_system(prepared_mixed), batch_of(prepared_mixed)
    first = system.draw(of(batch, [3]), "train")
    again = system.draw(of(batch, [3]), "train")
    held_out = system.draw(of(batch, [3]), "validation")
    assert torch.equal(first.noise, again.noise)
    assert not torch.equal(first.noise, held_out.noise)


@pytest.mark.parametrize("batching", [Buckets(2, [0.3, 0.6]), Packs(60, 10.0)], ids=str)
def test_a_run_resumes_in_the_middle_of_an_epoch(prepared_mixed, batching):
    def loader():
        return ClipData(prepared_mixed, batching).train_dataloader()

    data = loader()
    whole = [batch["draws"] for _ in range(2) for batch in data]
    epoch = len(whole) // 2
    assert epoch >= 3
    data, begun = loader(), []
    for batch in data:
        begun.append(batch["draws"])
        if len(begun) == 2:
            break
    resumed = loader()
    resumed.load_state_dict(data.state_dict())
    rest = [batch["draws"] for batch in resumed]
    assert begun + rest == whole[:epoch]
    assert len({draw for batch in whole for draw in batch}) == sum(len(batch) for batch in whole)


def test_a_stretch_is_its_part_of_the_clip(prepared_mixed):
    batches = ClipData(prepared_mixed, EVERYTHING, Stretches(1.0, 9)).train_dataloader()
    config, starts = read_latent_config(prepared_mixed), set()
    for _ in range(12):
        for clip in next(iter(batches))["clips"]:
            path = prepared_mixed / "latents" / f"{clip.record.id}.safetensors"
            whole, latents = read_shape(path, config), load_file(path)
            assert clip.shape == replace(whole, num_frames=9)
            start = round(clip.start_s * whole.fps / 4)
            starts.add((whole.fps, start))
            first = latents["still" if start else "video"][:, start : start + 1]
            assert torch.equal(clip.video[:, :1], first)
            assert torch.equal(clip.video[:, 1:], latents["video"][:, start + 1 : start + 3])
            if clip.audio is not None:
                heard = start * 4 / whole.fps * 75
                assert heard == int(heard)
                assert torch.equal(clip.audio[:, 0], latents["audio"][:, int(heard)])
    by_rate = {fps: {s for f, s in starts if f == fps} for fps, _ in starts}
    assert by_rate[Fraction(25)] == {0, 1, 2}
    assert by_rate[Fraction(30000, 1001)] == {0}  # no other latents of both start together


def test_prepared_folders_merge(prepared_mixed, prepared_latents, tmp_path):
    """A folder of one shape, whose files do not say it, and one of many."""
    merge([prepared_latents, prepared_mixed], tmp_path / "both")
    batch = batch_of(tmp_path / "both")
    assert len(batch["clips"]) == 8 + 15
    shapes = {clip.record.id: clip.shape for clip in batch["clips"]}
    assert (shapes["c0"].num_frames, shapes["c0"].fps, shapes["c0"].has_sound) == (9, 25, True)
    assert shapes["m2"].has_sound is False
    with pytest.raises(ValueError, match="another clip named m0"):
        merge([prepared_mixed, prepared_mixed], tmp_path / "twice")


def test_what_is_broken_or_missing_is_named(prepared_mixed):
    path = prepared_mixed / "latents" / "m0.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"m0\.safetensors: is not a clip's latents"):
        batch_of(prepared_mixed)
