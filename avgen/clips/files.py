"""Files of any kind: written whole or not at all, what may be written, what a suffix stands for.

Also what a machine's memory allows, so that whatever would not fit is refused before it is begun.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from avgen.errors import UserError

VIDEO_SUFFIXES = frozenset((
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v",
    ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".qt", ".ts", ".vob",
    ".webm", ".wmv",
))  # fmt: skip

# Starts the name of every file that is not yet whole. Its end is the final one's suffix, by which
# FFmpeg and numpy choose a format; the rest is of fixed length, whatever the final name's.
_PREFIX = ".avgen-"
_LONGEST_SUFFIX = 16
_HOST = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:32]

# When a temporary file of another machine, whose processes nobody here can see, has been left.
_ABANDONED_S = 24 * 3600

_LFS_POINTER = b"version https://git-lfs"
_LFS_POINTER_BYTES = 1024  # no pointer is longer

# The share of a machine's memory that one result may take: the rest is for what makes it.
_MEMORY_SHARE = 0.8
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class MediaError(UserError):
    """A file that cannot be read or written. The message is one line: file, what is wrong, rule."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A place to write what becomes `path`, all at once, when the context ends well.

    The place is beside `path`, of the same suffix, and nobody else's: its name has the host, the
    process and a random number. What was written is on the disk before it gets its name. If the
    context ends badly nothing of it stays, and neither does `path` change.
    """
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
    name = f"{_PREFIX}{_HOST}-{os.getpid()}-{secrets.token_hex(4)}{suffix}"
    temporary = path.with_name(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files that processes which are gone have left in a folder."""
    for path in folder.glob(f"{_PREFIX}*"):
        host, pid, _ = path.name.removeprefix(_PREFIX).rsplit("-", 2)
        with suppress(FileNotFoundError):
            left = time.time() - path.stat().st_mtime > _ABANDONED_S
            if left if host != _HOST else not psutil.pid_exists(int(pid)):
                path.unlink()


def may_write(path: Path, *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Make sure that a file can be written to `path`, before the work that it would hold.

    Args:
        path: the file.
        overwrite: whether a file that is there may be replaced.
        inputs: files that it is made of, none of which it may be.

    Raises:
        MediaError: it is a folder, an input or there already, its folder is missing or cannot be
            written to, or its name cannot be a file's.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # nothing is there yet
    except (OSError, ValueError) as error:  # too long a name, or one with a null in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise MediaError(f"{path}: cannot be written ({reason})") from error
    if path.is_dir():
        raise MediaError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise MediaError(f"{path}: there is no folder {path.parent}")
    if path.exists():
        if any(given.exists() and path.samefile(given) for given in inputs):
            raise MediaError(f"{path}: is the input; name another file")
        if not overwrite:
            raise MediaError(f"{path}: exists already; --overwrite replaces it")
    trial = path.with_name(f"{_PREFIX}{_HOST}-{os.getpid()}-{secrets.token_hex(4)}")
    try:  # permission bits do not say it on every file system
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        reason = f"{path.parent} cannot be written to ({error.strerror})"
        raise MediaError(f"{path}: the folder {reason}") from error


def fault(path: Path) -> str | None:
    """Why a file is not what its name says, by its size and its first bytes; None if it may be."""
    if not path.is_file():
        there = path.exists()
        return "is not a regular file" if there else "is missing: there is no such file"
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if not start:
        return "is empty"
    if start == _LFS_POINTER and path.stat().st_size <= _LFS_POINTER_BYTES:
        return "is a git-lfs pointer, not the file that it stands for; run `git lfs pull`"
    return None


def read_json(path: Path) -> dict:
    """Read a JSON object.

    Raises:
        UserError: the file is missing or is not a JSON object.
    """
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); a model folder needs it"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: holds {type(config).__name__}; it must be a JSON object")
    return config


def memory_budget() -> int:
    """Bytes that one result may take here: a share of what the machine, or its container, has."""
    there = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # no such file, or "max": no limit
        there = min(there, int(_CGROUP_LIMIT.read_text()))
    return int(_MEMORY_SHARE * there)
