"""What SyncNet is shown: the tracks and the crops of the released scripts."""

import ast
import os
import subprocess
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import wavfile

from avgen.evaluation.subject import Unscored
from avgen.evaluation.syncnet.crops import (
    JOONSON,
    LATENTSYNC,
    VARIANTS,
    WAV2LIP,
    crops,
    face_tracks,
    whole_frames,
)


def face(num_frames, side=120.0, x=50.0):
    return np.tile([x, 40.0, side, side], (num_frames, 1))


def test_a_track_must_be_seen_in_more_frames_than_the_protocol_says():
    for variant, least in ((JOONSON, 101), (LATENTSYNC, 51)):
        assert len(face_tracks(face(least), variant.min_track)) == 1
        with pytest.raises(Unscored, match=f"{least - 1} frames at most.*more than {least - 1}"):
            face_tracks(face(least - 1), variant.min_track)


def test_a_face_may_be_missing_for_24_frames_and_its_boxes_are_interpolated():
    boxes = face(130)
    boxes[:, 0] = np.arange(130)
    boxes[60:84] = np.nan
    (track,) = face_tracks(boxes, JOONSON.min_track)
    assert (track.first, len(track.boxes)) == (0, 130)
    assert np.allclose(track.boxes[:, 0], np.arange(130))
    boxes[84] = np.nan
    with pytest.raises(Unscored, match="60 frames at most"):
        face_tracks(boxes, JOONSON.min_track)
    first, second = face_tracks(boxes, min_track=40)
    assert (first.first, len(first.boxes), second.first, len(second.boxes)) == (0, 60, 85, 45)


def test_a_face_that_jumps_is_another_track():
    boxes = np.concatenate([face(60), face(70, x=300)])
    first, second = face_tracks(boxes, min_track=50)
    assert (first.first, second.first, len(second.boxes)) == (0, 60, 70)


def test_a_face_must_be_large():
    assert face_tracks(face(120, side=100.5), JOONSON.min_track)
    with pytest.raises(Unscored, match="100 pixels large; the protocol needs more than 100"):
        face_tracks(face(120, side=100), JOONSON.min_track)
    with pytest.raises(Unscored, match="no face"):
        face_tracks(np.full((120, 4), np.nan), JOONSON.min_track)


def test_the_crop_reaches_where_the_script_s_does():
    # Red counts columns and green rows. The box is at x 100 to 220, y 60 to 180: its middle is
    # (160, 120), its half side 60, so columns are 160 +- 84 and rows 60 to 120 + 108.
    frames = np.zeros((20, 240, 256, 3), np.uint8)
    frames[..., 0], frames[..., 1] = np.arange(256), np.arange(240)[:, None]
    boxes = np.tile([100.0, 60, 120, 120], (20, 1))
    (track,) = face_tracks(boxes, min_track=10)
    crop = crops(frames, track)[10].astype(int)
    assert crop.shape == (224, 224, 3)
    assert (crop[0, 0, :2].tolist(), crop[-1, -1, :2].tolist()) == ([76, 60], [243, 227])
    # The picture ends at row 240: below it is grey.
    (track,) = face_tracks(boxes + np.array([0, 40, 0, 0]), min_track=10)
    assert crops(frames, track)[10, -1].tolist() == [[110, 110, 110]] * 224


def test_a_whole_frame_is_squeezed_to_a_square():
    frames = np.zeros((2, 448, 112, 3), np.uint8)
    frames[:, :224, :, 0] = frames[:, :, :56, 1] = 200
    square = whole_frames(frames)
    assert square.shape == (2, 224, 224, 3)
    assert square[0, [0, 110, 113, -1], 5, 0].tolist() == [200, 200, 0, 0]
    assert square[0, 5, [0, 110, 113, -1], 1].tolist() == [200, 200, 0, 0]


def test_variants_have_names_and_protocols():
    assert list(VARIANTS) == ["lse@joonson", "lse@wav2lip", "lse@latentsync"]
    assert JOONSON.protocol == "avgen-lse@joonson/1"
    assert [v.min_track for v in VARIANTS.values()] == [100, None, 50]
    assert VARIANTS["lse@wav2lip"] is WAV2LIP


def test_tracks_and_crops_are_the_released_script_s(tmp_path, monkeypatch):
    folder = os.environ.get("AVGEN_SYNCNET_REFERENCE")
    if not folder:
        pytest.skip("set AVGEN_SYNCNET_REFERENCE to a checkout of joonson/syncnet_python")
    frames = np.random.default_rng(1).integers(0, 256, (150, 240, 320, 3), dtype=np.uint8)
    boxes = face(150) + np.random.default_rng(0).normal(0, 3, (150, 4))
    boxes[30:50] = np.nan
    script = ast.parse((Path(folder) / "run_pipeline.py").read_text())
    kept = [
        node
        for node in script.body
        if isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom)
    ]
    kept = [n for n in kept if "scenedetect" not in ast.dump(n) and "S3FD" not in ast.dump(n)]
    theirs = {}
    exec(compile(ast.Module(kept, []), "run_pipeline.py", "exec"), theirs)

    options = Namespace(num_failed_det=25, min_track=100, min_face_size=100, crop_scale=0.4)
    options.frame_rate, options.reference = 25, "clip"
    options.frames_dir = options.tmp_dir = options.avi_dir = str(tmp_path)
    seen = [
        [{"frame": t, "bbox": [b[0], b[1], b[0] + b[2], b[1] + b[3]]}] if b[0] == b[0] else []
        for t, b in enumerate(boxes)
    ]
    (expected,) = theirs["track_shot"](options, seen)
    (found,) = face_tracks(boxes, JOONSON.min_track)
    assert np.array_equal(expected["frame"], found.first + np.arange(len(found.boxes)))
    corners = np.concatenate([found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]], 1)
    assert np.abs(expected["bbox"] - corners).max() < 1e-9

    (tmp_path / "clip").mkdir()
    for index, frame in enumerate(frames):
        data = cv2.imencode(".png", frame[..., ::-1])[1]
        (tmp_path / "clip" / f"{index:06d}.jpg").write_bytes(data.tobytes())
    wavfile.write(tmp_path / "clip" / "audio.wav", 16_000, np.zeros(96_000, np.int16))
    written = []

    class Writer:
        """What the script writes its crops with."""

        def __init__(self, *_):
            pass

        def write(self, image):
            written.append(image[..., ::-1])

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoWriter", Writer)
    monkeypatch.setattr(subprocess, "call", lambda *_, **__: 0)
    monkeypatch.setattr(os, "remove", lambda *_: None)
    theirs["crop_video"](options, expected, str(tmp_path / "crop"))
    difference = np.stack(written).astype(int) - crops(frames, found)
    assert np.abs(difference).max() == 0
