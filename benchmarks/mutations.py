"""Do the tests notice a wrong constant, a wrong sign, two things swapped?

    python benchmarks/mutations.py [--only TEXT] [--jobs N]

Each row of mutations.txt is one line of avgen made wrong. It is applied to a copy of the tree, and
the tests that should notice are run there: they must fail. The libraries are imported once, and
every mutation is a fork of this process, so that a row takes seconds. Rows are real faults: none
of them leaves what avgen does as it was. A row whose text is no longer in its file, or is there
twice, is an error, so that the table cannot rot.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # read when the libraries are imported; a fork keeps no threads
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
sys.dont_write_bytecode = True  # a file that is rewritten within a second would be taken as it was

REPOSITORY = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("mutations.txt")
LONGEST_S = 300  # of CPU; what takes longer hangs and is ended, which is noticed as well
CHANGED, UNCHANGED = (1, 2), 0  # pytest's exit codes: failed, or failed to import; passed


@dataclass(frozen=True)
class Mutation:
    """A line made wrong.

    Attributes:
        name: What is wrong.
        file: The file.
        old: The right text.
        new: The wrong one.
        tests: Those that should notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> str:
        """Write the wrong file into a tree; returns the right one's text."""
        right = (root / self.file).read_text()
        (root / self.file).write_text(right.replace(self.old, self.new))
        return right


def read_table(path: Path) -> list[Mutation]:
    """The rows of a table: a line `FILE <- TESTS`, then indented `NAME :: OLD :: NEW` for each."""
    rows, file, tests = [], "", ()
    for line in path.read_text().splitlines():
        if " <- " in line:
            file, _, named = line.partition(" <- ")
            tests = tuple(named.split())
        elif line.startswith("    "):
            name, old, new = (*line.strip().split(" :: "), "")[:3]
            rows.append(Mutation(name, file, old.removesuffix(" ::"), new, tests))
    return rows


def mutations(only: str) -> list[Mutation]:
    """The rows that hold a text in their name or file.

    Raises:
        SystemExit: a row's text is not in its file exactly once, or there is no such row.
    """
    rows = read_table(TABLE)
    stale = [
        f"{row.file}: {row.old!r} is there {count} times"
        for row in rows
        if (count := (REPOSITORY / row.file).read_text().count(row.old)) != 1
    ]
    chosen = [row for row in rows if only in row.name or only in row.file]
    if stale or not chosen:
        sys.exit("\n".join(stale) or f"no mutation of {only!r}")
    return chosen


def copy_tree(folder: Path) -> Path:
    """What tests need, in a folder."""
    for name in ("avgen", "tests", "recipes"):
        shutil.copytree(
            REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    return folder


def import_libraries() -> None:
    """Import what takes long and is not avgen's, once."""
    import av
    import cv2
    import einops
    import librosa
    import lightning.pytorch.cli
    import pytest
    import scipy.stats
    import torchaudio
    import torchdata.stateful_dataloader  # noqa: F401 - they are imported to be there

    cv2.setNumThreads(1)
    pytest.main(["--version"])
    av.open, einops.rearrange, librosa.onset, scipy.stats.t, torchaudio.functional  # noqa: B018 - lazy modules
    assert not any(name.split(".")[0] == "avgen" for name in sys.modules)
    lightning.pytorch.cli.LightningCLI  # noqa: B018


def run_tests(root: Path, tests: tuple[str, ...]) -> int:
    """Pytest's exit code of tests of the tree at `root`, in a fork; LONGEST_S is the limit."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            import pytest

            resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_S, LONGEST_S))
            sink = os.open(root / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            os.chdir(root)
            sys.path.insert(0, str(root))
            options = ["-x", "-q", "-m", "not slow", "--assert=plain", "-p", "no:cacheprovider"]
            code = int(pytest.main([*options, *tests]))
            import avgen

            if not str(avgen.__file__).startswith(str(root)):
                code = 3  # another avgen was tested
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def verdict(row: Mutation, trees: SimpleQueue[Path]) -> tuple[bool, float]:
    """Whether the tests notice, and after how many seconds.

    Raises:
        RuntimeError: they could not be run.
    """
    root, start = trees.get(), time.monotonic()
    right = row.apply(root)
    code = run_tests(root, row.tests)
    (root / row.file).write_text(right)
    if code not in (*CHANGED, UNCHANGED) and code >= 0:
        said = (root / "output.txt").read_text()[-2000:]
        raise RuntimeError(f"{row.file}, {row.name}: pytest ended with {code}\n{said}")
    trees.put(root)
    return code != UNCHANGED, time.monotonic() - start


def main() -> None:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name or file holds this text")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    args = parser.parse_args()
    rows = mutations(args.only)
    import_libraries()
    with TemporaryDirectory() as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for job in range(args.jobs):
            trees.put(copy_tree(Path(folder) / str(job)))
        tests = tuple(sorted({test for row in rows for test in row.tests}))
        if run_tests(Path(folder) / "0", tests) != UNCHANGED:
            said = (Path(folder) / "0" / "output.txt").read_text()[-4000:]
            sys.exit(f"{said}\nthe tests fail as it is")
        print("| mutation | file | tests notice | s |\n|---|---|---|---|", flush=True)
        noticed = 0
        with ThreadPoolExecutor(args.jobs) as pool:
            found = pool.map(lambda row: verdict(row, trees), rows)
            for row, (killed, seconds) in zip(rows, found, strict=True):
                noticed += killed
                answer = "yes" if killed else "**no**"
                print(f"| {row.name} | {row.file} | {answer} | {seconds:.1f} |", flush=True)
    print(f"\n{noticed} of {len(rows)} noticed ({noticed / len(rows):.1%})")
    sys.exit(noticed < len(rows))


if __name__ == "__main__":
    main()
