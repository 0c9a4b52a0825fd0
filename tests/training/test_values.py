"""A training step in numbers: what it draws, what it costs, what moves. Constants are unlike."""

import json
from dataclasses import asdict, replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from avgen.clips.timed_words import Word
from avgen.codecs.audio import AudioAutoencoder, AudioAutoencoderConfig
from avgen.codecs.base import save_module
from avgen.codecs.normalize import LatentStatistics
from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig, Flaws
from avgen.corpora.manifest import ClipRecord, read_manifest, write_manifest
from avgen.diffusion.schedules import IndependentSigma, LogitNormal
from avgen.latents.conditioning import Tasks
from avgen.latents.packing import AUDIO, MODALITIES, VIDEO, pack
from avgen.models.text import caption_ids
from avgen.preparation.encode import encode
from avgen.preparation.latent_store import (
    ClipShape,
    encoder_fingerprint,
    read_latent_config,
    read_shape,
)
from avgen.training.batches import Buckets
from avgen.training.callbacks import build_pipeline
from avgen.training.clip_latents import ClipLatents
from avgen.training.data import ClipData
from avgen.training.draws import hash_seed
from avgen.training.optimization import OptimizerConfig
from avgen.training.sample import LossWeights, TextDrops
from avgen.training.sharding import ShardedEMA
from avgen.training.system import (
    DiffusionSystem,
    NetworkConfig,
    shares_of_processes,
)
from avgen.training.video_codec import (
    PixelLoss,
    VideoCodecSystem,
    flow_error,
    psnr,
    to_video,
)

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")
LEVELS = {"video": 0.35, "audio": 0.8}
SMALL = ConvVideoCodecConfig(latent_channels=2, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8))
TASKS = ("everything", "picture", "sound", "silent video", "beginning", "middle")


class Fixed:
    """Noise levels that are known."""

    def draw(self, batch_size, modalities, generator):
        return {name: torch.full((batch_size,), LEVELS[name]) for name in modalities}


class Linear(nn.Module):
    """A network whose velocity is known."""

    def __init__(self):
        super().__init__()
        self.caption = SimpleNamespace(tokenize=caption_ids)

    config = SimpleNamespace(num_expressions=0)

    def prepare(self, layout, text, reference=None):
        return layout

    def forward(self, tokens, sigma, layout):
        sigma = sigma if isinstance(sigma, torch.Tensor) else sigma.values[sigma.index]
        return (0.6 * tokens - 0.3 * sigma[..., None]) * layout.used


@pytest.fixture
def make_system(prepared_latents):
    def make(tasks, sigmas=Fixed(), network=None, drops=TextDrops()):  # noqa: B008 - frozen
        torch.manual_seed(0)
        system = DiffusionSystem(
            prepared_latents,
            NetworkConfig(width=16, depth=1, num_heads=2),
            OptimizerConfig(0.01, 1, 100),
            sigmas,
            Tasks(tasks),
            drops,
            LossWeights({"video": 0.7, "audio": 1.9}, mouth=3.0),
            seed=5,
        )
        if network is not None:
            system.transformer = network
        return system

    return make


def clip_of(folder, number, start_s=0.0, has_sound=True):
    """A clip of `prepared_latents` as it is trained on."""
    record = read_manifest(folder / "manifest.jsonl")[number]
    latents = load_file(folder / "latents" / f"{record.id}.safetensors")
    shape = ClipShape(9, 32, 32, Fraction(25), has_sound)
    audio = latents["audio"] if has_sound else None
    return ClipLatents(record, number, start_s, shape, latents["video"], audio)


