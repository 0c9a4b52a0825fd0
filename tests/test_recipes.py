"""Every recipe parses against the real entry point, and says what a recipe must say."""

import re
from pathlib import Path

import pytest
import yaml

from avgen.training.lightning_cli import main, read_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*/*.yaml"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def trains(path: Path) -> str:
    return read_recipe(path)["model"]["class_path"]


def test_there_are_recipes():
    folders = {path.parent.name for path in RECIPES}
    assert {"puppets_tiny", "grid"} <= folders


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_recipe_parses(path, capsys, monkeypatch):
    """`--print_config` parses and checks everything, and stops before any work."""
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        main(["--config", str(path), "--print_config"])
    printed = capsys.readouterr()
    assert stop.value.code in (0, None), printed.err
    assert "class_path" in printed.out


ONE_OF_A_KIND = {trains(path): path for path in RECIPES}.values()  # the same parser refuses all


@pytest.mark.parametrize("path", ONE_OF_A_KIND, ids=name)
def test_recipe_with_an_unknown_key_is_refused(path, tmp_path, capfd, monkeypatch):
    """One line on stderr that names the key, and exit code 2."""
    from avgen.cli import main as command_line

    monkeypatch.chdir(ROOT)
    bad = tmp_path / "bad.yaml"
    bad.write_text(f"base: {path}\nno_such_key: 1\n")
    try:
        code = command_line(["train", "--config", str(bad)])
    except SystemExit as stop:
        code = stop.code
    error = capfd.readouterr().err.strip()
    assert code == 2, error
    assert "no_such_key" in error
    assert len(error.splitlines()) == 1, error


@pytest.mark.parametrize(
    ("recipe", "key"),
    [
        ("people/faces", "network.initial_weights"),
        ("finetune_speaker/config", "network.initial_model"),
        ("grid/config", "network.initial_wan"),
        ("grid/config", "network.caption_encoder"),
        ("mixed/video_codec", "initial_weights"),
        ("mixed/audio_codec", "initial_weights"),
    ],
)
def test_null_on_the_command_line_is_null(recipe, key, capsys, monkeypatch):
    """Not a file or a model that is called None."""
    monkeypatch.chdir(ROOT)
    path, option = f"recipes/{recipe}.yaml", f"--model.init_args.{key}"
    with pytest.raises(SystemExit):
        main(["--config", path, option, "x/model.safetensors", "--print_config"])
    assert "x/model.safetensors" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--config", path, option, "null", "--print_config"])
    value = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    for name in key.split("."):
        value = value[name]
    assert value is None


@pytest.mark.parametrize("folder", sorted({path.parent for path in RECIPES}), ids=name)
def test_a_recipe_folder_says_how_it_went(folder):
    """Command, hardware, time, seed, commit and results, as every experiment's README does."""
    text = (folder / "README.md").read_text(encoding="utf-8").lower()
    for what in ("avgen train", "seed", "commit", "minutes|hours", "core|gpu"):
        assert re.search(what, text), f"{name(folder)}/README.md does not say: {what}"
