"""Voices alone, faces that are told, references of the same person: what each clip trains."""

import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from avgen import cli
from avgen.codecs.base import save_module
from avgen.codecs.speech import SpeechCodec, SpeechCodecConfig
from avgen.corpora.manifest import ClipRecord, read_manifest, write_manifest
from avgen.diffusion.distillation import StepDraws
from avgen.diffusion.schedules import IndependentSigma, LogitNormal
from avgen.latents.conditioning import Tasks
from avgen.latents.packing import AUDIO, VIDEO, PackedLayout
from avgen.models.phonemes import PHONEMES, TimedPhoneme
from avgen.preparation.encode import encode_voices
from avgen.preparation.latent_store import load_statistics, read_latent_config, read_shapes
from avgen.preparation.merge import merge
from avgen.training.batches import Buckets, Packs
from avgen.training.clip_latents import References, Stretches
from avgen.training.data import ClipData
from avgen.training.optimization import OptimizerConfig
from avgen.training.sample import LossWeights, TextDrops
from avgen.training.system import DiffusionSystem, NetworkConfig
from avgen.training.teacher import DistillationConfig, Teacher

pytestmark = pytest.mark.filterwarnings("ignore")
PLAIN = TextDrops(both=0.0, caption=0.0, speech=0.0, given_speech=0.0)
EXPRESSIONS = 3
ALL = Packs(max_tokens=10**6, longest_s=10.0)


def make_system(folder, tasks=None, drops=PLAIN, **network):
    torch.manual_seed(0)
    system = DiffusionSystem(
        folder,
        NetworkConfig(width=32, depth=2, num_heads=2, **network),
        OptimizerConfig(0.01, 1, 100),
        IndependentSigma(LogitNormal(0.0, 1.0, 0.2), {"video": 1.0, "audio": 1.0}),
        tasks or Tasks({"everything": 1.0}),
        drops,
        LossWeights(expressions=0.25),
    )
    for parameter in system.transformer.parameters():  # a new model answers 0
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return system


@pytest.fixture
def faces(prepared_mixed) -> Path:
    """The mixed folder; the number of a frame, its clip and 0.5 are known of every second clip."""
    config, records = read_latent_config(prepared_mixed), []
    (prepared_mixed / "tracks").mkdir()
    known = read_manifest(prepared_mixed / "manifest.jsonl")
    for i, (record, shape) in enumerate(
        zip(known, read_shapes(prepared_mixed, known, config), strict=True)
    ):
        if i % 2 == 0:
            track = np.full((shape.num_frames, EXPRESSIONS), 0.5, np.float16)
            track[:, 0], track[:, 1] = np.arange(shape.num_frames), i
            np.save(prepared_mixed / "tracks" / f"{record.id}.npy", track)
            record = replace(record, tracks={"expressions": f"tracks/{record.id}.npy"})
        records.append(replace(record, speaker=f"s{i % 3}"))
    write_manifest(records, prepared_mixed / "manifest.jsonl")
    return prepared_mixed


def test_every_latent_frame_has_the_numbers_of_its_frames(faces):
    data = ClipData(faces, ALL, Stretches(1.0, 9))
    batch = next(iter(data.train_dataloader()))
    system = make_system(faces, num_expressions=EXPRESSIONS)
    for clip in batch["clips"]:
        if not clip.record.tracks:
            assert clip.expressions is None
            continue
        drawn = system.drawing([clip], [0], jitter=False)
        frames = round(clip.start_s * clip.shape.fps) + np.arange(9)
        expected = [[0, 0, 0, frames[0]], *np.reshape(frames[1:], (2, 4)).tolist()]
        assert drawn.expressions[0, :, :, 0].tolist() == expected
        assert drawn.known[0].tolist() == [[False] * 3 + [True], [True] * 4, [True] * 4]
        assert set(drawn.expressions[0][drawn.known[0]][:, 2].tolist()) == {0.5}


