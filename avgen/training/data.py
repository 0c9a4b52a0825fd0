"""A prepared folder's cached latents -> batches of clips of all sizes, lengths and rates.

A prepared folder holds

    manifest.jsonl          the records (see avgen/corpora/manifest.py)
    frames/ID.npy           uint8 [T, H, W, 3]
    waveforms/ID.npy        int16 [C, N]
    rates.json              fps, sample_rate
    lexicon.json            pronunciations besides the dictionary's
    latents/ID.safetensors  raw latents of both codecs, with the clip's shape in the header
    latents/shapes.json     the shapes of all clips, so that no file is opened before it is drawn
    latents/index.json      in place of both where they are in tars (avgen/preparation/shards.py)

A batch is {"clips": [ClipLatents, ...], "records": [...], "draws": [...]}. Of a file no more is
read than is trained on. Which clips train together is `batching` (batches.py); what else is random
about a clip is seeded by the number of its draw.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from avgen.corpora.manifest import Split
from avgen.errors import UserError
from avgen.preparation.latent_store import ClipShape
from avgen.preparation.store import Prepared
from avgen.training.batches import Batching
from avgen.training.clip_latents import (
    ALONE,
    WHOLE,
    ClipDraw,
    Clips,
    Kind,
    References,
    Stretches,
    still,
)
from avgen.training.draws import Steps, as_they_are, hash_seed, loader_of, rank_and_world
from avgen.training.epochs import Epochs

STILL_DRAWS = 25 * 10**7  # number of the first draw of a still, after those of an epoch's others
SOUND_DRAWS = 5 * 10**8  # likewise of sound alone


class ClipSteps(Steps):
    """The draws of every step.

    Args:
        clips: What is drawn of.
        batching: Which clips train together.
        sound_share: Share of the steps that train on sound alone: of all clips that have any,
            without their picture. 0 makes no such steps; clips without a picture are then drawn
            among the others.
        still_share: Share of the steps that train on single frames without sound, each from
            anywhere in a clip that has a picture; by a codec whose windows are not exact, its first
            frame.
        seed: Of the order, and of which steps are stretches.

    Raises:
        UserError: no clip is left for a kind of step that there is to be.
    """

    def __init__(
        self,
        clips: Clips,
        batching: Batching,
        sound_share: float = 0.0,
        still_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(sound_share, still_share) < 0 or sound_share + still_share > 1:
            raise UserError(
                f"sound_share {sound_share} and still_share {still_share}; they are shares of the "
                "steps, 1 together at most"
            )
        self.stretch_share, self.seed = clips.stretches.share, seed
        self.shares: dict[Kind, float] = {
            "clip": max(0.0, round(1 - sound_share - still_share, 9)),
            "still": still_share,
        }
        self.shares["sound"] = sound_share
        shapes = dict(enumerate(clips.shapes))
        shown = {clip: own for clip, own in shapes.items() if own.has_picture}
        found: dict[Kind, dict[int, ClipShape]] = {
            "clip": shown if sound_share else shapes,
            "sound": {
                clip: replace(own, has_picture=False)
                for clip, own in shapes.items()
                if own.has_sound
            },
            "still": {clip: still(own) for clip, own in shown.items()},
        }
        for kind, share in self.shares.items():
            if share > 0 and not found[kind]:
                raise UserError(
                    f"sound_share is {sound_share}, still_share {still_share}; no training clip "
                    f"has {'sound' if kind == 'sound' else 'a picture'}"
                )
        tars = None if clips.tars is None else dict(enumerate(clips.tars))
        config = clips.config
        self.streams: dict[Kind, Epochs] = {
            "clip": Epochs(found["clip"], batching, config, seed, tars=tars),
            "sound": Epochs(
                found["sound"], batching, config, hash_seed(seed, 3), SOUND_DRAWS, tars
            ),
            "still": Epochs(
                found["still"], batching, config, hash_seed(seed, 4), STILL_DRAWS, tars
            ),
        }
        self.taken = 0

    def __len__(self) -> int:
        """Steps in which all clips are drawn once; those of sound alone count if all are such."""
        world = rank_and_world()[1]
        kind: Kind = next(kind for kind, share in self.shares.items() if share > 0)
        return round(len(self.streams[kind].plan(0, [(world, 0)])) / self.shares[kind])

    def take(self) -> list[ClipDraw]:
        """This process's draws of the next step; of all processes' it is the same kind."""
        rank, world = rank_and_world()
        kind = self.kind(self.taken)
        self.taken += 1
        step = self.streams[kind].take(world)
        random = np.random.default_rng(hash_seed(self.seed, step[0][0][1], 1))
        stretch = bool(random.random() < self.stretch_share)
        return [ClipDraw(clip, draw, stretch, kind) for clip, draw in step[rank]]

    def kind(self, step: int) -> Kind:
        """What a step trains on; the shares hold however many steps there are, within one."""
        if passes(step, self.shares["sound"]):
            return "sound"
        others = step - int(step * self.shares["sound"])
        of_others = self.shares["still"] / (1 - self.shares["sound"])
        return "still" if passes(others, of_others) else "clip"

    def state_dict(self) -> dict[str, Any]:
        """Steps of all processes, and how far each kind of step has come."""
        streams = [stream.state_dict() for stream in self.streams.values()]
        return super().state_dict() | {"taken": self.taken, "streams": streams}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state)
        self.taken = state["taken"]
        for stream, own in zip(self.streams.values(), state["streams"], strict=False):
            stream.load_state_dict(own)  # of a run from before there were stills, two


def passes(number: int, share: float) -> bool:
    """Whether the count of `share` of all numbers goes up from this one to the next."""
    return int((number + 1) * share) > int(number * share)


class ClipData(L.LightningDataModule):
    """Batches of clips of all shapes, for training the transformer.

    Args:
        folder: A prepared folder with latents (`prepared.merge` makes one of several).
        batching: Which clips train together.
        stretches: Training on parts of clips besides.
        sound_share: Share of the steps that train on sound alone, of all clips that have any; see
            `ClipSteps`.
        still_share: Share of the steps that train on single frames, likewise.
        references: How often a clip has another one of the same person to be like.
        num_workers: Processes that read.
        seed: Of the order.
    """

    def __init__(
        self,
        folder: Path,
        batching: Batching,
        stretches: Stretches = WHOLE,
        sound_share: float = 0.0,
        still_share: float = 0.0,
        references: References = ALONE,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.folder, self.batching, self.stretches = folder, batching, stretches
        self.sound_share, self.still_share = sound_share, still_share
        self.references = references
        self.num_workers, self.seed = num_workers, seed

    def clips(self, split: Split) -> Clips:
        """The clips of a split."""
        prepared = Prepared(self.folder, split)
        return Clips(prepared, self.batching, self.stretches, self.references, self.seed)

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Leave the clips where they are: the system draws on the CPU, and moves the outcome."""
        return batch

    def train_dataloader(self) -> StatefulDataLoader:
        """Training batches, resumable in the middle of an epoch."""
        clips = self.clips("train")
        steps = ClipSteps(clips, self.batching, self.sound_share, self.still_share, self.seed)
        return loader_of(clips, steps, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        """Validation clips whole, each at least once; every process sees all."""
        clips = self.clips("validation")
        epochs = Epochs(dict(enumerate(clips.shapes)), self.batching, clips.config, self.seed)
        batches = [[ClipDraw(*pair) for pair in step[0]] for step in epochs.plan(0, [(1, 0)])]
        return DataLoader(clips, None, sampler=batches, collate_fn=as_they_are)
