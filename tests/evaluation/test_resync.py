"""Sound moved by copying packets lands where it was sent, and weak evidence moves nothing."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avgen.clips import Clip, MediaError, read_clip, write_clip
from avgen.clips.media.remux import remux_delayed
from avgen.evaluation.file_timing import flash_click_offset
from avgen.evaluation.subject import Unscored
from avgen.evaluation.sync.correction import find_offset, interval_of

FPS, RATE = Fraction(25), 48_000


@pytest.fixture(scope="module")
def early(tmp_path_factory) -> dict[str, Path]:
    """Clips by suffix whose clicks come 120 ms before their flashes."""
    frames = np.full((75, 64, 64, 3), 16, np.uint8)
    waveform = np.zeros((1, 3 * RATE), np.float32)
    for frame in (20, 41, 60):
        frames[frame : frame + 3] = 235
        sample = round((frame / 25 - 0.12) * RATE)
        waveform[0, sample : sample + 480] = 0.8 * np.cos(np.arange(480) * 2 * np.pi / 48)
    folder = tmp_path_factory.mktemp("early")
    paths = {suffix: folder / f"clip{suffix}" for suffix in (".mp4", ".mkv", ".webm")}
    for path in paths.values():
        write_clip(Clip(frames, FPS, waveform, RATE), path)
    return paths


def offset_ms(path: Path) -> float:
    clip = read_clip(path)
    return flash_click_offset(clip.frames, clip.fps, clip.waveform, clip.sample_rate).offset_ms


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


@pytest.mark.parametrize(
    ("source", "target"),
    [(".mp4", ".mp4"), (".mp4", ".mkv"), (".mkv", ".mkv"), (".webm", ".webm"), (".webm", ".mp4")],
)
@pytest.mark.parametrize("delay_s", [0.12, -0.2, 0.033])
def test_sound_lands_where_it_was_sent_and_nothing_is_encoded(
    early, tmp_path, source, target, delay_s
):
    path = tmp_path / f"moved{target}"
    assert remux_delayed(early[source], path, delay_s) == []
    assert offset_ms(path) == pytest.approx(120 - delay_s * 1000, abs=3)
    assert packets(path, "video") == packets(early[source], "video")
    kept, before = packets(path, "audio"), packets(early[source], "audio")
    assert kept == before[len(before) - len(kept) :]
    assert len(kept) == len(before) or delay_s < 0
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_nothing(early, tmp_path):
    source = early[".mp4"]
    with pytest.raises(MediaError, match="is the input"):
        remux_delayed(source, source, 0.1, overwrite=True)
    with pytest.raises(MediaError, match="cannot hold"):
        remux_delayed(source, tmp_path / "a.webm", 0.1)
    with pytest.raises(MediaError, match="no container"):
        remux_delayed(source, tmp_path / "a.xyz", 0.1)
    with pytest.raises(MediaError, match="no folder"):
        remux_delayed(source, tmp_path / "no" / "a.mp4", 0.1)
    (tmp_path / "there.mp4").write_text("mine")
    with pytest.raises(MediaError, match="exists"):
        remux_delayed(source, tmp_path / "there.mp4", 0.1)
    mute = tmp_path / "mute.mkv"
    write_clip(Clip(np.zeros((5, 8, 8, 3), np.uint8), FPS), mute)
    with pytest.raises(MediaError, match="no sound"):
        remux_delayed(mute, tmp_path / "a.mkv", 0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mute.mkv", "there.mp4"]
    assert (tmp_path / "there.mp4").read_text() == "mine"


def test_without_a_face_there_is_no_evidence(early):
    with pytest.raises(Unscored, match="no face"):
        find_offset(early[".mkv"])


def test_what_is_the_same_at_every_place_does_not_average_out():
    """Half a place's interval is 16 ms for it (SLACK, 0.4 frames) and 20 by chance."""
    low, high = interval_of(3.0, [(-40.0, 32.0), (-30.0, 42.0)] * 4)
    assert (low, high) == pytest.approx((3 - 16 - 20 * 1.25 / 8**0.5, 3 + 16 + 20 * 1.25 / 8**0.5))
    assert interval_of(5.0, [(-15.0, 25.0)]) == pytest.approx((-15, 25))
