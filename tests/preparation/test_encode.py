"""A prepared folder's latents: of both codecs, of voices, in shares, refused, replaced, renewed."""

import json
import os
import wave
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from avgen.cli import main
from avgen.clips import Clip, write_clip
from avgen.codecs.audio import AudioAutoencoder
from avgen.codecs.base import load_module, save_module
from avgen.codecs.encodec import EncodecAudio, EncodecAudioConfig
from avgen.codecs.speech import SpeechCodec, SpeechCodecConfig
from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig
from avgen.corpora.manifest import read_manifest
from avgen.errors import UserError
from avgen.preparation.encode import encode, encode_stills
from avgen.preparation.latent_store import (
    begin_latents,
    encoder_fingerprint,
    load_statistics,
    read_latent_config,
    read_shapes,
)
from avgen.preparation.run import Request, prepare
from avgen.preparation.settings import Settings
from avgen.preparation.store import Store

RATE = 24_000
SIZE = (32, 48)


@pytest.fixture
def codecs(tiny_model):
    return [load_module(tiny_model / name) for name in ("video_codec", "audio_codec")]


@pytest.fixture
def films(record, tmp_path):
    """Three clips with sound and one without, and a voice alone; their records."""
    root = tmp_path / "films"
    root.mkdir()
    draw = np.random.default_rng(3)
    for index in range(4):
        frames = draw.integers(0, 256, (9 + index, *SIZE, 3), np.uint8)
        sound = 0.4 * draw.standard_normal((1, (9 + index) * 960)).clip(-1, 1).astype(np.float32)
        clip = (frames, Fraction(25), sound, RATE) if index < 3 else (frames, Fraction(25))
        write_clip(Clip(*clip), root / f"c{index}.mkv")
    return root, [record(f"c{index}.mkv") for index in range(4)]


@pytest.fixture
def folder(films, tmp_path) -> Path:
    root, records = films
    settings = Settings(SIZE, stages="none", keep_silent=True)
    assert prepare(Request("own", root, tmp_path / "out", settings), records).clips == 4
    return tmp_path / "out"


def latents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "latents").iterdir()}


@torch.no_grad()
def test_latents_are_those_of_the_codecs(folder, codecs):
    encode(folder, *codecs)
    store, (video, audio) = Store(folder), codecs
    for index in range(4):
        found = load_file(store.latents(f"c{index}"))
        frames = torch.from_numpy(np.load(store.frames(f"c{index}")))
        pixels = frames.movedim(-1, 0)[None].float() / 127.5 - 1
        torch.testing.assert_close(found["video"], video.encode(pixels)[0])
        last = len(frames) - 1  # a still for every latent: frames 0, 4, 8, and the last
        for latent, frame in enumerate([0, 4, 8, last][: found["still"].shape[1]]):
            alone = video.encode(pixels[:, :, frame : frame + 1])[0, :, 0]
            torch.testing.assert_close(found["still"][:, latent], alone)
        assert ("audio" in found) == (index < 3)
        if index < 3:
            sound = np.load(store.waveform(f"c{index}")).astype(np.float32) / 32767
            expected = audio.encode(torch.from_numpy(sound)[None])[0]
            torch.testing.assert_close(found["audio"], expected)
    config = read_latent_config(folder)
    assert (config.height, config.width, config.fps) == (*SIZE, "25")
    shapes = read_shapes(folder, read_manifest(folder / "manifest.jsonl"), config)
    assert [shape.num_frames for shape in shapes] == [9, 10, 11, 12]
    assert [shape.has_sound for shape in shapes] == [True, True, True, False]
    seen = torch.cat([load_file(store.latents(f"c{i}"))["audio"] for i in range(3)], 1)
    assert load_statistics(folder)[1].mean == pytest.approx(seen.mean(1).tolist(), abs=1e-5)