def test_faces_are_told_of_clips_that_have_them_through_little_noise(faces):
    system = make_system(faces, num_expressions=EXPRESSIONS)
    batch = next(iter(ClipData(faces, ALL).train_dataloader()))
    drawn = system.draw(batch, "train")
    assert isinstance(drawn.layout, PackedLayout)
    seen, start = drawn.seen_faces(system.weights), 0
    levels = set()
    for clip, tokens in zip(
        batch["clips"], drawn.sigma[0].split(drawn.layout.lengths), strict=True
    ):
        latents = 1 + (clip.shape.num_frames - 1) // 4
        own = seen[0, start : start + latents]
        start += latents
        low = float(tokens[system.drawing.layout(clip.shape).modality == VIDEO][0]) < 0.8
        levels.add(low)
        expected = clip.shape.num_frames if clip.record.tracks and low else 0
        assert int(own.sum()) == expected
    assert levels == {True, False}
    _, told = system.errors(drawn)
    target = drawn.expressions
    context = system.transformer.prepare(drawn.layout, drawn.text)
    noisy = (1 - drawn.sigma)[..., None] * drawn.clean + drawn.sigma[..., None] * drawn.noise
    _, made = system.transformer(noisy, drawn.sigma, context, with_expressions=True)
    torch.testing.assert_close(told, (made - target).square().mean(-1))
    plain = float(system.loss(drawn, "validation", 1))
    system.weights = replace(system.weights, expressions=0.0)
    without = float(system.loss(drawn, "validation", 1))
    mean = float((told * seen).sum() / seen.sum())
    assert plain - without == pytest.approx(0.25 * mean, rel=1e-4)
    sizes = torch.tensor([2.5, 0.3, 0.04])  # what is small counts as much as what is large
    system.weights = replace(system.weights, expression_scales=tuple(sizes.tolist()))
    _, told = system.errors(drawn)
    torch.testing.assert_close(told, ((made - target) / sizes).square().mean(-1))
    with pytest.raises(ValueError, match="num_expressions is 5; the clips' tracks have 3"):
        make_system(faces, num_expressions=5).errors(drawn)
    system.weights = replace(system.weights, expression_scales=(2.5, 0.3))
    with pytest.raises(ValueError, match=r"is 3; .* 3, weights.expression_scales 2"):
        system.errors(drawn)


