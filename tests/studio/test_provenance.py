"""Marks that are found, marks that are not there, signatures and what becomes of them."""

import io
import json
import shutil
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from avgen.clips import Clip, read_clip, write_clip
from avgen.provenance import certificates, picture_mark, signer, signing, sound_mark
from avgen.provenance.findings import verify
from avgen.provenance.mark_key import signs
from avgen.provenance.marking import Marks

RATE = 24000


@pytest.fixture(scope="module")
def scene():
    """A face-like picture that moves a little, and a voice-like sound, 2 s."""
    rows, columns = np.mgrid[0:128, 0:128] / 128
    generator = np.random.default_rng(3)
    grain = generator.normal(0, 3, (128, 128))
    frames = []
    for t in range(50):
        away = np.hypot(rows - 0.55 - 0.01 * np.sin(t / 5), (columns - 0.5) * 1.3)
        face = 200 * (away < 0.35) * (1 - away) + 30 * np.sin(40 * rows) * (away < 0.2)
        frames.append(60 + face + 40 * columns + grain)
    picture = np.clip(np.stack(frames), 0, 255).astype(np.uint8)
    seconds = np.arange(2 * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 120 * k * seconds) / k for k in range(1, 30))
    voice *= 0.1 * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * seconds))
    voice += generator.normal(0, 0.004, voice.shape)
    return Clip(
        np.repeat(picture[..., None], 3, -1), Fraction(25), voice[None].astype(np.float32), RATE
    )


@pytest.fixture(scope="module")
def marked(scene):
    return picture_mark.embed(scene.frames), sound_mark.embed(scene.waveform, RATE)


def test_the_key_is_the_same_for_ever():
    bits = [[-1, -1, 1, 1, 1, -1, 1, -1], [-1, -1, 1, 1, -1, 1, 1, 1]]
    assert signs("avgen/1", "picture", 2, 8).tolist() == bits


def identity(folder=None):
    """Whom clips are signed by."""
    found = signer.load(folder)
    assert found is not None
    return found


def psnr(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


def test_marks_are_faint_and_found_after_the_encoders(scene, marked, tmp_path):
    frames, waveform = marked
    assert psnr(frames, scene.frames) > 38
    assert waveform.shape == scene.waveform.shape
    error = waveform - scene.waveform
    assert 10 * np.log10((scene.waveform**2).sum() / (error**2).sum()) > 15
    write_clip(Clip(frames, scene.fps, waveform, RATE), tmp_path / "marked.mp4")
    write_clip(scene, tmp_path / "plain.mp4")
    found, plain = verify(tmp_path / "marked.mp4"), verify(tmp_path / "plain.mp4")
    assert (found.picture.state, found.sound.state) == ("detected", "detected")
    assert (plain.picture.state, plain.sound.state) == ("not_detected", "not_detected")
    assert found.is_marked
    assert not plain.is_marked
    assert "does not mean" in plain.verdict


def test_a_crop_and_a_cut_are_found(marked):
    frames, waveform = marked
    assert picture_mark.find(frames[9:, 6:122, 6:122]) > picture_mark.THRESHOLD
    assert sound_mark.find(waveform[:, 7001:], RATE) > sound_mark.THRESHOLD


def garden(seed):
    """Leaves and branches: texture of every size, 1 s at 128 x 128, standard deviation 20."""
    noise = np.random.default_rng(seed).normal(size=(128, 128))
    far = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)) + 1 / 128
    picture = np.fft.ifft2(np.fft.fft2(noise) / far).real
    picture = np.clip(110 + 20 * picture / picture.std(), 0, 255).astype(np.uint8)
    return np.broadcast_to(picture[None, ..., None], (25, 128, 128, 3))


