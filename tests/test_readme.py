"""README.md tells the truth: its commands run, so does its Python; docs/design.md has the tree."""

import json
import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from avgen.cli import main, make_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
CHECKPOINT = ROOT / "avgen" / "checkpoints" / "people"

needs_model = pytest.mark.skipif(
    not CHECKPOINT.is_dir(), reason="avgen/checkpoints/people is not in this checkout"
)


def commands() -> list[list[str]]:
    """Every `avgen ...` command line in README.md, as the shell would split it."""
    quoted = re.findall(r"`(avgen [^`]+)`", README)
    indented = re.findall(r"^ {4}(avgen .+)$", README, re.MULTILINE)
    lines = [shlex.split(line, comments=True) for line in quoted + indented]
    return [line[1:] for line in lines if len(line) > 2 and "--help" not in line]


def tree_lines() -> list[tuple[str, str]]:
    """(path, phrase) of every file in the tree of docs/design.md."""
    block = re.search(r"```\navgen/\n(.*?)```", DESIGN, re.DOTALL)
    assert block, "docs/design.md has no tree"
    folders: list[str] = []
    found = []
    for line in block.group(1).splitlines():
        indent, name, phrase = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()  # type: ignore[union-attr]
        folders = folders[: len(indent) // 2 - 1]
        if name.endswith("/"):
            folders.append(name)
        else:
            found.append(("".join(folders) + name, phrase))
    return found


def test_the_tree_is_the_tree():
    told = {path for path, _ in tree_lines()}
    files = {path.relative_to(ROOT / "avgen").as_posix() for path in (ROOT / "avgen").rglob("*.py")}
    files = {path for path in files if not path.endswith("__init__.py")}
    assert told == files
    assert all(phrase for _, phrase in tree_lines())


def test_the_first_commands_are_there():
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make --no-print-directory test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_parse(arguments):
    args, rest = make_parser().parse_known_args(arguments)
    assert rest == [] or arguments[0] == "train"
    assert callable(args.run)


def test_recipes_and_files_that_are_named_exist():
    for path in re.findall(
        r"\(((?!http)[^)\s]+\.(?:md|yaml|png))\)|--config (recipes/\S+)", README
    ):
        assert (ROOT / (path[0] or path[1])).exists(), path


@pytest.fixture
def of_two_steps(tmp_path, monkeypatch):
    """The shipped model, as one that makes two steps where nothing is said: the same shapes."""
    folder = tmp_path / "model"
    folder.mkdir()
    for part in CHECKPOINT.iterdir():
        (folder / part.name).symlink_to(part)
    config = json.loads((CHECKPOINT / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"num_inference_steps": 2}))
    monkeypatch.setattr("avgen.pipeline.pipeline.DEFAULT_MODEL", folder)


@needs_model
@pytest.mark.slow
def test_python_prints_what_it_shows(of_two_steps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shown = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(block, "README.md", "exec"), {})
    assert printed.getvalue().splitlines() == shown
    assert (tmp_path / "red.mp4").is_file()


@needs_model
@pytest.mark.slow
def test_every_direction_runs(tmp_path, monkeypatch, capsys):
    """The table's commands in the table's order, in a folder with the files that they name."""
    from avgen.clips import Clip, read_clip, write_clip

    monkeypatch.chdir(tmp_path)
    table = [line for line in commands() if line[0] == "generate" and "-o" in line]
    assert len(table) >= 6
    quick = ["--num-inference-steps", "2", "--seconds", "1"]
    assert main([*table[0], *quick]) == 0
    first = read_clip(tmp_path / "a.mp4")
    write_clip(first, tmp_path / "start.mp4")
    write_clip(first, tmp_path / "clip.mp4")
    write_clip(Clip(first.frames, first.fps), tmp_path / "silent.mp4")
    _write_picture(tmp_path / "face.png", first.frames[0])
    _write_sound(tmp_path / "voice.wav", first)
    for arguments in table[1:]:
        named = [
            flag for flag in ("--seconds", "--words", "--audio", "--video") if flag in arguments
        ]
        code = main([*arguments, *(quick[:2] if named else quick)])
        assert code == 0, (arguments, capsys.readouterr().err)
        made = read_clip(tmp_path / arguments[arguments.index("-o") + 1])
        assert made.waveform is not None
        assert made.frames.std() > 0
    for arguments in commands():
        if arguments[0] in ("reconstruct", "probe"):
            assert main(arguments) == 0, capsys.readouterr().err


def _write_picture(path: Path, frame) -> None:
    import av

    av.VideoFrame.from_ndarray(frame, format="rgb24").save(str(path))


def _write_sound(path: Path, clip) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(clip.num_channels)
        file.setsampwidth(2)
        file.setframerate(clip.sample_rate)
        file.writeframes((clip.waveform.T * 32767).astype("<i2").tobytes())
