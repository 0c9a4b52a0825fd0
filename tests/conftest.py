"""What every test shares: a fixed seed, two threads, and where the real clips are."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random state, on at most two threads."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(min(2, torch.get_num_threads()))  # OMP_NUM_THREADS=1 stays 1
    return 0


@pytest.fixture(scope="session")
def clips_folder() -> Path:
    """The folder of real clips (environment variable AVGEN_CLIPS); no folder, a visible skip."""
    default = REPOSITORY.parent / "shared" / "clips"
    folder = Path(os.environ.get("AVGEN_CLIPS", default))
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}; set AVGEN_CLIPS to a folder of them")
    return folder
