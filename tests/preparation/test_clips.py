"""Real clips, and such as are made of them, through all stages: what comes out is right."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avgen.clips import Clip, read_clip, write_clip
from avgen.clips.timebase import num_samples
from avgen.preparation.outcome import Outcome, read_outcome
from avgen.preparation.record import Job, prepare
from avgen.preparation.settings import Settings
from avgen.preparation.store import Store

pytestmark = pytest.mark.slow
FPS, RATE = Fraction(25), 44_100
HOP_S = 0.010  # how far sound and picture may move against each other


@pytest.fixture
def prepared(record, tmp_path):
    """A function of a file to its outcome and the folder that it lies in."""

    def run(path: Path, **settings) -> tuple[Outcome, Store]:
        store = Store(tmp_path / "out")
        store.make()
        prepare(Job(record(path, id="clip"), Path("/"), store.folder, Settings(**settings)))
        return read_outcome(store.outcome("clip")), store

    return run


def read(grid: Path, name: str) -> Clip:
    return read_clip(grid / name, fps=FPS, sample_rate=RATE, num_channels=1)


def flash_and_click(clip: Clip, places: list[int]) -> Clip:
    """The clip with a white patch beside the head in some frames, and a click with each."""
    frames, sound = clip.frames.copy(), 0.5 * clip.waveform
    for place in places:
        frames[place, 70:86, 72:88] = 255
        at = num_samples(place, clip.fps, RATE)
        sound[:, at : at + RATE // 1000] = 1
    return Clip(frames, clip.fps, sound.astype(np.float32), RATE)


def flashes_and_clicks(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """When there are flashes and when clicks, in seconds of the prepared clip."""
    frames, waveform = np.load(store.frames("clip")), np.load(store.waveform("clip"))[0]
    light = frames[:, 10:17, 13:19, 0].mean((1, 2))  # red, of which the wall behind has little
    flashes = np.flatnonzero(light > np.median(light) + 40) / 25
    loud = np.flatnonzero(np.abs(waveform.astype(int)) > 28_000) / 24_000
    clicks = loud[np.concatenate([[True], np.diff(loud) > 0.05])]
    return flashes, clicks


@pytest.mark.parametrize("early", [0, 7, -7])
def test_flashes_stay_with_their_clicks(grid, prepared, tmp_path, early):
    clip = flash_and_click(read(grid, "s1/pbbv9a.mpg"), [14, 37, 58])
    moved = num_samples(abs(early), FPS, RATE)
    sound = np.zeros_like(clip.waveform)
    if early >= 0:
        sound[:, : sound.shape[1] - moved] = clip.waveform[:, moved:]
    else:
        sound[:, moved:] = clip.waveform[:, :-moved]
    write_clip(Clip(clip.frames, FPS, sound, RATE), tmp_path / "clip.mkv")
    outcome, store = prepared(tmp_path / "clip.mkv")
    (kept,) = outcome.kept
    corrected_s = kept.measures["corrected_ms"] / 1000
    assert abs(corrected_s - early / 25) <= 1 / 25  # as avgen-sync hears it
    flashes, clicks = flashes_and_clicks(store)
    assert len(flashes) == len(clicks) == 3
    late_s = clicks - flashes
    assert np.abs(late_s - (corrected_s - early / 25)).max() <= HOP_S  # and not more than it says


@pytest.mark.parametrize("speaks", [0, 1])
def test_of_two_people_the_one_who_speaks_is_kept(grid, prepared, tmp_path, speaks):
    both = [read(grid, "s1/srwo9a.mpg"), read(grid, "others/sbwe5n.mpg")]
    frames = np.concatenate([clip.frames[:74] for clip in both], 2)
    length = num_samples(74, FPS, RATE)
    write_clip(Clip(frames, FPS, both[speaks].waveform[:, :length], RATE), tmp_path / "two.mp4")
    outcome, _ = prepared(tmp_path / "two.mp4")
    (kept,) = outcome.kept
    left, _, width, _ = kept.origin.box
    assert (left + width / 2 > 360) == bool(speaks)
    assert [drop.reason for drop in outcome.dropped] == ["another speaks"]


def test_a_rotated_clip_comes_out_upright(grid, prepared, tmp_path):
    clip = read(grid, "s1/srwo9a.mpg")
    write_clip(clip, tmp_path / "upright.mp4")
    with (
        av.open(str(tmp_path / "upright.mp4")) as source,
        av.open(str(tmp_path / "turned.mp4"), "w") as target,
    ):
        picture = target.add_stream("libx264", rate=25)
        picture.height, picture.width, picture.pix_fmt = clip.width, clip.height, "yuv420p"
        picture.set_display_rotation(90)
        sound = target.add_stream_from_template(source.streams.audio[0])
        for frame in clip.frames:
            turned = np.ascontiguousarray(np.rot90(frame, -1))
            target.mux(picture.encode(av.VideoFrame.from_ndarray(turned, format="rgb24")))
        target.mux(picture.encode(None))
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = sound
                target.mux(packet)
    (kept,) = prepared(tmp_path / "turned.mp4")[0].kept
    (same,) = prepared(tmp_path / "upright.mp4")[0].kept
    assert np.abs(np.array(kept.origin.box) - same.origin.box).max() <= 8
    assert kept.measures["offset_ms"] == pytest.approx(same.measures["offset_ms"], abs=15)


def test_a_variable_rate_keeps_its_sync(grid, prepared, tmp_path):
    clip = flash_and_click(read(grid, "s1/pbbv9a.mpg"), [14, 37, 60])
    write_clip(clip, tmp_path / "constant.mp4")
    chosen = [i for i in range(clip.num_frames) if i % 5 != 3]  # every fifth frame is missing
    with (
        av.open(str(tmp_path / "constant.mp4")) as source,
        av.open(str(tmp_path / "variable.mp4"), "w") as target,
    ):
        picture = target.add_stream("libx264", rate=25)
        picture.height, picture.width, picture.pix_fmt = clip.height, clip.width, "yuv420p"
        picture.codec_context.time_base = Fraction(1, 25)
        sound = target.add_stream_from_template(source.streams.audio[0])
        for i in chosen:
            frame = av.VideoFrame.from_ndarray(clip.frames[i], format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            target.mux(picture.encode(frame))
        target.mux(picture.encode(None))
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = sound
                target.mux(packet)
    outcome, store = prepared(tmp_path / "variable.mp4")
    corrected_s = outcome.kept[0].measures["corrected_ms"] / 1000
    flashes, clicks = flashes_and_clicks(store)
    starts = flashes[np.concatenate([[True], np.diff(flashes) > 0.1])]
    assert np.abs(clicks - starts - corrected_s).max() <= HOP_S


def test_a_silent_and_a_still_clip_are_left_out(grid, prepared, tmp_path):
    clip = read(grid, "s1/srwo9a.mpg")
    silent = Clip(clip.frames, FPS, np.zeros_like(clip.waveform), RATE)
    write_clip(silent, tmp_path / "silent.mp4")
    assert prepared(tmp_path / "silent.mp4")[0].reason == "no sound"
    still = Clip(np.repeat(clip.frames[:1], clip.num_frames, 0), FPS, clip.waveform, RATE)
    write_clip(still, tmp_path / "still.mp4")
    assert prepared(tmp_path / "still.mp4")[0].reason == "still"


def test_another_rate_and_size(grid, prepared):
    settings = {"size": (96, 64), "fps": Fraction(30000, 1001), "sample_rate": 16_000}
    outcome, store = prepared(grid / "s1" / "srwo9a.mpg", **settings)
    frames, waveform = np.load(store.frames("clip")), np.load(store.waveform("clip"))
    assert frames.shape == (outcome.kept[0].num_frames, 96, 64, 3)
    assert waveform.shape[1] == num_samples(len(frames), settings["fps"], 16_000)
    assert abs(outcome.kept[0].measures["offset_ms"]) < 40


def test_words_of_a_transcript_are_where_the_corpus_says(grid):
    from avgen.clips import read_audio
    from avgen.corpora.grid import read_alignment
    from avgen.preparation.align import align_english

    truth = read_alignment(grid / "alignments" / "s1" / "swib4p.align")
    waveform, rate = read_audio(grid / "s1" / "swib4p.mpg", num_channels=1)
    found = align_english(waveform, rate, " ".join(word.text for word in truth))
    assert [word.text for word in found] == [word.text for word in truth]
    assert max(abs(a.end_s - b.end_s) for a, b in zip(found, truth, strict=True)) < 0.06
    with pytest.raises(ValueError, match="dictionary"):
        align_english(waveform, rate, "set qqqzz")
