"""What share of its time a training waits for data, over a few of its steps.

    python benchmarks/data_wait.py --config RECIPE.yaml [--steps 60] [anything `avgen train` takes]

The first steps (compiling, filling caches) are left out. Nothing is kept.
"""

import argparse
import csv
import tempfile
from pathlib import Path

from avgen.training.lightning_cli import main as train

EVERY = 10  # steps a figure is over


def main() -> None:
    """Train, read what `Throughput` logged, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    args, recipe = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        train(
            [
                *recipe,
                f"--trainer.max_steps={args.steps}",
                f"--trainer.default_root_dir={folder}",
                "--trainer.limit_val_batches=0",
                "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
                f"--trainer.logger.init_args.save_dir={folder}",
                "--trainer.callbacks=avgen.training.throughput.Throughput",
                f"--trainer.callbacks.init_args.every_n_steps={EVERY}",
            ]
        )
        with next(Path(folder).rglob("metrics.csv")).open() as file:
            rows = [row for row in csv.DictReader(file) if row.get("throughput/data_wait")]
    later = rows[1:]
    wait = sum(float(row["throughput/data_wait"]) for row in later) / len(later)
    clips = sum(float(row["throughput/clips_per_s"]) for row in later) / len(later)
    print(f"{len(later) * EVERY} steps: waits for data {wait:.2%} of the time, {clips:.1f} clips/s")


if __name__ == "__main__":
    main()
