"""What users throw at `avgen evaluate`: an answer or a reason for each file, no number of nothing.

The clips are drawn and spoken here: a puppet's head whose mouth follows the loudness of a buzz.
"""

import json
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from avgen.cli import main
from avgen.clips import Clip, write_clip
from avgen.evaluation.rows import read_rows
from avgen.evaluation.run.runner import Request, evaluate
from puppets.drawing import Pose, draw
from puppets.mouth import Mouth
from puppets.person import draw_puppet

FPS, RATE, SIZE, NUM_FRAMES = Fraction(25), 16_000, (144, 180), 60
METRICS = ("media", "sync", "onsets", "av_align@2025-02")


def opening(seed: int) -> np.ndarray:
    """How far a mouth is open, 0 to 1: syllables of about 4 frames, [NUM_FRAMES]."""
    syllables = np.random.default_rng(seed).uniform(-0.6, 1, NUM_FRAMES + 8)
    return np.clip(np.convolve(syllables, np.hanning(5) / 2, "same")[4:-4], 0, 1)


def buzz(openings: np.ndarray, seed: int) -> np.ndarray:
    """A sound as loud as a mouth is open, float32 [1, N]."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(len(openings) * RATE // 25) / RATE
    loudness = np.interp(seconds * 25, np.arange(len(openings)) + 0.5, openings)
    tones = [np.sin(2 * np.pi * 117 * k * seconds + rng.uniform(0, 6)) / k for k in range(1, 30)]
    noise = rng.normal(0, 0.1, len(seconds))
    return (0.1 * loudness * (np.sum(tones, 0) + noise)).astype(np.float32)[None]


def talking(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A puppet's frames and its sound."""
    openings, puppet = opening(seed), draw_puppet(seed)
    levels = np.round(openings * 12) / 12
    looks = {o: draw(puppet, Mouth(opening=float(o)), Pose(), SIZE) for o in np.unique(levels)}
    return np.stack([looks[o] for o in levels]), buzz(openings, seed)


def cartoon() -> tuple[np.ndarray, np.ndarray]:
    """A round yellow face whose mouth is an ellipse, and its sound."""
    frames, openings = [], opening(5)
    for value in openings:
        frame = np.full((*SIZE, 3), (120, 190, 250), np.uint8)
        cv2.circle(frame, (90, 75), 45, (255, 220, 60), -1)
        for x in (75, 105):
            cv2.circle(frame, (x, 60), 7, (255, 255, 255), -1)
            cv2.circle(frame, (x, 60), 3, (0, 0, 0), -1)
        cv2.ellipse(frame, (90, 95), (17, int(2 + 12 * value)), 0, 0, 360, (150, 30, 30), -1)
        frames.append(frame)
    return np.stack(frames), buzz(openings, 5)


def four_k(frames: np.ndarray) -> np.ndarray:
    """Frames enlarged to the height of 2160, between bars: uint8 [T, 2160, 3840, 3]."""
    large = [cv2.resize(frame, (2700, 2160)) for frame in frames]
    return np.pad(np.stack(large), ((0, 0), (0, 0), (570, 570), (0, 0)))


