"""Checkpoints that are whole and the newest: Lightning's, where recipes want them."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint


class Saving(ModelCheckpoint):
    """Saves every so many steps, and at the end of training.

    `last.ckpt` is a link to the newest checkpoint, which `--ckpt_path last` finds. One more is kept
    at least, so that it never points to nothing, whenever the run is killed. A run that starts
    afresh in a folder of another takes the link's place, where Lightning would write
    `last-v1.ckpt`.

    Args:
        every_n_train_steps: How often.
        every_minutes: How often in place of that, by the clock.
        keep: Checkpoints; at least 2.
        dirpath: Where they go; None is the trainer's `default_root_dir`.
    """

    def __init__(
        self,
        every_n_train_steps: int = 100,
        keep: int = 2,
        dirpath: str | None = None,
        every_minutes: float | None = None,
    ) -> None:
        often = {"every_n_train_steps": every_n_train_steps}
        if every_minutes is not None:
            often = {"train_time_interval": timedelta(minutes=every_minutes)}
        super().__init__(
            dirpath=dirpath,
            filename="{step}",
            monitor="step",
            mode="max",
            save_top_k=max(2, keep),
            save_last="link",
            **often,  # type: ignore[arg-type]
            enable_version_counter=False,
        )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the folder."""
        self.dirpath = self.dirpath or trainer.default_root_dir
        super().setup(trainer, pl_module, stage)

    def _find_last_checkpoints(self, trainer: L.Trainer) -> set[str]:
        """For `--ckpt_path last`, which Lightning looks for before `setup`."""
        self.dirpath = self.dirpath or trainer.default_root_dir
        found = super()._find_last_checkpoints(trainer)
        if not any(Path(path).is_dir() and not _is_whole(Path(path)) for path in found):
            return found
        # A sharded one was being written when the run was killed: the one before it is the last.
        whole = [path for path in Path(self.dirpath).glob("step=*.ckpt") if _is_whole(path)]
        return {str(max(whole, key=lambda path: path.stat().st_mtime))} if whole else found

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save where it is time to, and after the last step: averages then take the weights' place.

        Lightning's does not look at the clock where a system calls its optimisers itself.
        """
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        due = trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if self._train_time_interval is not None and not pl_module.automatic_optimization:
            waited_s = time.monotonic() - (self._last_time_checked or 0.0)
            due |= trainer.strategy.broadcast(waited_s >= self._train_time_interval.total_seconds())
        if due:
            self._save_now(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what came after the last checkpoint, where epochs end a training."""
        self._save_now(trainer)

    def _save_now(self, trainer: L.Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)
            self._last_time_checked = time.monotonic()


def _is_whole(sharded: Path) -> bool:
    """Whether a sharded checkpoint was written to its end."""
    return (sharded / ".metadata").is_file()