def test_many_stills_are_as_one_by_one(codecs):
    pixels = torch.rand(1, 3, 4 * 20 + 1, 32, 32) * 2 - 1
    with torch.no_grad():
        found = encode_stills(pixels, codecs[0])
        assert found.shape[1] == 21
        for latent in (0, 15, 16, 20):
            alone = codecs[0].encode(pixels[:, :, 4 * latent : 4 * latent + 1])[0, :, 0]
            torch.testing.assert_close(found[:, latent], alone)


def test_a_picture_alone_is_its_own_still(folder, codecs):
    """A clip of one frame without sound is encoded once, and both names have it."""
    store, record = Store(folder), read_manifest(folder / "manifest.jsonl")[-1]
    frame = np.random.default_rng(8).integers(0, 256, (1, *SIZE, 3), np.uint8)
    store.write_clip(record.id, frame, None)
    encode(folder, *codecs, records=[record])
    found = load_file(store.latents(record.id))
    assert sorted(found) == ["still", "video"]
    pixels = torch.from_numpy(frame).movedim(-1, 0)[None].float() / 127.5 - 1
    with torch.no_grad():
        stills = encode_stills(pixels, codecs[0])
    for name in ("still", "video"):
        torch.testing.assert_close(found[name], stills)


def changed(codec, part: str):
    """The codec with one of the tensors of a part, another one."""
    name = next(n for n, t in codec.state_dict().items() if n.startswith(part) and t.ndim)
    with torch.no_grad():
        codec.state_dict()[name].add_(0.25)
    return codec


def test_latents_of_other_codecs_are_refused_and_replaced_when_asked(folder, codecs, tiny_model):
    encode(folder, *codecs)
    before = latents_of(folder)
    other = changed(load_module(tiny_model / "video_codec"), "encoder.")
    with pytest.raises(UserError, match="4 clips' latents of other codecs"):
        encode(folder, other, codecs[1])
    with pytest.raises(UserError, match="other codecs or patches"):
        encode(folder, *codecs, patches=(1, 3))
    assert latents_of(folder) == before
    encode(folder, changed(codecs[0], "decoder."), codecs[1])  # its latents are the same
    assert latents_of(folder) == before
    encode(folder, other, codecs[1], overwrite=True)
    after = latents_of(folder)
    assert after.keys() == before.keys()
    assert all(after[f"c{i}.safetensors"] != before[f"c{i}.safetensors"] for i in range(4))


def test_pictures_are_not_added_to_latents_of_voices_alone(folder, codecs):
    """Both can be trained on together, but a folder is of one kind."""
    video, audio = codecs
    encode(folder, video, audio)
    both = read_latent_config(folder)
    voices = replace(both, fingerprint=encoder_fingerprint(None, audio))
    assert both.fits(voices) and voices.fits(both)
    with pytest.raises(UserError, match="4 clips' latents of other codecs"):
        begin_latents(folder, voices)


def test_frames_that_were_cut_anew_are_encoded_anew(folder, codecs):
    encode(folder, *codecs)
    before, store = latents_of(folder), Store(folder)
    made = store.latents("c1").stat().st_mtime_ns
    store.write_array(store.frames("c1"), 255 - np.load(store.frames("c1")))
    os.utime(store.frames("c1"), ns=(made + 10**9, made + 10**9))
    os.utime(store.frames("c2"), ns=(made - 10**9, made - 10**9))
    encode(folder, *codecs)
    after = latents_of(folder)
    assert {name for name in after if after[name] != before[name]} == {
        "c1.safetensors",
        "statistics.json",
    }


