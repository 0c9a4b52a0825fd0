"""A module becomes a folder and back; a folder that is not one says which file and why."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from avgen.codecs.base import load_module, load_tensors, save_module
from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig

SMALL = ConvVideoCodecConfig(latent_channels=2, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8))


@pytest.fixture
def folder(tmp_path):
    save_module(ConvVideoCodec(SMALL), tmp_path / "codec")
    return tmp_path / "codec"


def edit(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def edit_tensors(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def test_what_is_saved_comes_back(tmp_path):
    codec = ConvVideoCodec(SMALL)
    save_module(codec, tmp_path / "a" / "b")
    back = load_module(tmp_path / "a" / "b")
    assert type(back) is ConvVideoCodec
    assert back.config == codec.config
    assert not back.training
    for name, tensor in codec.state_dict().items():
        assert back.state_dict()[name].dtype == torch.float32
        assert torch.equal(back.state_dict()[name], tensor.bfloat16().float()), name
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_float32_can_be_kept(tmp_path):
    codec = ConvVideoCodec(SMALL)
    save_module(codec, tmp_path, torch.float32)
    back = load_module(tmp_path).state_dict()
    assert all(torch.equal(back[name], tensor) for name, tensor in codec.state_dict().items())


def test_missing_tensors_are_named(folder):
    edit_tensors(folder, lambda state: state.pop("decoder.norm.gain"))
    with pytest.raises(ValueError, match=r"model\.safetensors: .*missing: decoder\.norm\.gain"):
        load_module(folder)


def test_extra_tensors_are_named(folder):
    edit_tensors(folder, lambda state: state.update(stray=torch.zeros(1)))
    with pytest.raises(ValueError, match=r"model\.safetensors: .*extra: stray"):
        load_module(folder)


def test_tensors_of_another_shape_are_named(folder):
    edit_tensors(folder, lambda state: state.update({"decoder.norm.gain": torch.zeros(3)}))
    with pytest.raises(
        ValueError, match=r"model\.safetensors: .*of another shape: decoder\.norm\.gain"
    ):
        load_module(folder)


def test_many_tensors_are_not_all_listed(folder):
    edit_tensors(folder, lambda state: state.clear())
    with pytest.raises(ValueError, match=r"missing: \S+, \S+, \S+, \S+, \S+ \.\.\.\)"):
        load_module(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name):
        load_module(folder)


@pytest.mark.parametrize("content", [b"", b"garbage that is no tensor file at all"])
def test_broken_tensors_are_an_error(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors: is not a readable"):
        load_module(folder)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"text"', "\x00"])
def test_broken_json_is_an_error(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json: "):
        load_module(folder)


def test_an_unknown_field_is_named(folder):
    edit(folder, colour="red")
    with pytest.raises(ValueError, match=r"config\.json: .*colour"):
        load_module(folder)


@pytest.mark.parametrize(
    "kind", ["os.system", "builtins.eval", None, 3, "avgenious.codec", "avgen.codecs.video.Missing"]
)
def test_only_classes_of_avgen_are_made(folder, kind):
    edit(folder, **{"class": kind})
    with pytest.raises(ValueError, match=r"config\.json: "):
        load_module(folder)


def test_weights_alone_can_be_read(folder):
    codec = ConvVideoCodec(SMALL)
    load_tensors(codec, folder / "model.safetensors")
    stored = load_file(folder / "model.safetensors")
    assert all(
        torch.equal(codec.state_dict()[name], tensor.float()) for name, tensor in stored.items()
    )


def test_a_part_may_be_missing_whole_but_not_in_part(folder, tmp_path):
    deeper = ConvVideoCodec(replace(SMALL, encoder_depths=(1, 1, 2)))
    before = {name: tensor.clone() for name, tensor in deeper.state_dict().items()}
    new = "encoder.stages.2.blocks.1"
    load_tensors(deeper, folder / "model.safetensors", optional=[new])
    stored = load_file(folder / "model.safetensors")
    for name, tensor in deeper.state_dict().items():
        expected = before[name] if name.startswith(new) else stored[name].float()
        assert torch.equal(tensor, expected), name
    assert sum(name.startswith(new) for name in before) > 1

    one = f"{new}.conv1.weight"
    save_file({**stored, one: before[one].contiguous()}, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=rf"{new}.conv1.bias"):
        load_tensors(deeper, tmp_path / "part.safetensors", optional=[new])
