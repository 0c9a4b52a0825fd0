"""The rules of the tree: arrows one way, a heavy library in one module, files that can be read."""

import ast
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "avgen").rglob("*.py"))

# What each part may import of avgen, besides itself. The order is the order of the data.
ARROWS = {
    "clips": set(),
    "codecs": {"clips"},
    "latents": {"clips"},
    "diffusion": set(),
    "models": {"clips", "latents"},
    "pipeline": {"clips", "codecs", "latents", "diffusion", "models"},
    "evaluation": {"clips", "codecs"},
    "corpora": {"clips", "models.phonemes", "models.english", "models.timing", "evaluation"},
    "training": {
        "clips",
        "energy",
        "codecs",
        "latents",
        "diffusion",
        "models",
        "pipeline",
        "corpora",
        "evaluation",
        "preparation",
    },
    "preparation": {
        "latents.geometry",
        "clips",
        "codecs",
        "corpora",
        "evaluation",
        "models.phonemes",
        "models.english",
        "models.timing",
        "models.text_pretrained",
    },
    "energy": set(),
    "provenance": {"clips"},
    "studio": {
        "clips",
        "energy",
        "evaluation",
        "models.prompt",
        "pipeline",
        "preparation.engines",
        "preparation.align",
        "provenance",
    },
    "commands": {
        "clips",
        "codecs",
        "pipeline",
        "provenance",
        "studio",
        "training",
        "corpora.manifest",
        "models.text_pretrained",
        "evaluation",
        "preparation",
    },
    "cli": {"commands"},
}

# Where each heavy library may be imported.
HOMES = {
    "av": ["clips/media/*.py"],
    "cv2": [
        "corpora/portraits/*.py",
        "clips/transforms.py",
        "evaluation/faces/head.py",
        "evaluation/faces/tracking.py",
        "evaluation/run/*.py",
        "evaluation/sync/*.py",
        "evaluation/syncnet/crops.py",
        "preparation/*.py",
        "training/windows.py",
    ],
    "c2pa": ["provenance/signing.py"],
    "cryptography": ["provenance/certificates.py"],
    "fastapi": ["studio/*.py"],
    "uvicorn": ["commands/serve.py"],
    "diffusers": [
        "codecs/pretrained.py",
        "models/diffusers_backbones.py",
        "training/start.py",
    ],
    "encodec": [
        "codecs/audio.py",
        "codecs/encodec.py",
        "training/audio_codec.py",
    ],
    "fsspec": ["preparation/shards.py"],
    "hibari": ["corpora/voices/*.py", "models/english.py"],
    "jsonargparse": ["training/*.py"],
    "lightning": ["training/*.py"],
    "dlib": ["evaluation/faces/identity.py"],
    "faster_whisper": ["evaluation/speech/recognition.py"],
    "jinja2": ["evaluation/report/templates.py"],
    "mediapipe": ["corpora/portraits/*.py", "evaluation/faces/tracking.py"],
    "pebble": ["evaluation/run/processes.py"],
    "pocketsphinx": [
        "evaluation/speech/recognition.py",
        "models/listening.py",
        "preparation/align.py",
    ],
    "ray": ["preparation/engines.py"],
    "safetensors": [
        "codecs/base.py",
        "models/lora.py",
        "preparation/latent_store.py",
        "preparation/merge.py",
        "preparation/shards.py",
        "training/*.py",
    ],
    "scipy": [
        "evaluation/comparison/distributions.py",
        "evaluation/statistics.py",
        "evaluation/syncnet/crops.py",
    ],
    "scenedetect": ["preparation/scenes.py"],
    "silero_vad": ["preparation/voice.py"],
    "tensorboard": ["training/stages.py", "studio/runs.py"],
    "torchaudio": [
        "codecs/hops.py",
        "codecs/pretrained_audio.py",
        "pipeline/*.py",
        "evaluation/sync/features.py",
        "evaluation/waveforms.py",
    ],
    "torchdata": ["training/*.py"],
    "transformers": ["models/text*.py", "codecs/pretrained.py"],
    "webdataset": ["preparation/shards.py"],
}

# Imports inside functions, outside commands/: of what not everybody has, or needs.
LATE = {
    "avgen.provenance",  # c2pa, which need not be installed
    "diffusers",
    "fsspec",
    "webdataset",
    "avgen.clips",  # pipeline/request.py, which the command line reads before anything is loaded
    "hibari",
    "mediapipe",
    "pocketsphinx",
    "pynvml",
    "ray",
    "resource",  # Unix has it
    "scenedetect",
    "silero_vad",
    "tensorboard",  # studio/runs.py, of a process that most never ask for runs
    "torch.cuda",  # energy.py, which the command line reads before anything is loaded
    "torch.nn.attention.varlen",  # newer torch has it
    "transformers",
}

# Lines of each room, with docstrings and blanks, a twentieth more than it has: at most. A metric or
# a corpus has room; to raise a number is a decision.
LINES = {
    "clips": 3100,
    "codecs": 2700,
    "commands": 1830,
    "corpora": 4700,
    "diffusion": 660,
    "evaluation": 6750,
    "latents": 980,
    "models": 2925,
    "pipeline": 1980,
    "preparation": 3980,
    "provenance": 940,
    "studio": 3580,
    "training": 5900,
}
# Lines of all that runs from a prompt to a clip by the shipped model, likewise.
PROMPT_TO_CLIP = 9000
WAY = ("avgen.commands.generate", "avgen.codecs.video", "avgen.codecs.audio")