def draw(system, clips, seeds, jitter=False):
    """What a step draws: the one place that knows how it is called."""
    return system.drawing(clips, list(seeds), jitter)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_given_has_no_noise(make_system, prepared_latents, task):
    """Each made token has its modality's level; a given one has none, and is the latent itself."""
    system = make_system({task: 1.0})
    drawn = draw(system, [clip_of(prepared_latents, n) for n in range(6)], range(20, 26))
    layout, given = drawn.layout, drawn.given
    assert given.any() == (task != "everything")
    assert not given.all(1).any()
    assert (drawn.sigma[given] == 0).all()
    level = torch.tensor([LEVELS[name] for name in MODALITIES])[layout.modality]
    assert torch.equal(drawn.sigma[~given], level.expand(6, -1)[~given])
    noisy = (1 - drawn.sigma)[..., None] * drawn.clean + drawn.sigma[..., None] * drawn.noise
    assert torch.equal(noisy[given], drawn.clean[given])
    if task == "sound":
        assert torch.equal(given, (layout.modality == AUDIO).expand(6, -1))
    if task == "silent video":
        assert torch.equal(given, (layout.modality == VIDEO).expand(6, -1))


def test_a_batch_of_one_shape_draws_likewise(make_system, prepared_latents):
    system = make_system({"sound": 0.3, "middle": 0.7})
    batch = next(iter(ClipData(prepared_latents, Buckets(8, [0.36])).train_dataloader()))
    drawn = system.draw(batch, "train")
    assert drawn.given.any() and (drawn.sigma[drawn.given] == 0).all()
    level = torch.tensor([LEVELS[name] for name in MODALITIES])[drawn.layout.modality]
    assert torch.equal(drawn.sigma[~drawn.given], level.expand(8, -1)[~drawn.given])
    video = torch.stack([clip.video for clip in batch["clips"]]).double()
    audio = torch.stack([clip.audio for clip in batch["clips"]]).double()
    check_clean(system, drawn, video, audio)


def check_clean(system, drawn, video, audio):
    """Tokens are latents less their own modality's and channel's mean over its deviation."""
    columns = (1, 4, 1, 1, 1)
    own, other = system.video_statistics, system.audio_statistics
    assert abs(own.mean[0] - other.mean[0]) > 1
    assert max(own.std) > 4 * min(own.std)
    video = (video - torch.tensor(own.mean).view(columns)) / torch.tensor(own.std).view(columns)
    audio = (audio - torch.tensor(other.mean)[:, None]) / torch.tensor(other.std)[:, None]
    expected = pack(video.float(), audio.float(), drawn.layout)
    torch.testing.assert_close(drawn.clean, expected, atol=1e-5, rtol=1e-5)


def test_clean_tokens_are_normalised_and_noise_is_normal(make_system, prepared_latents):
    system = make_system({"everything": 1.0})
    clips = [clip_of(prepared_latents, n) for n in range(8)]
    drawn = draw(system, clips, range(8))
    video = torch.stack([clip.video for clip in clips]).double()
    check_clean(system, drawn, video, torch.stack([clip.audio for clip in clips]).double())
    used = drawn.layout.used
    assert not drawn.noise[:, ~used].any()
    noise = drawn.noise[:, used]
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert not torch.equal(drawn.noise[0], drawn.noise[1])
    alone = draw(system, clips[3:4], [3])
    assert torch.equal(alone.noise[0], drawn.noise[3])


def test_every_clip_is_drawn_by_its_seed(make_system, prepared_latents):
    """Of train and validation, each its own; validation does not move the words."""
    system = make_system({"everything": 1.0}, drops=TextDrops(0, 0, 0, 0, jitter_s=0.1))
    clips = [clip_of(prepared_latents, n) for n in (1, 2)]
    batch = {"clips": clips, "records": [c.record for c in clips], "draws": [7, 8]}
    for stage, kind in (("train", 1), ("validation", 0)):
        drawn = system.draw(batch, stage)
        again = draw(system, clips, [hash_seed(5, n, kind) for n in (7, 8)], stage == "train")
        assert torch.equal(drawn.noise, again.noise)
        starts = drawn.text.speech_spans[:, 0, 0].tolist()
        assert (starts == pytest.approx([0.05, 0.05])) == (stage == "validation")


