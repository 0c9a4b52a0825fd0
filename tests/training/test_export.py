"""The averaged weights of one part come out of a checkpoint under the part's own names."""

import pytest
import torch

from avgen.training.model_export import averaged_weights


def checkpoint(folder, **parts):
    """A file as Lightning writes it after averaging: the averages are its own state."""
    path = folder / "last.ckpt"
    torch.save({"state_dict": {"codec.gain": torch.tensor([3.0])}, **parts}, path)
    return path


def test_averaged_weights_are_the_parts_own_names_and_values(tmp_path):
    state = {"codec.gain": torch.tensor([1.0, 2.0]), "discriminator.gain": torch.tensor([5.0])}
    path = checkpoint(tmp_path, state_dict=state, averaging_state={"n_averaged": torch.tensor(7)})
    weights = averaged_weights(path, "codec.")
    assert weights.keys() == {"gain"}
    assert weights["gain"].tolist() == [1.0, 2.0]


def test_a_checkpoint_without_averages_is_refused(tmp_path):
    path = checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"last\.ckpt: has no averaged weights"):
        averaged_weights(path, "codec.")


def test_a_checkpoint_of_another_system_is_refused(tmp_path):
    path = checkpoint(tmp_path, averaging_state={})
    with pytest.raises(ValueError, match=r"no tensor named transformer\."):
        averaged_weights(path, "transformer.")
