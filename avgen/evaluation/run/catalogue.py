"""Every metric that `avgen evaluate` knows, collected from the modules that define them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from avgen.errors import UserError
from avgen.evaluation import file_timing
from avgen.evaluation.comparison import distances, extractors, pictures
from avgen.evaluation.faces import identity, lips, mouths
from avgen.evaluation.measure import Measure
from avgen.evaluation.speech import rating, recognition
from avgen.evaluation.subject import Network, Weights
from avgen.evaluation.sync import av_align, landmarks, score
from avgen.evaluation.syncnet import lse

MODULES = (  # in the order of a report
    *(file_timing, score, landmarks, lse, mouths, lips, av_align, distances, pictures),
    *(recognition, rating, identity, extractors),
)
MEASURES: dict[str, Measure] = {
    measure.name: measure for module in MODULES for measure in module.MEASURES
}
NETWORKS: dict[str, Network] = {
    network.name: network for measure in MEASURES.values() for network in measure.networks
}


def chosen(names: Sequence[str] | None) -> list[Measure]:
    """The measures of those names ("all" is every one), or those computed by default.

    Raises:
        UserError: an unknown name.
    """
    names = None if names is None else [*MEASURES] if "all" in names else names
    for name in names or ():
        if name not in MEASURES:
            raise UserError(f"metric {name!r}; there are {', '.join(MEASURES)}")
    return [m for m in MEASURES.values() if (m.by_default if names is None else m.name in names)]


def check_weights(weights: Weights, measures: Sequence[Measure]) -> dict[str, str]:
    """The SHA-256 of every network's file or folder, by name: those given, those that ship.

    Args:
        weights: Paths by name.
        measures: That will be computed; of the shipped networks only theirs count.

    Raises:
        UserError: an unknown name, or a path that is missing or holds something else.
    """
    hashes = {}
    for name, path in weights.items():
        if name not in NETWORKS:
            raise UserError(f"--weights {name}; there are {', '.join(NETWORKS)}")
        if not path.exists():
            description = NETWORKS[name].description
            raise UserError(f"{path}: not found; --weights {name}=PATH names {description}")
        NETWORKS[name].load(path)  # a wrong file is an error of the request, not of every clip
        hashes[name] = digest(path)
    shipped = {n.name: n.shipped for m in measures for n in m.networks if n.shipped is not None}
    return hashes | {n: digest(shipped[n]) for n in sorted(shipped) if n not in weights}


def digest(path: Path) -> str:
    """The SHA-256 of a file, or of all files of a folder but its card."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and file.suffix != ".md":
            found.update(file.read_bytes())
    return found.hexdigest()