def test_words_are_those_of_the_stretch(make_system, prepared_latents):
    system = make_system({"everything": 1.0}, drops=TextDrops(0, 0, 0, 0, 0))
    clip = clip_of(prepared_latents, 0, start_s=0.5)
    words = (Word("red", 0.2, 0.55), Word("now", 0.6, 0.8), Word("red", 0.9, 1.2))
    clip = replace(clip, record=replace(clip.record, words=words, caption="a man in red"))
    text = draw(system, [clip], [1]).text
    spans = text.speech_spans[0][text.speech_mask[0]]
    assert spans[0, 1].item() == pytest.approx(0.05)  # the end of D; the clip is 0.36 s long
    assert spans[-1, 1].item() == pytest.approx(0.3)
    assert len(spans) == 3
    assert text.caption_mask.sum() == 4


def test_words_are_hidden_where_the_sound_is_given(make_system, prepared_latents):
    clips = [clip_of(prepared_latents, 0)] * 9
    for task, hidden in (("sound", 9), ("silent video", 9), ("picture", 0), ("everything", 0)):
        system = make_system({task: 1.0}, drops=TextDrops(0, 0, 0, given_speech=1.0))
        text = draw(system, clips, range(9)).text
        assert int((~text.speech_mask.any(1)).sum()) == hidden
        assert text.caption_mask.any(1).all()
    both, caption, speech = (
        draw(make_system({"everything": 1.0}, drops=drops), clips, range(9)).text
        for drops in (TextDrops(1, 0, 0, 0), TextDrops(0, 1, 0, 0), TextDrops(0, 0, 1, 0))
    )
    for text, seen in ((both, (0, 0)), (caption, (0, 9)), (speech, (9, 0))):
        shown = int(text.caption_mask.any(1).sum()), int(text.speech_mask.any(1).sum())
        assert shown == seen


def test_the_loss_is_its_formula(make_system, prepared_latents):
    """A weighted mean of made tokens in each modality, then a weighted sum of both."""
    system = make_system({"middle": 0.6, "picture": 0.4}, network=Linear())
    drawn = draw(system, [clip_of(prepared_latents, n) for n in range(5)], range(40, 45))
    logged = {}
    system.log = lambda name, value, **_: logged.update({name: float(value)})
    system.log_dict = lambda values, **_: logged.update({k: float(v) for k, v in values.items()})
    total = float(system.loss(drawn, "train", 5))
    clean, noise = drawn.clean.double().numpy(), drawn.noise.double().numpy()
    sigma, used = drawn.sigma.double().numpy()[..., None], drawn.layout.used.numpy()
    noisy = (1 - sigma) * clean + sigma * noise
    wrong = ((0.6 * noisy - 0.3 * sigma) - (noise - clean)) * used
    errors = (wrong**2).sum(-1) / used.sum(-1)
    expected = 0.0
    for index, (name, weight) in enumerate({"video": 0.7, "audio": 1.9}.items()):
        own = drawn.made()[name].double().numpy()
        assert ((own > 0) == (drawn.layout.modality.numpy() == index) & ~drawn.given.numpy()).all()
        loss = (own * errors).sum() / own.sum()
        assert logged[f"train/{name}"] == pytest.approx(loss, rel=1e-5)
        binned = system._binned[f"train/{name}"].mean
        assert float(binned[int(LEVELS[name] * 4)]) == pytest.approx(loss, rel=1e-5)
        assert int(binned.isnan().sum()) == 3
        expected += weight * loss
    assert total == logged["train/loss"] == pytest.approx(expected, rel=1e-5)


def test_drawn_levels_are_the_schedules():
    """Logit-normal, shifted, and the two modalities' draws apart."""
    sigmas = IndependentSigma(LogitNormal(0.4, 0.9, 0.0), {"video": 3.0, "audio": 0.5})
    levels = sigmas.draw(2000, MODALITIES, torch.Generator().manual_seed(1))
    logits = {}
    for name, shift in (("video", 3.0), ("audio", 0.5)):
        logits[name] = torch.logit(levels[name]) - np.log(shift)
        assert float(logits[name].mean()) == pytest.approx(0.4, abs=0.08)
        assert float(logits[name].std()) == pytest.approx(0.9, abs=0.06)
    both = torch.stack(list(logits.values()))
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1


