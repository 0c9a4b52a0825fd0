"""Two gloo processes train one model: the same weights on both, and no clip drawn twice."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from avgen.training.epochs import DRAWS_OF_AN_EPOCH

REPOSITORY = Path(__file__).resolve().parents[2]
RECORD = """
import os
from pathlib import Path
import torch
from lightning.pytorch.callbacks import Callback

class Record(Callback):
    def __init__(self, folder: str):
        self.folder, self.draws, self.losses = Path(folder), [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.draws += batch["draws"]
        self.losses.append(float(outputs["loss"]))

    def on_train_end(self, trainer, pl_module):
        assert torch.distributed.get_backend() == "gloo"
        weights = pl_module.state_dict()
        record = {"draws": self.draws, "losses": self.losses, "weights": weights}
        torch.save(record, self.folder / f"{trainer.global_rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_train_one_model(recipe, tmp_path):
    (tmp_path / "record.py").write_text(RECORD)
    (tmp_path / "train.py").write_text("from avgen.training.lightning_cli import main\nmain()\n")
    recipe = copy.deepcopy(recipe)
    recipe["trainer"] |= {
        "devices": 2,
        "strategy": "ddp",
        "max_steps": 4,
        "default_root_dir": str(tmp_path),
    }
    record = {"class_path": "record.Record", "init_args": {"folder": str(tmp_path)}}
    recipe["trainer"]["callbacks"] = [recipe["trainer"]["callbacks"][0], record]
    recipe["trainer"]["enable_checkpointing"] = False
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(tmp_path))),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(tmp_path / "train.py"), "--config", str(tmp_path / "recipe.yaml")],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert one["weights"].keys() == two["weights"].keys()
    assert all(torch.equal(value, two["weights"][name]) for name, value in one["weights"].items())
    # eight clips, two at a time on each process: an epoch is two steps, then the next one's begin
    assert all(len(rank["draws"]) == 8 for rank in (one, two))
    for epoch in (0, 1):
        drawn = [*one["draws"][4 * epoch :][:4], *two["draws"][4 * epoch :][:4]]
        assert sorted(drawn) == [epoch * DRAWS_OF_AN_EPOCH + number for number in range(8)]
    assert one["losses"] != two["losses"]  # each on its own clips, with its own noise
    assert float(one["weights"]["transformer.outward.0.weight"].abs().max()) > 0
