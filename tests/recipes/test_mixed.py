"""recipes/mixed: starts from the shipped codecs; its evaluation reads colours from pixels."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avgen.codecs.base import load_module
from avgen.corpora.manifest import ClipRecord, write_manifest
from avgen.training.lightning_cli import instantiate
from puppets.dataset import Pose, draw, draw_puppet
from puppets.mouth import Mouth
from puppets.person import BACKGROUNDS, CLOTHES, HAIR

RECIPE = Path(__file__).resolve().parents[2] / "recipes/mixed"
SIZES = {"square": (128, 128), "portrait": (128, 96)}


@pytest.fixture
def evaluation(monkeypatch):
    """The recipe's evaluate.py."""
    monkeypatch.syspath_prepend(str(RECIPE))
    sys.modules.pop("evaluate", None)
    import evaluate

    yield evaluate
    sys.modules.pop("evaluate", None)


def frames(puppet, size):
    """Two frames of a puppet: uint8 [2, H, W, 3]."""
    return np.stack([draw(puppet, Mouth(), Pose(), size)] * 2)


def every_colour():
    """Puppets with hair, among which are all colours of hair, clothes and wall."""
    names = [list(palette) for palette in (HAIR, CLOTHES, BACKGROUNDS)]
    for index in range(max(map(len, names))):
        hair, clothes, background = (some[index % len(some)] for some in names)
        yield replace(
            draw_puppet(index),
            hair_style="short",
            hair=hair,
            clothes=clothes,
            background=background,
        )


@pytest.mark.parametrize("shape", SIZES)
def test_colours_agree_with_the_caption_and_with_no_other(tmp_path, evaluation, shape):
    (tmp_path / "frames").mkdir()
    (tmp_path / "waveforms").mkdir()
    (tmp_path / "rates.json").write_text('{"fps": "25", "sample_rate": 24000}')
    puppets, records = list(every_colour()), []
    for index, puppet in enumerate(puppets):
        np.save(tmp_path / "frames" / f"{index}.npy", frames(puppet, SIZES[shape]))
        np.save(tmp_path / "waveforms" / f"{index}.npy", np.zeros((1, 1920), np.int16))
        records.append(
            ClipRecord(
                str(index),
                "",
                "puppets",
                "p",
                "train",
                f"a cartoon of {puppet.caption}",
                (),
                None,
                "none",
            )
        )
    write_manifest(records, tmp_path / "manifest.jsonl")
    colours = evaluation.Colours(tmp_path, shape)
    one = puppets[0]
    drawn = frames(replace(one, eyes="green", glasses="round"), SIZES[shape])
    assert colours.agree(drawn, one.caption) == dict.fromkeys(
        ("background", "clothes", "hair"), True
    )
    for name, palette in (("background", BACKGROUNDS), ("clothes", CLOTHES), ("hair", HAIR)):
        wrong = replace(one, **{name: next(c for c in palette if c != getattr(one, name))})
        assert [k for k, ok in colours.agree(drawn, wrong.caption).items() if not ok] == [name]


def test_a_caption_is_read(evaluation):
    caption = "a cartoon of a man with tan skin and no hair in an orange top before a grey wall"
    expected = {"background": "grey", "clothes": "orange", "hair": "none tan"}
    assert evaluation.kinds(caption) == expected


@pytest.mark.parametrize("name", ["video_codec", "audio_codec"])
def test_the_codecs_start_from_those_that_ship(monkeypatch, name):
    monkeypatch.chdir(RECIPE.parents[1])
    started = instantiate(["--config", str(RECIPE / f"{name}.yaml")]).model.codec.state_dict()
    shipped = load_module(Path("recipes/grid/model") / name).state_dict()
    assert all(torch.equal(started[key], shipped[key]) for key in shipped)
