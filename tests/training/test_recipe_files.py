"""Recipes inherit: what a file says of its base's mappings is put over them."""

import pytest

from avgen.training.lightning_cli import read_recipe


def test_a_recipe_says_what_differs_from_its_base(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "base.yaml").write_text(
        "seed: 0\nmodel:\n  class_path: a.B\n  init_args: {width: 8, tasks: {one: 0.5, two: 0.5}}\n"
        "list: [1, 2]\n"
    )
    (tmp_path / "middle.yaml").write_text("base: base.yaml\nmodel: {init_args: {width: 16}}\n")
    (tmp_path / "more/last.yaml").write_text(
        "base: ../middle.yaml\nseed: 7\nmodel: {init_args: {tasks: {two: 0.25}}}\nlist: [3]\n"
    )
    assert read_recipe(tmp_path / "more/last.yaml") == {
        "seed": 7,
        "model": {
            "class_path": "a.B",
            "init_args": {"width": 16, "tasks": {"one": 0.5, "two": 0.25}},
        },
        "list": [3],
    }


def test_another_class_takes_nothing_of_the_base(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {class_path: a.B, init_args: {width: 8}}\n")
    path = tmp_path / "own.yaml"
    path.write_text("base: base.yaml\nmodel: {class_path: a.C, init_args: {depth: 2}}\n")
    assert read_recipe(path) == {"model": {"class_path": "a.C", "init_args": {"depth": 2}}}


@pytest.mark.parametrize(
    ("text", "match"), [("[1, 2]", "must be a mapping"), ("a: [", "no recipe")]
)
def test_what_is_no_recipe_is_named(tmp_path, text, match):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"own\.yaml: .*{match}"):
        read_recipe(tmp_path / "own.yaml")
    (tmp_path / "lost.yaml").write_text("base: nowhere.yaml\n")
    with pytest.raises(ValueError, match=r"nowhere\.yaml: is no recipe"):
        read_recipe(tmp_path / "lost.yaml")
