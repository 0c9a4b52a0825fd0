"""What a metric is to `avgen evaluate`: a name, a protocol, its values, and how they are computed.

A metric's module ends with `MEASURES`, a tuple of `Measure`; run/catalogue.py names the module. To
add a metric is to write one file and one line there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from avgen.evaluation.subject import SAMPLE_RATE, Network, Subject, Unscored

Values = dict[str, Any]
Rows = Sequence[dict[str, Any]]

# What a measure may need besides networks, and what a report says where it is missing.
NEEDS = {
    "reference": "skipped: no --reference to compare with",
    "real clips": "skipped: no --reference to compare with",
    "recognizer": "skipped: no recogniser given (--recognizer IMPORT.PATH)",
    "picture": "skipped: no picture of the person (--persons FOLDER, or --reference)",
    "voice": "skipped: no recording of the voice (--persons FOLDER, or --reference)",
}


@dataclass(frozen=True)
class Value:
    """A number that is averaged over clips.

    Attributes:
        better: 1 if more is better, -1 if less is, 0 if neither.
        unit: "ms", "dB"; "" for a plain number.
    """

    better: int = 0
    unit: str = ""


@dataclass(frozen=True)
class Measure:
    """One metric.

    Attributes:
        name: As in `--metrics`.
        protocol: Id with version; reports of unlike protocols are not compared.
        values: The numbers that are averaged, by name.
        extract: What of a clip does not depend on its sound; or, without `score`, the values.
        score: The values of what `extract` returned with a sound, float32 [1, N] at Hz. The two
            controls (another clip's sound, the clip's own but late) call it again.
        mismatch: For a metric without `score`: its values if the clip is compared with another
            one in place of itself, as a control.
        is_of_person: Whether that one must be of somebody else.
        needs: Names of NEEDS without which it is skipped.
        networks: That it uses; it is skipped without those that do not ship.
        sample_rate: Hz of the sound that `score` takes; None for the clip's own.
        by_default: Whether it is computed if no metrics are named.
        has_delayed: Whether a late sound is a control.
        combine: Further results of all rows together, by key, for the summary (rows, seed). Its
            `sentences`, if any, are printed.
    """

    name: str
    protocol: str
    values: Mapping[str, Value]
    extract: Callable[[Subject], Any]
    score: Callable[[Any, np.ndarray, int], Values] | None = None
    mismatch: Callable[[Subject, Subject], Values] | None = None
    is_of_person: bool = False
    needs: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    sample_rate: int | None = SAMPLE_RATE
    by_default: bool = True
    has_delayed: bool = True
    combine: Callable[[Rows, int], dict[str, Any]] | None = None


def optional(module: str, install: str) -> ModuleType:
    """A module that only some metrics need, imported on first use: the one place for that.

    Args:
        module: Its import path.
        install: What to install, for the message.

    Raises:
        Unscored: it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise Unscored(f"needs {module.split('.')[0]}: pip install {install} ({error})") from error
