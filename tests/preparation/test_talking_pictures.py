"""A folder of portraits becomes clips, the same bytes however often a run is stopped."""

import json
import wave
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest

from avgen.cli import main
from avgen.clips.timed_words import Word
from avgen.corpora.manifest import ClipRecord, read_manifest, write_manifest
from avgen.corpora.portraits.deformation import TRACK
from avgen.corpora.portraits.heads import Portrait
from avgen.errors import UserError
from avgen.models.phonemes import TimedPhoneme
from avgen.preparation.outcome import read_outcome
from avgen.preparation.talking_pictures import PortraitRequest, choose_lines, prepare_portraits

RATE = 24_000


def line(speaker, number=0, split="train", sex="woman", age="young"):
    record = ClipRecord(
        f"{speaker}-{number}", f"{speaker}-{number}.wav", "voices", speaker, split, "", (), None,
        "free", labels={"sex": sex, "age": age, "voice": "a clear voice"},
    )  # fmt: skip
    return Path("voices"), record


def test_a_portrait_keeps_one_voice_of_its_kind():
    lines = [line(f"w{k}", n) for k in range(3) for n in range(4)]
    lines += [line("m", n, sex="man") for n in range(9)]
    lines += [line("o", n, age="old") for n in range(9)]
    train = [p for k in range(40) if (p := person(f"p{k}")).split == "train"]
    chosen = [choose_lines(portrait, lines, 3) for portrait in train]
    assert all(len({record.speaker for _, record in said}) == 1 for said in chosen)
    assert {said[0][1].speaker for said in chosen} == {"w0", "w1", "w2"}
    assert chosen == [choose_lines(portrait, lines[::-1], 3) for portrait in train]
    more = choose_lines(train[0], lines, 6)
    assert [record.speaker for _, record in more[:4]] == [more[0][1].speaker] * 4
    assert {record.labels["sex"] for _, record in more} == {"woman"}
    with pytest.raises(UserError, match="to say 30 things; voices of its kind and split say 21"):
        choose_lines(train[0], lines, 30)
    with pytest.raises(UserError, match="no train voice is a child's"):
        choose_lines(replace(train[0], about={"kind": "child"}), lines, 3)
    with pytest.raises(UserError, match="no voice is of the split 'train'"):
        choose_lines(train[0], [line("t", split="test")], 3)


def person(name):
    return Portrait(Path("x.png"), name, {"kind": "woman", "age": "young"})


@pytest.fixture
def portraits(clips_folder: Path) -> Path:
    folder = clips_folder.parent / "portraits"
    if not folder.is_dir() or not (clips_folder.parent / "models/face_landmarker.task").is_file():
        pytest.skip(f"no portraits at {folder} or no face_landmarker.task beside them")
    return folder


def write_voices(folder: Path) -> Path:
    """A tone that is "said": three phonemes, in every split."""
    folder.mkdir()
    times_s = np.arange(RATE) / RATE
    sound = (9000 * np.sin(2 * np.pi * 140 * times_s) * (times_s < 0.8)).astype("<i2")
    records = []
    for split in ("train", "validation", "test"):
        for number in range(2):
            path = folder / f"{split}{number}.wav"
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, RATE, 0, "NONE", ""))
                file.writeframes(sound.tobytes())
            phonemes = tuple(
                TimedPhoneme(name, 0.1 + 0.2 * k, 0.3 + 0.2 * k)
                for k, name in enumerate(("M", "AA1", "P"))
            )
            record = ClipRecord(
                path.stem, path.name, "voices", f"v-{split}", split, "", (Word("mop", 0.1, 0.7),),
                None, "CC0-1.0", phonemes=phonemes, labels={"voice": "a clear voice"},
            )  # fmt: skip
            records.append(record)
    write_manifest(records, folder / "manifest.jsonl")
    return folder


def everything(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_portraits_speak_and_a_stopped_run_gives_the_same_bytes(portraits, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rows = []
    for row in (portraits / "captions.jsonl").read_text().splitlines()[:2]:
        row = json.loads(row) | {"file": f"{json.loads(row)['id']}.jpg"}
        (pictures / row["file"]).write_bytes((portraits / "images" / row["file"]).read_bytes())
        rows.append(row)
    cv2.imwrite(str(pictures / "grey.png"), np.full((200, 200, 3), 128, np.uint8))
    (pictures / "broken.jpg").write_bytes(b"no picture")
    rows += [{"file": "grey.png", "id": "grey"}, {"file": "broken.jpg", "id": "broken"}]
    (pictures / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = PortraitRequest(
        pictures,
        [write_voices(tmp_path / "voices")],
        tmp_path / "once",
        portraits.parent / "models/face_landmarker.task",
        clips=2,
        size=(64, 64),
    )
    summary = prepare_portraits(request, lambda done, total: None)
    assert (summary.clips, summary.records, summary.records_kept) == (4, 4, 2)
    reasons = {
        name: read_outcome(tmp_path / f"once/outcomes/{name}.json").dropped[0].detail
        for name in ("grey", "broken")
    }
    assert reasons["grey"].startswith("no face") and "no picture" in reasons["broken"]
    record = read_manifest(tmp_path / "once/manifest.jsonl")[0]
    frames = np.load(tmp_path / "once" / record.media)
    track = np.load(tmp_path / "once" / record.tracks["expressions"])
    sound = np.load(tmp_path / f"once/waveforms/{record.id}.npy")
    assert frames.shape[1:] == (64, 64, 3) and len(track) == len(frames) >= 25
    assert sound.shape == (1, len(frames) * RATE // 25)
    assert json.loads((tmp_path / "once/tracks.json").read_text())["expressions"] == list(TRACK)
    assert record.phonemes is not None and record.phonemes[0].phoneme == "M"
    assert record.licence == "picture: CC0-1.0; voice: CC0-1.0" and record.labels["voice"]
    gap = track[:, TRACK.index("lipGap")].astype(float)
    middles_s = (np.arange(len(gap)) + 0.5) / 25
    m, vowel, _ = (
        gap[(middles_s > one.start_s) & (middles_s < one.end_s)] for one in record.phonemes
    )
    assert m.min() == pytest.approx(-0.05, abs=1e-3)  # pressed
    assert vowel.max() > 0.05
    again = replace(request, out=tmp_path / "again")

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_portraits(again, stop)
    assert not (tmp_path / "again/manifest.jsonl").exists()
    prepare_portraits(again, lambda done, total: None)
    assert everything(tmp_path / "again") == everything(tmp_path / "once")
    with pytest.raises(UserError, match="no portrait is called 'nobody'"):
        prepare_portraits(again, lambda done, total: None, ["nobody"])
    with pytest.raises(UserError, match="other seed; name another folder"):
        prepare_portraits(replace(again, seed=1), lambda done, total: None)


def test_the_command_says_what_is_missing(tmp_path, capsys):
    assert main(["prepare", "portraits", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "portraits need --voices" in capsys.readouterr().err
    voices = write_voices(tmp_path / "voices")
    given = ["--voices", str(voices), "--face-landmarker", str(tmp_path / "none.task")]
    assert main(["prepare", "portraits", str(tmp_path), str(tmp_path / "out"), *given]) == 2
    assert "no pictures" in capsys.readouterr().err
    (tmp_path / "a.png").write_bytes(b"x")
    assert main(["prepare", "portraits", str(tmp_path), str(tmp_path / "out"), *given]) == 2
    assert "none.task: not found" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