def test_one_process_has_no_shares():
    assert shares_of_processes(torch.tensor([3.0, 4.0])) == [None, None]


def test_shares_of_processes(monkeypatch):
    """The others have made 9 more tokens of picture and none of sound."""
    module = "avgen.training.system"
    monkeypatch.setattr(f"{module}.rank_and_world", lambda: (0, 2))
    monkeypatch.setattr(
        "torch.distributed.all_reduce", lambda total: total.add_(torch.tensor([9.0, 0.0]))
    )
    shares = shares_of_processes(torch.tensor([3.0, 4.0]))
    assert [float(share) for share in shares] == pytest.approx([3 * 2 / 12, 4 * 2 / 4])


def test_the_average_is_a_moving_one(make_system, fill):
    """average = decay * average + (1 - decay) * weights, once a step; validation sees it.

    It begins with the weights after the first step.
    """
    system = make_system({"everything": 1.0})
    fill(system.transformer)
    average = ShardedEMA(decay=0.9)
    average.setup(None, system, "fit")
    start = {n: p.detach().clone() for n, p in system.transformer.named_parameters()}
    trainer = SimpleNamespace(global_step=0, strategy=None)
    expected = {name: value.clone() for name, value in start.items()}
    for step, moved in ((1, 1.0), (1, 50.0), (2, -2.5)):  # the second is no step's end
        with torch.no_grad():
            for parameter in system.transformer.parameters():
                parameter.add_(moved)
        trainer.global_step = step
        average.on_train_batch_end(trainer, system, None, None, 0)
        if moved != 50.0:
            for name, parameter in system.transformer.named_parameters():
                share = 1.0 if step == 1 else 0.1
                expected[name] = (1 - share) * expected[name] + share * parameter.detach()
    current = {n: p.detach().clone() for n, p in system.transformer.named_parameters()}

    def check(module, values):
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(parameter.detach(), values[name])

    check(system.averaged, expected)
    average.on_validation_epoch_start(trainer, system)
    check(system.transformer, expected)
    average.on_validation_epoch_end(trainer, system)
    check(system.transformer, current)
    check(system.averaged, expected)
    assert average.state_dict() == {"step": 2}
    assert not any(p.requires_grad for p in system.averaged.parameters())


def test_a_pipeline_is_built_of_what_was_trained(make_system, prepared_latents, tmp_path):
    """Its statistics are those of training, each modality's own; its sizes are the latents'."""
    widths, depths = (8, 8, 8), (1, 1, 1)
    video = ConvVideoCodec(ConvVideoCodecConfig(4, widths, widths, depths, depths))
    small = {"latent_channels": 4, "num_mels": 16, "phase_bins": 0, "encoder_depth": 1}
    audio = AudioAutoencoder(AudioAutoencoderConfig(**small, decoder_depth=1))
    for codec, name in ((video, "video_codec"), (audio, "audio_codec")):
        save_module(codec, tmp_path / "codecs" / name)
    path = prepared_latents / "latents" / "config.json"
    latents = json.loads(path.read_text()) | {
        "fingerprint": encoder_fingerprint(video, audio),
        "width": 48,
        "fps": "30000/1001",
        "video_patch": 1,
    }
    path.write_text(json.dumps(latents))
    system = make_system({"everything": 1.0})
    pipe = build_pipeline(system, prepared_latents, tmp_path / "codecs", num_frames=25)
    assert pipe.transformer is system.transformer
    found = pipe.config
    assert (found.height, found.width, found.fps) == (32, 48, "30000/1001")
    assert (found.video_patch, found.audio_patch) == (1, 3)
    assert (found.num_frames, found.context_frames) == (25, 5)
    assert found.video_statistics == system.video_statistics
    assert found.audio_statistics == system.audio_statistics
    assert found.timer.lead_s == pytest.approx(0.05)
    assert found.timer.word_s == pytest.approx({"red": 0.15, "now": 0.15})
    assert found.caption == "a man"
    latents["fingerprint"] = "another"
    path.write_text(json.dumps(latents))
    other = make_system({"everything": 1.0})
    with pytest.raises(ValueError, match="not the codecs that made the latents"):
        build_pipeline(other, prepared_latents, tmp_path / "codecs", num_frames=25)


