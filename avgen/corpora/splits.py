"""A speaker in, the split all clips of that speaker belong to out."""

from __future__ import annotations

import hashlib

from avgen.corpora.manifest import Split

TEST, VALIDATION = 0.1, 0.05  # shares of the speakers


def split_by_speaker(
    speaker: str, corpus: str, test: float = TEST, validation: float = VALIDATION
) -> Split:
    """The split of everything that a speaker of a corpus says, by hash.

    No speaker is in two splits, and clips or speakers that are added move no other. With few
    speakers the shares are only met roughly.

    Args:
        speaker: As the corpus names them.
        corpus: Its name, so that equal names in two corpora are drawn apart.
        test: Share of the speakers to test on.
        validation: Share of the speakers to validate on.
    """
    digest = hashlib.sha256(f"{corpus}/{speaker}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"
