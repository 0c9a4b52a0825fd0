"""GRID to a prepared folder, with damaged files in it and a run that is killed three times.

    python benchmarks/prepare_killed.py OUT GRID [--speaker s1] [--clips 120] [--codecs FOLDER]

Every twentieth clip is damaged: cut in half, emptied, made text, made a git-lfs pointer, or
overwritten with noise in the middle. The corpus is prepared without disturbance, and again by a run
that is killed (SIGKILL, with all its processes) at three random moments and started once more.
Prints whether the two folders are the same, byte for byte, and which damaged files were reported.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from avgen.clips.clip import MediaError
from avgen.clips.media.read import read_clip
from avgen.preparation.outcome import read_outcome

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
EVERY = 20


def main() -> None:
    """Make the corpus, prepare it twice, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--speaker", default="s1")
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--codecs", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    damaged = make_corpus(args.grid, args.out / "grid", args.speaker, args.clips, draw)
    command = [sys.executable, "-m", "avgen.cli", "prepare", "grid", str(args.out / "grid")]
    options = ["--workers", "2", *(["--codecs", str(args.codecs)] if args.codecs else [])]
    plain, killed = args.out / "plain", args.out / "killed"
    start = time.perf_counter()
    subprocess.run([*command, str(plain), *options], check=True)
    took_s = time.perf_counter() - start
    print(f"undisturbed: {took_s:.0f} s")
    for kill, after_s in enumerate(sorted(draw.uniform(0.15, 0.85) * took_s for _ in range(3))):
        run = subprocess.Popen([*command, str(killed), *options], start_new_session=True)
        time.sleep(max(1.0, after_s / (kill + 1)))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        print(f"killed: {len(list(killed.glob('outcomes/*.json')))} records were done")
    subprocess.run([*command, str(killed), *options], check=True)
    same = tree(plain) == tree(killed)
    print(f"{len(tree(plain))} files; the two folders are {'the same' if same else 'NOT the same'}")
    report(plain, damaged, args)


def make_corpus(
    grid: Path, root: Path, speaker: str, count: int, draw: random.Random
) -> dict[str, str]:
    """The first clips of a speaker, some damaged; what was done to which."""
    ways = ("cut in half", "emptied", "text", "git-lfs pointer", "noise in the middle")
    damaged: dict[str, str] = {}
    for place in (root / speaker, root / "alignments" / speaker):
        place.mkdir(parents=True, exist_ok=True)
    for index, source in enumerate(sorted((grid / speaker).glob("*.mpg"))[:count]):
        name, target = source.stem, root / speaker / source.name
        align = Path("alignments") / speaker / f"{name}.align"
        (root / align).write_bytes((grid / align).read_bytes())
        data = source.read_bytes()
        if index % EVERY == EVERY // 2:
            damaged[f"{speaker}_{name}"] = way = ways[index // EVERY % len(ways)]
            noise = draw.randbytes(len(data) // 4)
            data = {
                "cut in half": data[: len(data) // 2],
                "emptied": b"",
                "text": b"no film\n",
                "git-lfs pointer": POINTER,
                "noise in the middle": data[: len(data) // 3]
                + noise
                + data[len(data) // 3 + len(noise) :],
            }[way]
        target.write_bytes(data)
    return damaged


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def report(folder: Path, damaged: dict[str, str], args: argparse.Namespace) -> None:
    """What was reported, and what was damaged."""
    found = [read_outcome(path) for path in sorted((folder / "outcomes").glob("*.json"))]
    reported = [o for o in found if o.reason in ("unreadable", "layout")]
    print(f"{len(damaged)} files were damaged, {len(reported)} are reported as such")
    for outcome in reported:
        print(f"  {outcome.id}: {outcome.dropped[0].detail}")
    spelled = {name.split("_", 1)[1]: way for name, way in damaged.items()}
    missed = {n: w for n, w in spelled.items() if not any(n in o.id for o in reported)}
    wrong = [o.id for o in reported if not any(name in o.id for name in spelled)]
    print(f"missed: {missed or 'none'}; reported though not touched: {wrong or 'none'}")
    for name in wrong:
        source = args.grid / args.speaker / f"{name.removeprefix(f'{args.speaker}_')}.mpg"
        try:
            read_clip(source)
            print(f"  the corpus' own {source.name} can be read")
        except MediaError as error:
            print(f"  the corpus' own {error}")


if __name__ == "__main__":
    main()