class Seen(nn.Module):
    """A codec whose latents are what it is given, coarsely."""

    stride, latent_channels = (4, 16, 16), 3
    sample_rate, hop_length, num_channels, lead = 8000, 80, 1, 0
    windows_are_exact = True

    def encode(self, values):
        if values.ndim == 3:
            return values.unflatten(2, (-1, 80)).mean(-1).repeat(1, 3, 1)
        first = values[:, :, [0, *range(4, values.shape[2], 4)]]
        return nn.functional.avg_pool3d(first, (1, 16, 16))


def test_latents_are_of_the_pixels_and_samples(tmp_path):
    """Of 0 to 255 and of 16-bit samples, -1 to 1; statistics are of the training split alone."""
    random = np.random.default_rng(0)
    for name in ("frames", "waveforms"):
        (tmp_path / name).mkdir()
    records, frames, sounds = [], {}, {}
    for number, split in enumerate(("train", "train", "validation")):
        name = f"c{number}"
        records.append(
            ClipRecord(name, f"{name}.mp4", "fake", "s0", split, "a man", (), None, "none")
        )
        frames[name] = random.integers(0, 256 - 80 * number, (9, 32, 48, 3), dtype=np.uint8)
        sounds[name] = random.integers(-9000, 20000 + 999 * number, (1, 2880)).astype(np.int16)
        np.save(tmp_path / "frames" / f"{name}.npy", frames[name])
        np.save(tmp_path / "waveforms" / f"{name}.npy", sounds[name])
    write_manifest(records, tmp_path / "manifest.jsonl")
    (tmp_path / "rates.json").write_text(json.dumps({"fps": "25", "sample_rate": 8000}))
    encode(tmp_path, Seen(), Seen(), (1, 2))
    config = read_latent_config(tmp_path)
    assert (config.video_patch, config.audio_patch, config.fps) == (1, 2, "25")
    all_latents = {}
    for name in frames:
        path = tmp_path / "latents" / f"{name}.safetensors"
        latents = all_latents[name] = load_file(path)
        assert read_shape(path, config) == ClipShape(9, 32, 48, Fraction(25), True)
        blocks = frames[name].reshape(9, 2, 16, 3, 16, 3).mean((2, 4)) / 127.5 - 1
        expected = np.moveaxis(blocks[[0, 4, 8]], -1, 0)
        np.testing.assert_allclose(latents["video"], expected, atol=1e-5)
        np.testing.assert_allclose(latents["still"], expected, atol=1e-5)
        heard = sounds[name].reshape(36, 80).mean(1) / 32767
        np.testing.assert_allclose(latents["audio"], np.tile(heard, (3, 1)), atol=1e-6)
    found = json.loads((tmp_path / "latents" / "statistics.json").read_text())
    for kind in ("video", "audio"):
        own = LatentStatistics.fit([all_latents[name][kind] for name in ("c0", "c1")])
        assert found[kind] == json.loads(json.dumps(asdict(own)))


