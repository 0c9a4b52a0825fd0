"""Files of any kind: whole or not at all, and what may be written."""

import os
import socket
import subprocess
import sys

import pytest

from avgen.clips import files
from avgen.clips.clip import MediaError
from avgen.clips.files import atomic, fault, may_write, memory_budget, sweep
from avgen.clips.media.formats import CONTAINERS
from avgen.errors import UserError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic(path) as place:
        place.write_text("half")
        assert path.read_text() == "old"
        assert place.parent == path.parent
        assert place.suffix == ".json"
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with atomic(path) as place:
        place.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.json"]


def test_two_who_write_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with atomic(path) as one, atomic(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # whose context ended last


@pytest.mark.parametrize("name", ["n" * 251 + ".mkv", "ä" * 125 + ".json", "a." + "s" * 253])
def test_the_longest_names_there_are(tmp_path, name):
    may_write(tmp_path / name, overwrite=False)
    with atomic(tmp_path / name) as place:
        place.write_bytes(b"x")
    assert names(tmp_path) == [name]


def test_sweeping_leaves_what_is_being_written(tmp_path):
    writes = (
        "from pathlib import Path; from avgen.clips.files import atomic; import os\n"
        f"with atomic(Path({str(tmp_path / 'killed')!r})) as place:\n"
        "    place.touch(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", writes], check=False)
    assert len(names(tmp_path)) == 1
    elsewhere = tmp_path / f"{files._PREFIX}another-host-1-00ff.npy"
    elsewhere.touch()
    abandoned = tmp_path / f"{files._PREFIX}another-host-2-00ff.npy"
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    with atomic(tmp_path / "mine") as place:
        place.touch()
        sweep(tmp_path)
        assert names(tmp_path) == sorted([place.name, elsewhere.name])
    assert files._HOST in place.name
    assert socket.gethostname()[:8].replace(".", "-") in files._HOST


def test_what_may_not_be_written(tmp_path):
    there, link = tmp_path / "there.mp4", tmp_path / "link.mp4"
    there.touch()
    link.symlink_to(there)
    for path, rule in [
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere" / "a", "there is no folder"),
        (there / "a", "there is no folder"),
        (there, "exists already; --overwrite"),
        (tmp_path / ("n" * 256), "cannot be written"),
        (tmp_path / "a\0b", "cannot be written"),
    ]:
        with pytest.raises(MediaError, match=rule) as caught:
            may_write(path, overwrite=False)
        assert str(caught.value).startswith(f"{path}: ")
        assert isinstance(caught.value, UserError)
    may_write(there, overwrite=True)
    may_write(tmp_path / "new.mp4", overwrite=False, inputs=[there])
    with pytest.raises(MediaError, match="is the input"):
        may_write(link, overwrite=True, inputs=[tmp_path / "gone", there])
    assert names(tmp_path) == ["link.mp4", "there.mp4"]


def test_what_is_wrong_with_a_file(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"
    (tmp_path / "pointer").write_text(pointer)
    (tmp_path / "long").write_text(pointer + "x" * 2000)
    (tmp_path / "empty").touch()
    assert "git lfs pull" in (fault(tmp_path / "pointer") or "")
    assert fault(tmp_path / "long") is None
    assert fault(tmp_path / "empty") == "is empty"
    assert "not a regular file" in (fault(tmp_path) or "")
    assert "is missing" in (fault(tmp_path / "gone") or "")


def test_memory_of_a_container_counts(tmp_path, monkeypatch):
    assert memory_budget() > 2**28
    (tmp_path / "max").write_text("1000000\n")
    monkeypatch.setattr(files, "_CGROUP_LIMIT", tmp_path / "max")
    assert memory_budget() == 800_000
    (tmp_path / "max").write_text("max\n")
    assert memory_budget() > 2**28


def test_what_is_written_can_be_found_again():
    assert set(CONTAINERS) <= files.VIDEO_SUFFIXES