def test_shares_give_the_bytes_of_one_and_frames_can_go(films, tmp_path, codecs):
    root, _ = films
    given = ["prepare", "folder", str(root)]
    options = ["--stages", "none", "--size", "32x48", "--keep-silent", "--engine", "process"]
    options += ["--codecs", str(tmp_path / "codecs")]
    for name, codec in zip(("video_codec", "audio_codec"), codecs, strict=True):
        save_module(codec, tmp_path / "codecs" / name, torch.float32)
    assert main([*given, str(tmp_path / "one"), *options, "--split-by", "clip"]) == 0
    for share in ("1", "0"):
        shares = ["--num-shards", "2", "--shard", share]
        out = [str(tmp_path / "two"), *options, "--split-by", "clip", "--no-frames", *shares]
        assert main([*given, *out]) == 0
        there = list((tmp_path / "two/latents").glob("*.safetensors"))
        assert len(there) == (4 if share == "0" else len(there)) > 0
        assert not list((tmp_path / "two/frames").iterdir())
    assert latents_of(tmp_path / "two") == latents_of(tmp_path / "one")
    assert main([*given, *out]) == 0  # again, without frames: nothing to do
    assert latents_of(tmp_path / "two") == latents_of(tmp_path / "one")
    assert main([*given, str(tmp_path / "no"), *options[:5], "--no-frames"]) == 2


def test_a_voice_alone_has_latents_of_sound_alone(record, films, tmp_path, codecs):
    root, records = films
    store = Store(tmp_path / "voices")
    Request("own", root, store.folder)

    sound = (8000 * np.sin(np.arange(24_000) / 30)).astype("<i2")
    with wave.open(str(root / "v.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(sound.tobytes())
    settings = Settings(SIZE, stages="none")
    prepare(Request("own", root, store.folder, settings), [*records[:1], record("v.wav")])
    speech = SpeechCodec(SpeechCodecConfig())
    encode(store.folder, codecs[0], speech)
    found = load_file(store.latents("v"))
    assert found.keys() == {"audio"} and found["audio"].shape == (24, 75)
    own = read_manifest(store.folder / "manifest.jsonl")
    film, voice = read_shapes(store.folder, own, read_latent_config(store.folder))
    assert (voice.num_frames, voice.has_picture, voice.has_sound) == (25, False, True)
    assert film.has_picture and json.loads((store.folder / "rates.json").read_text())["fps"] == "25"


def make_autoencoder(tiny_model):
    return load_module(tiny_model / "audio_codec")


@pytest.mark.parametrize("kind", ["video", "audio", "encodec"])
def test_two_weights_have_two_fingerprints(kind, tiny_model):
    def make():
        torch.manual_seed(5)
        if kind == "encodec":
            return EncodecAudio(EncodecAudioConfig(24000))
        return load_module(tiny_model / f"{kind}_codec")

    audio = AudioAutoencoder(make_autoencoder(tiny_model).config)

    def fingerprint(codec):
        return encoder_fingerprint(codec, audio).split(".")[0]

    plain = fingerprint(make())
    assert plain == fingerprint(make())
    parts = {name.split(".")[0] for name in make().state_dict()} - {"decoder"}
    for part in parts:
        assert fingerprint(changed(make(), f"{part}.")) != plain
    if kind != "encodec":  # of encodec's own model the decoder counts as well: to be sure
        assert fingerprint(changed(make(), "decoder.")) == plain


def test_what_moves_the_first_picture_changes_no_latent(tiny_model):
    def make(**more):
        torch.manual_seed(5)
        return ConvVideoCodec(ConvVideoCodecConfig(4, (16, 16, 16), (16, 16, 16), **more))

    audio = load_module(tiny_model / "audio_codec")
    moving = make(mover_widths=(8, 8, 8))
    assert encoder_fingerprint(moving, audio) == encoder_fingerprint(make(), audio)
    other = encoder_fingerprint(changed(moving, "mover."), audio)
    assert other == encoder_fingerprint(make(), audio)
    assert encoder_fingerprint(changed(make(), "encoder."), audio) != other


def test_a_formula_has_the_fingerprint_of_its_settings():
    plain = encoder_fingerprint(None, SpeechCodec(SpeechCodecConfig()))
    wider = encoder_fingerprint(None, SpeechCodec(SpeechCodecConfig(width=64)))  # the decoder's
    assert plain == wider and plain.startswith(".")
    assert plain != encoder_fingerprint(None, SpeechCodec(SpeechCodecConfig(num_cepstra=20)))
