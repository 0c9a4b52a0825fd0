"""Fit the duration model to voices whose phonemes have times.

python recipes/people/durations.py OUT VOICES/manifest.jsonl [...]
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from avgen.codecs.base import save_module
from avgen.corpora.manifest import read_manifest
from avgen.models.durations import DurationConfig
from avgen.training.duration_fit import duration_error, fit_durations


def main() -> None:
    """Parse the command line, fit to the training split, measure on the test split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the model")
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    records = [record for path in given.manifests for record in read_manifest(path)]
    timed = [record for record in records if record.phonemes and record.words]
    train = [record for record in timed if record.split == "train"]
    config = replace(
        DurationConfig(),
        lead_s=median(record.words[0].start_s for record in train),
        tail_s=median((record.lasts_s or 0) - record.words[-1].end_s for record in train),
    )
    model = fit_durations(train, config, num_steps=given.steps, seed=given.seed)
    save_module(model, given.out, torch.float32)
    test = [record for record in timed if record.split == "test"]
    print(json.dumps({"train": len(train), "test": len(test), **duration_error(model, test)}))


if __name__ == "__main__":
    main()