def mux(path: Path, frames: np.ndarray, waveform: np.ndarray | None) -> None:
    """A file that the project's own writer would refuse to write: float samples, sound alone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", 25) if len(frames) else None
        audio = container.add_stream("pcm_f32le" if len(frames) else "aac", RATE, layout="mono")
        if video is not None:
            video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv420p"
            for index, pixels in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                picture.pts, picture.time_base = index, Fraction(1, 25)
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        form = "flt" if len(frames) else "fltp"
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform), form, "mono")
        sound.sample_rate, sound.pts = RATE, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def write_files(folder: Path, frames: np.ndarray, sound: np.ndarray) -> None:
    """What is no video, whatever its name says."""
    (folder / "text.mp4").write_text("This is no video.\n")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "zeros.mp4").write_bytes(bytes(10_000))
    (folder / "link.mp4").symlink_to("nowhere.mp4")
    (folder / "folder.mp4").mkdir()
    cv2.imwrite(str(folder / "deep.png"), frames[0].astype(np.uint16) * 257)
    (folder / "picture.mp4").write_bytes((folder / "deep.png").read_bytes())
    whole = (folder / "talk.mp4").read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    mux(folder / "sound.mp4", frames[:0], sound)
    broken = sound.copy()
    broken[:, 1000:2000] = np.nan
    mux(folder / "nan.mkv", frames, broken)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    frames, sound = talking(0)
    other, other_sound = talking(6)
    still = np.repeat(frames[:1], NUM_FRAMES, 0)
    second = slice(0, RATE)
    clips = {
        "talk.mp4": (frames, sound),
        "other.mp4": (other, other_sound),
        "mute.mp4": (frames, None),
        "silence.mp4": (frames, 0 * sound),
        "one_frame.mkv": (frames[:1], sound[:, : RATE // 25]),
        "short.mp4": (frames[:8], sound[:, : 8 * RATE // 25]),
        "two.mp4": (np.concatenate([frames, other], 2), sound),
        "leaves.mp4": (np.concatenate([frames[:35], np.full_like(frames[35:], 90)]), sound),
        "wall.mp4": (np.roll(np.full_like(frames, 128), 1), sound),
        "still.mp4": (still, sound),
        "cartoon.mp4": cartoon(),
        "odd_size.mkv": (frames[:, :-3, :-5], sound),
        "tiny.mkv": (frames[:, ::16, ::16], sound),
        "stereo.mp4": (frames, np.concatenate([sound, 0.3 * sound])),
        "surround.mp4": (frames, np.concatenate([g * sound for g in (1, 0.5, 0.9, 0, 0.1, 0.2)])),
        "sound_ends.mkv": (frames, np.pad(sound[:, second], ((0, 0), (0, 1)))),
        "uhd_start.mp4": (four_k(frames[:4]), sound[:, : 4 * RATE // 25]),
    }
    for name, (pictures, waveform) in clips.items():
        rate = None if waveform is None else RATE
        write_clip(Clip(pictures, FPS, waveform, rate), folder / name)
    write_files(folder, frames, sound)
    return folder


@pytest.fixture(scope="module")
def rows(folder, tmp_path_factory) -> dict[str, dict]:
    """A row of each file. A second of 4K is spared optical flow, which takes a minute of it."""
    reports, large = tmp_path_factory.mktemp("reports"), tmp_path_factory.mktemp("large")
    frames, sound = talking(0)
    write_clip(Clip(four_k(frames[:25]), FPS, sound[:, :RATE], RATE), large / "uhd.mp4")
    evaluate(Request(folder, metrics=METRICS), reports / "report")
    evaluate(Request(large, metrics=METRICS[:-1]), reports / "large")
    return {row["id"]: row for name in ("report", "large") for row in read_rows(reports / name)}


def test_every_file_has_a_row_and_none_is_a_crash(folder, rows):
    videos = {path.name for path in folder.iterdir()} - {"deep.png", "folder.mp4"}
    assert rows.keys() == videos | {"uhd.mp4"}
    for row in rows.values():
        assert all(result["status"] != "failed" for result in row["metrics"].values()), row


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text.mp4", "is no media file that can be read"),
        ("empty.mp4", "is empty"),
        ("zeros.mp4", "is no media file that can be read"),
        ("link.mp4", "there is no such file"),
        ("half.mp4", "is cut short or damaged"),
        ("sound.mp4", "has sound only; a video is needed"),
        ("picture.mp4", "has no sound"),
        ("mute.mp4", "has no sound"),
        ("nan.mkv", "samples that are no numbers"),
        ("one_frame.mkv", "lasts 0.04 s; an offset needs 1 s"),
    ],
)
def test_what_cannot_be_measured_has_its_reason_and_not_one_number(rows, name, reason):
    row = rows[name]
    assert row["status"] == "failed"
    assert reason in row["reason"]
    assert not any("values" in row["metrics"][metric] for metric in METRICS[1:])


@pytest.mark.parametrize(
    ("name", "metric", "reason"),
    [
        ("silence.mp4", "sync", "the sound is silent"),
        ("silence.mp4", "onsets", "the sound is silent"),
        ("silence.mp4", "av_align@2025-02", "the sound is silent"),
        ("short.mp4", "sync", "lasts 0.32 s; an offset needs 1 s"),
        ("short.mp4", "onsets", "8 frames are too few"),
        ("one_frame.mkv", "av_align@2025-02", "one frame"),
        ("two.mp4", "sync", "2 faces were found: which one speaks is not known"),
        ("leaves.mp4", "sync", "the face is seen in 31 of 60 frames only"),
        ("wall.mp4", "sync", "no face was found"),
        ("wall.mp4", "onsets", "nothing moves in the picture"),
        ("wall.mp4", "av_align@2025-02", "nothing moves in the picture"),
        ("still.mp4", "sync", "the face does not move"),
        ("still.mp4", "onsets", "nothing moves in the picture"),
        ("still.mp4", "av_align@2025-02", "nothing moves in the picture"),
        ("cartoon.mp4", "sync", "no face was found"),
        ("tiny.mkv", "sync", "no face was found"),
    ],
)
def test_a_metric_that_has_nothing_to_go_by_says_what_is_missing(rows, name, metric, reason):
    result = rows[name]["metrics"][metric]
    assert result["status"] == "unscored"
    assert reason in result["reason"]
    assert "values" not in result


@pytest.mark.parametrize("name", ["talk.mp4", "odd_size.mkv", "stereo.mp4", "surround.mp4"])
def test_sizes_and_channels_make_no_difference_to_synchrony(rows, name):
    plain = rows["talk.mp4"]["metrics"]["sync"]["values"]
    found = rows[name]["metrics"]["sync"]["values"]
    assert abs(found["offset_frames"]) < 1
    assert found["z"] > 3
    assert found["r0"] == pytest.approx(plain["r0"], abs=0.05)


def test_4k_is_measured_as_the_same_clip_when_small_is(rows):
    row = rows["uhd.mp4"]
    media = row["metrics"]["media"]["values"]
    assert (media["width"], media["height"]) == (3840, 2160)
    found = row["metrics"]["sync"]["values"]
    assert abs(found["offset_frames"]) < 2
    assert found["r0"] > 0.15


def test_a_cartoon_still_moves_when_it_is_heard(rows):
    """No face for a cascade, and an answer from what needs none."""
    found = rows["cartoon.mp4"]["metrics"]
    assert found["sync"]["reason"] == "no face was found"
    assert found["onsets"]["status"] == "scored"


def test_a_picture_that_outlasts_its_sound_is_said(rows):
    media = rows["sound_ends.mkv"]["metrics"]["media"]["values"]
    assert media["sound_end_ms"] == pytest.approx(-1400, abs=3)
    assert any("sound ends" in warning for warning in media["warnings"])


def test_the_same_sound_is_no_mismatched_one(folder, tmp_path):
    """As in a folder of many faces that are all driven by one voice."""
    both = tmp_path / "both"
    both.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (both / name).write_bytes((folder / "talk.mp4").read_bytes())
    evaluate(Request(both, metrics=["sync"]), tmp_path / "r")
    for row in read_rows(tmp_path / "r"):
        assert row["metrics"]["sync"]["status"] == "scored"
        control = row["metrics"]["sync"]["controls"]["mismatched"]
        assert "has the same sound" in control["reason"]


def test_a_rating_needs_a_second_of_sound(folder, tmp_path):
    pytest.importorskip("speechmos")
    evaluate(Request(folder / "short.mp4", metrics=["dnsmos"]), tmp_path / "r")
    (row,) = read_rows(tmp_path / "r")
    assert row["reason"] == "0.32 s of sound; DNSMOS rates 1 s and more"


@pytest.mark.parametrize(
    ("name", "said"), [("deep.png", "1 x has no sound"), ("text.mp4", "no media file")]
)
def test_one_file_of_any_name_is_taken_and_answered(folder, tmp_path, capsys, name, said):
    asked = ["--metrics", "sync", "--workers", "1", "-o", str(tmp_path / "r")]
    assert main(["evaluate", str(folder / name), *asked]) == 0
    out = capsys.readouterr().out
    assert "1 found, 0 scored" in out
    assert said in out


def test_a_folder_without_videos_is_an_error_of_the_request(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/deep.png").write_bytes(b"")
    assert main(["evaluate", str(tmp_path / "in"), "-o", str(tmp_path / "r")]) == 2
    assert "has no videos" in capsys.readouterr().err


def test_a_name_that_is_no_text_is_reported(folder, tmp_path, capsys):
    """Linux lets a file's name be any bytes; a report is text."""
    name = os.fsdecode(b"caf\xe9.mp4")
    (tmp_path / "in").mkdir()
    try:
        (tmp_path / "in" / name).write_bytes((folder / "half.mp4").read_bytes())
    except OSError as error:
        pytest.skip(f"this system's names are text: {error}")
    assert main(["evaluate", str(tmp_path / "in"), "-o", str(tmp_path / "r")]) == 0
    assert "cut short" in capsys.readouterr().out
    assert 'href="../in/caf%E9.mp4"' in (tmp_path / "r/report.html").read_text()
    assert json.loads((tmp_path / "r/summary.json").read_text())["coverage"]["clips"]["found"] == 1
