"""Checkpoints that are whole and the newest: Lightning's, where recipes want them."""

from __future__ import annotations

from datetime import timedelta

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
        return super()._find_last_checkpoints(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last steps too, where they are not a whole number of `every_n_train_steps`."""
        if self._last_global_step_saved != trainer.global_step:
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)