def test_what_a_pixel_costs():
    """Each term by hand, with a mouth that weighs more; its weights are 1 on average."""
    loss = PixelLoss(squared=5.0, mouth=4.0, mouth_region=(0.5, 0.75, 0.25, 1.0))
    system = VideoCodecSystem(SMALL, OptimizerConfig(1e-3, 1, 2), loss)
    generator = torch.Generator().manual_seed(0)
    made, real = torch.rand(2, 1, 3, 5, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
    weights = np.ones((8, 8))
    weights[4:6, 2:8] += 4
    weights /= weights.mean()
    error = (made - real).numpy()
    expected = {
        "absolute": (abs(error) * weights).mean(),
        "squared": (error**2 * weights).mean(),
        "edge": (
            (abs(np.diff(error, axis=-1)) * weights[:, 1:]).mean()
            + (abs(np.diff(error, axis=-2)) * weights[1:]).mean()
        )
        / 2,
        "motion": (abs(np.diff(error, axis=2)) * weights).mean(),
    }
    terms = system.losses(made, real)
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=1e-5), name
    assert float(psnr(real + 0.02, real)) == pytest.approx(10 * np.log10(4 / 0.02**2), abs=0.2)
    frames = torch.tensor([[[[[0, 51, 255]]]]], dtype=torch.uint8)
    assert to_video(frames).flatten().tolist() == pytest.approx([-1, -0.6, 1])
    logged = {}
    system.log = lambda *_, **__: None
    system.log_dict = lambda values: logged.update(
        {k: float(v.detach()) for k, v in values.items()}
    )
    video = torch.randint(256, (1, 5, 32, 32, 3), generator=generator, dtype=torch.uint8)
    batch = {"video": video, "anchor": video[:, 2]}
    total = float(system.training_step(batch, 0).detach())
    one, many = logged["train/absolute"], logged["train/squared"]
    rest = logged["train/edge"] + logged["train/motion"]
    assert total == pytest.approx(one + 5 * many + rest, rel=1e-5)


def test_what_a_flow_costs():
    """Pixels of error, less where the known flow does not make the frame: by 0.3, e^-3."""
    ramp = (torch.arange(12.0) / 10 - 0.6).expand(1, 3, 8, 12)
    known = torch.zeros(1, 2, 2, 8, 12)
    known[:, 0] = 2.0
    real = ramp[:, :, None].roll(-2, -1).repeat(1, 1, 2, 1, 1)
    real[..., -2:] = ramp[..., -1:, None].movedim(-1, 2)[..., :1]  # beyond the border is the border
    real[:, :, 1] += 0.3
    made = known.clone()
    made[:, 1] = -0.5
    expected = 0.5 / 2 * (1 + np.exp(-3)) / 2
    assert float(flow_error(made, known, ramp, real)) == pytest.approx(expected, rel=1e-4)


def test_a_codec_with_a_mover_costs_its_frames_and_where_its_pictures_go():
    """The three together, with their weights."""
    codec = replace(SMALL, mover_widths=(8, 8, 8), expression_scales=(1.0, 2.0))
    loss = PixelLoss(squared=5.0, warped=3.0, flow=0.7, painted=0.4)
    system = VideoCodecSystem(codec, OptimizerConfig(1e-3, 1, 2), loss, Flaws(noise=0.1, told=0.2))
    logged = {}
    system.log = lambda *_, **__: None
    system.log_dict = lambda values: logged.update(
        {k.removeprefix("train/"): float(v.detach()) for k, v in values.items()}
    )
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(256, (2, 5, 32, 32, 3), generator=generator, dtype=torch.uint8)
    batch = {"video": video, "anchor": video[:, 3]}
    batch["expressions"] = torch.randn(2, 5, 2, generator=generator)
    batch["anchor_expressions"] = batch["expressions"][:, 3]
    total = float(system.training_step(batch, 0).detach())
    own = logged["absolute"] + 5 * logged["squared"] + logged["edge"] + logged["motion"]
    assert logged["painted"] == pytest.approx(1 / (1 + np.exp(-1)))  # as an untrained mask says
    rest = 3 * logged["warped"] + 0.4 * logged["painted"]
    assert total == pytest.approx(own + rest, rel=1e-5)
    batch["flow"] = torch.full((2, 5, 2, 32, 32), 1.5)
    total = float(system.training_step(batch, 0).detach())
    assert logged["flow"] > 0
    assert total == pytest.approx(own + rest + 0.7 * logged["flow"], rel=1e-5)
