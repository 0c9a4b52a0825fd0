"""A checkpoint of recipes/sync/config.yaml -> the folder that avgen/evaluation/sync/score.py loads.

    python recipes/sync/export.py runs/sync/last.ckpt prepared/sync OUT

The bank of unrelated speech is made here: the trained sound tower's features of validation
sentences, one after another: 16 numbers a frame, no sound.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from avgen.codecs.base import save_module
from avgen.evaluation.sync.network import SyncNetwork
from avgen.training.lightning_cli import instantiate
from avgen.training.sync_scorer import PITCHES, SyncClips, SyncSystem

RECIPE = Path(__file__).with_name("config.yaml")


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    system = instantiate(["--config", str(RECIPE)]).model
    assert isinstance(system, SyncSystem)
    system.load_state_dict(torch.load(args.checkpoint, weights_only=True)["state_dict"])
    save_module(with_bank(system.network, args.prepared), args.out)


def with_bank(network: SyncNetwork, prepared: Path) -> SyncNetwork:
    """The network with the features of all prepared validation sentences as its bank."""
    clips = SyncClips(prepared, "validation", None)
    # At all pitches in turn: a bank of several voices.
    mels = np.stack([clip["mels"][i % len(PITCHES)] for i, clip in enumerate(clips.clips)])
    with torch.inference_mode():
        bank = network.eval().sound(torch.from_numpy(mels).float()).flatten(0, 1)
    whole = SyncNetwork(replace(network.config, bank_frames=len(bank)))
    whole.load_state_dict({**network.state_dict(), "bank": bank.clone()})
    return whole.eval()


if __name__ == "__main__":
    main()