def test_however_loud_a_picture_is_its_mark_is_40_db_below_it():
    """Blocks of any level; each frame has its own bound, and a quiet one is marked as ever."""
    rng = np.random.default_rng(2)
    loud = rng.integers(40, 215, (4, 32, 32, 1)).repeat(4, 1).repeat(4, 2).repeat(3, 3)
    quiet = garden(3)[:4]
    marked = picture_mark.embed(np.concatenate([loud, quiet]).astype(np.uint8))
    assert all(40 < psnr(made, frame) < 40.6 for made, frame in zip(marked[:4], loud, strict=True))
    assert np.array_equal(marked[4:], picture_mark.embed(quiet))
    assert picture_mark.find(marked[:4]) > picture_mark.THRESHOLD


def test_before_a_garden_it_is_found_cropped_and_encoded():
    for seed in (3, 5, 8):
        frames = garden(seed)
        marked = picture_mark.embed(frames)
        assert psnr(marked, frames) > 40
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "28"})
            stream.height, stream.width, stream.pix_fmt = 116, 116, "yuv420p"
            for frame in marked[:, 6:122, 6:122]:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        with av.open(io.BytesIO(file.getvalue())) as container:
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert picture_mark.find(np.stack(decoded)) > picture_mark.THRESHOLD


def test_a_picture_that_is_smooth_in_parts_is_read():
    frames = np.random.default_rng(3).integers(0, 256, (4, 96, 96, 3)).astype(np.uint8)
    frames[:, 40:, 40:] = 128  # sums of nothing, as differences of large ones
    assert np.isfinite(picture_mark.whitened(picture_mark.luma(frames[0]))).all()
    assert picture_mark.find(picture_mark.embed(frames)) > picture_mark.THRESHOLD


def test_another_key_is_not_found(marked):
    frames, waveform = marked
    zs = [picture_mark.find(frames, f"other {i}") for i in range(3)]
    zs += [sound_mark.find(waveform, RATE, f"other {i}") for i in range(10)]
    assert max(zs) < picture_mark.THRESHOLD


