"""Whose face and whose voice: the asked-for one above another, whole clips above clips that drift.

With the networks of dlib and Resemblyzer, on real people; skipped where either is missing.
"""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from avgen.clips import Clip, read_clip, write_clip
from avgen.evaluation.faces.identity import face_embedding, similarity, upright_face
from avgen.evaluation.rows import read_rows
from avgen.evaluation.run.runner import Request, evaluate
from avgen.evaluation.subject import Unscored


@pytest.fixture(scope="module")
def people(clips_folder, tmp_path_factory):
    """Clips of two people; a third that turns from the one into the other; and their persons."""
    pytest.importorskip("dlib")
    root, grid = tmp_path_factory.mktemp("people"), clips_folder / "grid" / "others"
    clips = [read_clip(grid / f"{name}.mpg") for name in ("brbk7n", "lrwp9a")]
    (root / "made").mkdir()
    (root / "persons").mkdir()
    for name, clip in zip("ab", clips, strict=True):
        write_clip(clip, root / "made" / f"{name}.mkv")
        first = Clip(clip.frames[:1], clip.fps)
        write_clip(first, root / "persons" / f"{name}.mkv")
        (root / "persons" / f"{name}.mkv").rename(root / "persons" / f"{name}.png")
    one, other = clips
    half = np.concatenate([one.frames[:38], other.frames[:37]])
    sound = np.concatenate([one.waveform[:, :66_000], other.waveform[:, :66_000]], 1)
    write_clip(Clip(half, Fraction(25), sound, one.sample_rate), root / "made" / "turns.mkv")
    return root


def test_embeddings_tell_people_apart(people):
    frames = [read_clip(people / "made" / f"{name}.mkv").frames for name in "ab"]
    one, again = face_embedding(frames[0][:20]), face_embedding(frames[0][-20:])
    other = face_embedding(frames[1])
    assert similarity(one, one) == 1
    assert similarity(one, again) > 0.8 > 0.5 > similarity(one, other)  # 0.91 and 0.40
    with pytest.raises(Unscored, match="no face"):
        face_embedding(np.zeros((3, 64, 64, 3), np.uint8))


def test_a_turned_face_is_turned_back(people):
    """Twenty degrees and a third larger: its eyes come out where they were."""
    frame = read_clip(people / "made" / "a.mkv").frames[3]
    height, width = frame.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 20, 1.3)
    turned = cv2.warpAffine(frame, matrix, (width, height))
    upright, again = (upright_face(x, 96, padding=0.15) for x in (frame, turned))
    assert upright.shape == (96, 96, 3)
    assert np.corrcoef(upright.ravel(), again.ravel())[0, 1] > 0.9
    assert np.corrcoef(frame.ravel(), turned.ravel())[0, 1] < 0.8
    with pytest.raises(Unscored, match="no face"):
        upright_face(np.zeros((64, 64, 3), np.uint8), 96, padding=0.15)


def test_a_report_of_identity_and_of_drift(people, tmp_path):
    request = Request(
        people / "made", metrics=["identity", "face_drift"], persons=people / "persons"
    )
    evaluate(request, tmp_path / "r")
    rows = {row["id"]: row["metrics"] for row in read_rows(tmp_path / "r")}
    own = rows["a.mkv"]["identity"]
    assert own["values"]["similarity"] > 0.6 and own["values"]["last_second"] > 0.6
    assert rows["turns.mkv"]["identity"]["reason"].startswith("skipped: no picture of the person")
    assert rows["a.mkv"]["face_drift"]["values"]["kept"] > 0.9
    turns = rows["turns.mkv"]["face_drift"]["values"]
    assert turns["kept"] < 0.6 < turns["within_first"]
    mismatched = [rows[f"{name}.mkv"]["face_drift"]["controls"]["mismatched"] for name in "ab"]
    assert min(one["values"]["kept"] for one in mismatched) < 0.6


def test_a_report_of_voices(people, tmp_path):
    pytest.importorskip("resemblyzer")
    pair = tmp_path / "pair"  # without the clip that has both voices
    pair.mkdir()
    for name in ("a.mkv", "b.mkv"):
        (pair / name).symlink_to(people / "made" / name)
    request = Request(pair, pair, metrics=["speaker"])
    evaluate(request, tmp_path / "r")
    made = [row for row in read_rows(tmp_path / "r") if row["set"] == "clips"]
    rows = {row["id"]: row["metrics"]["speaker"] for row in made}
    assert rows["a.mkv"]["values"]["similarity"] == pytest.approx(1, abs=1e-5)
    for name in ("a.mkv", "b.mkv"):
        other = rows[name]["controls"]["mismatched"]["values"]["similarity"]
        assert other < rows[name]["values"]["similarity"] - 0.1