def test_a_student_is_told_what_its_teacher_is_guided_to_tell_of_faces(faces, tmp_path):
    """Each clip by its own scale, at the noise level that its step starts from."""
    system = make_system(faces, num_expressions=EXPRESSIONS)
    save_module(system.transformer, tmp_path / "transformer", torch.float32)
    steps = StepDraws(0.0, 0.3, 1.5, 3.0)
    system.teacher = Teacher(DistillationConfig(tmp_path, steps))
    system.drawing = replace(system.drawing, steps=steps)
    batch = next(iter(ClipData(faces, ALL).train_dataloader()))
    drawn = system.draw(batch, "train")
    scales = [float(s[0, 0]) for s in drawn.levels.told[drawn.levels.index][..., 1].split(
        drawn.layout.lengths, 1)]  # fmt: skip
    assert len(set(scales)) == len(batch["clips"]) and min(scales) > 1.4
    noisy = (1 - drawn.sigma)[..., None] * drawn.clean + drawn.sigma[..., None] * drawn.noise
    everyone = torch.ones(len(scales), dtype=torch.bool)
    with torch.no_grad():
        cond, uncond = (
            system.transformer(
                noisy, drawn.sigma, system.transformer.prepare(drawn.layout, text), True
            )[1]
            for text in (drawn.text, drawn.text.drop(everyone, everyone))
        )
        _, told = system.teacher.targets(noisy, drawn)
        counts = [1 + (clip.shape.num_frames - 1) // 4 for clip in batch["clips"]]
        for own, base, made, scale in zip(
            *(x.split(counts, 1) for x in (cond, uncond, told)), scales, strict=True
        ):
            torch.testing.assert_close(made, base + scale * (own - base), atol=1e-5, rtol=1e-4)
        assert float((told - cond).abs().max()) > 0.01
        _, before = system.errors(drawn)
        torch.testing.assert_close(before, (cond - told).square().mean(-1), atol=1e-6, rtol=1e-4)


def test_of_several_processes_each_has_a_gradient_of_the_head(faces, monkeypatch):
    """Where its clips have no faces too: the others would wait for it."""
    system = make_system(faces, num_expressions=EXPRESSIONS)
    batch = next(iter(ClipData(faces, ALL, sound_share=1.0).train_dataloader()))
    monkeypatch.setattr("avgen.training.system.rank_and_world", lambda: (1, 2))
    drawn = system.draw(batch, "train")
    assert drawn.expressions is None
    errors, told = system.errors(drawn)
    errors.sum().backward()
    assert told is None
    assert system.transformer.expressions.weight.grad.abs().max() == 0
    assert system.transformer.blocks[0].mlp[0].weight.grad.abs().max() > 0


def test_a_reference_is_another_clip_of_the_same_speaker(faces):
    data = ClipData(faces, ALL, references=References(share=0.5, seconds=0.2))
    loader = data.train_dataloader()
    clips = [clip for _ in range(20) for batch in loader for clip in batch["clips"]]
    records = {record.id: record for record in read_manifest(faces / "manifest.jsonl")}
    voices = [clip for clip in clips if clip.voice is not None]
    assert all(clip.shape.has_sound for clip in voices)
    heard = [clip for clip in clips if clip.shape.has_sound]
    assert len(voices) / len(heard) == pytest.approx(0.3, abs=0.2)  # others may have no sound
    stored = {name: load_file(faces / "latents" / f"{name}.safetensors") for name in records}
    found = set()
    for clip in voices:
        (source,) = (
            name
            for name, latents in stored.items()
            if "audio" in latents and contains(latents["audio"], clip.voice)
        )
        assert source != clip.record.id
        assert records[source].speaker == clip.record.speaker
        found.add((clip.record.id, source))
    assert len(found) > 5
    assert any(clip.face is not None for clip in clips)
    system = make_system(faces, has_references=True)
    clip = replace(voices[0], face=voices[0].video[:, :1])
    drawn = system.drawing([clip, heard[0]], [0, 1], jitter=False)
    picture, sound = 1, -(-clip.voice.shape[1] // 3)
    assert int(drawn.reference.seen[0].sum()) >= picture + sound
    assert float(drawn.reference.seconds[0].max()) < 0
    assert drawn.reference.modality[0].tolist().count(AUDIO) >= sound
    assert float(system.loss(drawn, "validation", 2)) > 0


def contains(latents, part):
    """Whether a run of latents [C, T'] is somewhere in [C, T]."""
    width = part.shape[1]
    return any(
        torch.equal(latents[:, i : i + width], part) for i in range(latents.shape[1] - width + 1)
    )


def test_sound_alone_trains_what_is_the_sounds(prepared_mixed):
    data = ClipData(prepared_mixed, ALL, sound_share=1.0)
    (batch, *_) = data.train_dataloader()
    system = make_system(prepared_mixed, Tasks({"sound and picture": 0.9, "everything": 0.1}))
    drawn = system.draw(batch, "train")
    assert set(drawn.layout.modality.tolist()) == {AUDIO}
    assert not drawn.given.any()
    system.training_step(batch, 0).backward()
    network = system.transformer
    assert float(network.outward[AUDIO].weight.grad.abs().max()) > 0
    assert not bool(network.outward[VIDEO].weight.grad.any())
    with pytest.raises(ValueError, match="a clip without picture has nothing to learn by sound"):
        make_system(prepared_mixed, Tasks({"sound": 1.0})).draw(batch, "train")


def test_phonemes_of_a_corpus_are_heard_where_it_says(prepared_latents):
    timed = (
        TimedPhoneme("R", 0.02, 0.1),
        TimedPhoneme("EH1", 0.1, 0.2),
        TimedPhoneme("D", 0.3, 0.34),
    )
    batch = next(iter(ClipData(prepared_latents, Buckets(8, [0.36])).train_dataloader()))
    clip = replace(batch["clips"][0], record=replace(batch["clips"][0].record, phonemes=timed))
    system = make_system(prepared_latents)
    assert system.transformer.config.num_phonemes == len(PHONEMES)
    text = system.drawing([clip], [0], jitter=False).text
    spans = text.speech_spans[0][text.speech_mask[0]]
    torch.testing.assert_close(spans, torch.tensor([[0.02, 0.1], [0.1, 0.2], [0.3, 0.34]]))
    assert text.speech_ids[0, :3].tolist() == [PHONEMES.index(p.phoneme) for p in timed]
    for seed in range(50):
        moved = system.drawing.move(timed, torch.Generator().manual_seed(seed))
        assert moved[0].end_s == moved[1].start_s  # what followed without a gap still does
        assert moved[1].start_s != 0.1
        starts = [p.start_s for p in moved]
        assert starts == sorted(starts)
        assert all(p.end_s > p.start_s for p in moved)


@pytest.fixture
def voices(tmp_path) -> Path:
    """A corpus of four voices alone, one of 9.6 frames and others of 12.5, and two too short."""
    root = tmp_path / "voices"
    root.mkdir()
    records = []
    for i, length in enumerate([12000, 12000, 9240, 12000, 600, 0]):
        tone = np.sin(np.arange(length) * (0.03 + 0.01 * i)) * 9000
        with wave.open(str(root / f"{i}.wav"), "wb") as file:
            file.setnchannels(1), file.setsampwidth(2), file.setframerate(24000)
            file.writeframes(tone.astype("<i2").tobytes())
        split = "validation" if i == 3 else "train"
        phonemes = (TimedPhoneme("AA1", 0.1, 0.3),)
        records.append(
            ClipRecord(f"v{i}", f"{i}.wav", "voices", "ada", split, "a woman", (), None, "CC0",
                       phonemes=phonemes)
        )  # fmt: skip
    write_manifest(records, root / "manifest.jsonl")
    return root


def test_voices_become_latents_a_transformer_and_a_start(
    voices, prepared_latents, recipe, tmp_path, capsys
):
    """From a manifest to a trained transformer, that training with pictures goes on from."""
    codec = SpeechCodec(SpeechCodecConfig(num_cepstra=2, width=8, hidden=8, depth=1))
    folder, like = tmp_path / "sound", read_latent_config(prepared_latents)
    failures = encode_voices(voices, folder, codec, like)
    short, empty = failures
    assert "4.wav: 600 samples; less than a frame" in short
    assert "5.wav" in empty
    records = read_manifest(folder / "manifest.jsonl")
    shapes = read_shapes(folder, records, read_latent_config(folder))
    assert [shape.num_frames for shape in shapes] == [12, 12, 9, 12]  # 9.6: the sound of 9
    (batch, *_) = ClipData(folder, Buckets(3, [0.48])).train_dataloader()
    for clip in batch["clips"]:
        assert clip.video is None
        assert clip.audio.shape == (4, 27)  # 9 frames of 25 a second, 75 latents a second
        assert clip.record.phonemes[0].phoneme == "AA1"
    encode_voices(voices, folder, codec, like)  # again: nothing changes
    assert read_latent_config(folder).fingerprint.startswith(".")

    recipe["model"]["init_args"] |= {"folder": str(folder)}
    recipe["model"]["init_args"]["tasks"]["weights"] = {"everything": 1.0}
    recipe["data"]["init_args"] |= {"folder": str(folder)}
    recipe["data"]["init_args"]["batching"]["init_args"]["lengths_s"] = [0.48]
    recipe["trainer"] |= {"max_steps": 2, "default_root_dir": str(tmp_path / "run")}
    recipe["trainer"]["callbacks"][1] = {"class_path": "avgen.training.saving.Saving"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    config = ["--config", str(tmp_path / "recipe.yaml")]
    assert cli.main(["train", *config]) == 0
    last = ["--checkpoint", str(tmp_path / "run/last.ckpt")]
    assert cli.main(["export", *config, *last, "-o", str(tmp_path / "start")]) == 0
    state = torch.load(tmp_path / "run/last.ckpt", weights_only=False)
    assert state["global_step"] == 2

    both = tmp_path / "both"
    latents = prepared_latents / "latents/config.json"
    audio = read_latent_config(folder).fingerprint
    latents.write_text(json.dumps(json.loads(latents.read_text()) | {"fingerprint": f"v{audio}"}))
    merge([folder, prepared_latents], both)
    assert read_latent_config(both).fingerprint == f"v{audio}"
    started = make_plain(both, tmp_path / "start/model.safetensors", num_expressions=2)
    name = "blocks.0.attention.inward.weight"
    expected = state["state_dict"][f"transformer.{name}"]
    torch.testing.assert_close(started.transformer.state_dict()[name], expected)
    assert started.audio_statistics == load_statistics(folder)[1] != load_statistics(both)[1]
    assert started.video_statistics == load_statistics(both)[0]


def make_plain(folder, weights, **network):
    return DiffusionSystem(
        folder,
        NetworkConfig(width=32, depth=1, num_heads=2, initial_weights=weights, **network),
        OptimizerConfig(0.01, 1, 100),
        IndependentSigma(LogitNormal(0.0, 1.0, 0.2), {"video": 1.0, "audio": 1.0}),
        Tasks(),
        PLAIN,
        LossWeights(),
    )