def relative(path: Path) -> str:
    return path.relative_to(ROOT / "avgen").as_posix()


def part_of(path: Path) -> str:
    return relative(path).removesuffix(".py").split("/")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> list[str]:
    """The full name of everything that a file imports, wherever in the file."""
    names = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "optional":
            names += [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
    return names


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(parsed(path)) if isinstance(node, kinds)]


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_follow_the_arrows(path: Path) -> None:
    part = part_of(path)
    if part in {"__init__", "errors", "lazy", "plugins"}:
        return  # it names what it exports, and loads it on use: tests/test_cli.py measures that
    assert part in ARROWS, f"avgen/{part} is not in the table of arrows"
    allowed = {"avgen.__version__", "avgen.errors", "avgen.lazy", "avgen.plugins"} | {
        f"avgen.{name}" for name in ARROWS[part] | {part}
    }
    for name in imports(path):
        if name.split(".")[0] == "avgen":
            assert any(name == a or name.startswith(f"{a}.") for a in allowed), (
                f"{relative(path)} imports {name}; {part} may import {sorted(ARROWS[part])}"
            )


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_lives_in_its_modules(library: str) -> None:
    users = {
        relative(path) for path in FILES for name in imports(path) if name.split(".")[0] == library
    }
    strays = {user for user in users if not any(fnmatch(user, home) for home in HOMES[library])}
    assert not strays, f"{library} belongs in {HOMES[library]}, not in {sorted(strays)}"


def test_clips_do_not_know_torch() -> None:
    for path in FILES:
        if part_of(path) == "clips":
            roots = {name.split(".")[0] for name in imports(path)}
            assert not roots & {"torch", "torchaudio", "librosa"}, relative(path)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_and_functions_can_be_read(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 400, f"{relative(path)}: {lines} lines; at most 400"
    assert path.stem not in {"utils", "misc", "helpers", "common"}, (
        "a helper lives with what it serves"
    )
    for function in functions(path):
        name = f"{relative(path)}: {function.name}"
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= 60, f"{name}: {length} lines; at most 60"
        arguments = function.args
        count = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
        own = bool(arguments.args) and arguments.args[0].arg in {"self", "cls"}
        assert count - own <= 8, f"{name}: {count} parameters; at most 8"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_module_says_what_goes_in_and_out(path: Path) -> None:
    assert ast.get_docstring(parsed(path)), f"{relative(path)} has no docstring"


def test_every_package_has_an_init() -> None:
    folders = {path.parent for path in FILES}
    assert all((folder / "__init__.py").is_file() for folder in folders)


@cache
def modules() -> dict[str, Path]:
    """Import path -> file, of all of avgen."""
    dotted = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    return {name.removesuffix(".__init__"): path for name, path in dotted.items()}


@cache
def needed(module: str) -> frozenset[str]:
    """The modules of avgen that one imports when it runs, wherever in it."""
    tree = parsed(modules()[module])
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    for_types = {
        id(node)
        for block in blocks
        if "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in for_types:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and id(node) not in for_types:
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names & modules().keys() - {module, "avgen"})


def lines_of(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text().splitlines()) for path in paths)


def test_no_modules_import_each_other() -> None:
    TopologicalSorter({name: needed(name) for name in modules()}).prepare()  # names the circle


def test_no_two_modules_have_one_name() -> None:
    names = Counter(path.stem for path in FILES if path.stem != "__init__")
    assert not [name for name, count in names.items() if count > 1]


def test_imports_inside_functions_are_those_of_the_list() -> None:
    late = set()
    for path in FILES:
        if part_of(path) in {"commands", "cli"}:
            continue
        for node in (node for function in functions(path) for node in ast.walk(function)):
            if isinstance(node, ast.Import):
                late |= {(alias.name, relative(path)) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                late.add((str(node.module), relative(path)))
    fitting = {name: [e for e in LATE if name == e or name.startswith(f"{e}.")] for name, _ in late}
    assert not [stray for stray in late if not fitting[stray[0]]]
    assert {entry for entries in fitting.values() for entry in entries} == LATE


def test_rooms_are_no_larger_than_they_were() -> None:
    rooms = {part_of(path) for path in FILES if path.parent != ROOT / "avgen"}
    assert rooms == LINES.keys()
    sizes = {room: lines_of(path for path in FILES if part_of(path) == room) for room in rooms}
    assert not {room: size for room, size in sizes.items() if size > LINES[room]}


def test_the_way_from_a_prompt_to_a_clip_is_short() -> None:
    way: set[str] = set()
    todo = list(WAY)
    while todo:
        module = todo.pop()
        if module not in way:
            way.add(module)
            todo += needed(module)
    assert lines_of(modules()[module] for module in way) <= PROMPT_TO_CLIP
    strangers = ("avgen.training", "avgen.corpora", "avgen.preparation")
    assert not [module for module in way if module.startswith(strangers)]


def test_every_mutation_has_its_line() -> None:
    """benchmarks/mutations.txt: what is made wrong is in its file, once."""
    file, rows = ROOT / "nowhere", 0
    for line in (ROOT / "benchmarks/mutations.txt").read_text(encoding="utf-8").splitlines():
        if " <- " in line:
            file = ROOT / line.partition(" <- ")[0]
        elif line.startswith("    "):
            name, old = line.strip().split(" :: ")[:2]
            assert file.read_text(encoding="utf-8").count(old.removesuffix(" ::")) == 1, name
            rows += 1
    assert rows > 200