def test_pieces_are_marked_as_the_whole_and_what_is_given_stays(scene):
    whole = sound_mark.embed(scene.waveform, RATE)
    marker = sound_mark.Marker(RATE)
    edges = [0, 1, 500, 20_000, 20_001, 2 * RATE]
    pieces = [marker.push(scene.waveform[:, a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    pieces.append(marker.push(scene.waveform[:, :0], True))
    np.testing.assert_array_equal(np.concatenate(pieces, 1), whole)
    marks = Marks(10, RATE, RATE)
    frames = np.concatenate([marks.frames(scene.frames[:25]), marks.frames(scene.frames[25:])])
    assert np.array_equal(frames[:10], scene.frames[:10])
    assert not np.array_equal(frames[10], scene.frames[10])
    np.testing.assert_array_equal(frames[10:], picture_mark.embed(scene.frames[10:]))
    parts = [marks.sound(scene.waveform, False), marks.sound(scene.waveform[:, :0], True)]
    sound = np.concatenate(parts, 1)
    assert sound.shape == scene.waveform.shape
    assert np.array_equal(sound[:, :RATE], scene.waveform[:, :RATE])
    assert not np.array_equal(sound[:, RATE:], scene.waveform[:, RATE:])
    voiced = Marks(0, None, RATE)
    assert voiced.sound(scene.waveform, True) is scene.waveform
    small = scene.frames[:2, :64, :64]
    assert picture_mark.embed(small) is small


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Whoever signs, and a stranger."""
    base = tmp_path_factory.mktemp("config")
    certificates.create("Somebody", base / "own")
    certificates.create("Else", base / "stranger")
    return base


@pytest.fixture
def signed(scene, folders, tmp_path, monkeypatch):
    """A signed clip, looked at by who signed it."""
    monkeypatch.setenv("AVGEN_CONFIG", str(folders / "own"))
    path = tmp_path / "a.mp4"
    small = Clip(scene.frames[:25], scene.fps, scene.waveform[:, :RATE], RATE)
    write_clip(small, path, metadata={"comment": "made"})
    assert signing.sign(path, identity()) == path
    return path


def test_own_clips_are_trusted_and_changed_ones_are_not(signed, folders, monkeypatch, tmp_path):
    found = verify(signed).c2pa
    assert (found.state, found.signer, found.ai, found.where) == (
        "trusted",
        "Somebody",
        True,
        "embedded",
    )
    assert found.generator.startswith("avgen")
    assert (folders / "own" / "key.pem").stat().st_mode & 0o077 == 0
    content = signed.read_bytes()
    place = content.index(b"mdat") + 400
    for name, changed in (
        ("bit", content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]),
        ("tag", content.replace(b"made", b"real", 1)),
        ("claim", content.replace(b"AI-generated", b"camera-taken", 1)),
    ):
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(changed)
        assert verify(path).c2pa.state == "invalid", name
        assert verify(path).is_tampered
    monkeypatch.setenv("AVGEN_CONFIG", str(folders / "stranger"))
    assert verify(signed).c2pa.state == "valid"
    remuxed = tmp_path / "remuxed.mp4"
    write_clip(read_clip(signed), remuxed)
    assert verify(remuxed).c2pa.state == "not_present"


def test_an_ended_certificate_is_said_to_have_ended(scene, folders, tmp_path, monkeypatch):
    path = tmp_path / "old.mp4"
    write_clip(Clip(scene.frames[:25], scene.fps, scene.waveform[:, :RATE], RATE), path)
    # Signed while the certificate was good; it lasts 8.6 s from five minutes ago on.
    folder = tmp_path / "brief"
    monkeypatch.setenv("AVGEN_CONFIG", str(folder))
    certificates.create("Brief", folder, days=(300 + 4) / 86400)
    until = time.monotonic() + 5
    signing.sign(path, identity())
    assert verify(path).c2pa.state == "trusted"
    time.sleep(max(0, until - time.monotonic()))
    found = verify(path)
    assert found.c2pa.state == "expired"
    assert not found.is_tampered
    assert found.is_marked


def test_beside_a_container_that_holds_none_and_what_was_given(scene, folders, tmp_path):
    own = identity(folders / "own")
    small = Clip(scene.frames[:25], scene.fps, scene.waveform[:, :RATE], RATE)
    write_clip(small, tmp_path / "given.mp4")
    signing.sign(tmp_path / "given.mp4", own)
    for name in ("a.mkv", "b.mp4"):
        path = tmp_path / name
        write_clip(small, path)
        place = signing.sign(path, own, {"extend": tmp_path / "given.mp4"})
        assert place.name == ("a.mkv.c2pa" if name == "a.mkv" else "b.mp4")
        assert signing.read(path, (own.root,)).state == "trusted"
    content = bytearray((tmp_path / "a.mkv").read_bytes())
    content[-300] ^= 1
    (tmp_path / "a.mkv").write_bytes(bytes(content))
    assert signing.read(tmp_path / "a.mkv").state == "invalid"
    assert b"inputTo" in (tmp_path / "b.mp4").read_bytes()


def test_the_commands(scene, marked, tmp_path, monkeypatch, capsys):
    from avgen.cli import main

    monkeypatch.setenv("AVGEN_CONFIG", str(tmp_path / "config"))
    assert main(["provenance", "init", "--name", "Me"]) == 0
    assert main(["provenance", "init"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    path = tmp_path / "a.mp4"
    write_clip(Clip(marked[0], scene.fps, marked[1], RATE), path)
    shutil.copy(path, tmp_path / "unsigned.mp4")
    signing.sign(path, identity())
    assert main(["verify", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["c2pa"]["state"] == "trusted"
    assert said["picture"]["z"] > picture_mark.THRESHOLD
    assert main(["verify", str(tmp_path / "unsigned.mp4")]) == 0
    assert "none, which says nothing" in capsys.readouterr().out
    write_clip(scene, tmp_path / "plain.mp4")
    assert main(["verify", str(tmp_path / "plain.mp4")]) == 1
    (tmp_path / "text.mp4").write_text("no video")
    assert main(["verify", str(tmp_path / "text.mp4")]) == 2
