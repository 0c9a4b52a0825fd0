"""Where a user's certificate is kept, and what is in it. Needs no library of certificates."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from avgen.errors import UserError

CHAIN, KEY, ROOT = "chain.pem", "key.pem", "root.pem"


@dataclass(frozen=True)
class Identity:
    """Whom clips are signed by.

    Attributes:
        chain: The certificate and its root, PEM.
        key: Of the certificate, PKCS #8, PEM.
        root: The root alone, PEM: what readers are told to trust.
    """

    chain: bytes
    key: bytes
    root: bytes


def config_folder() -> Path:
    """Where a user's certificate is: AVGEN_CONFIG, else avgen's folder in XDG_CONFIG_HOME."""
    own = os.environ.get("AVGEN_CONFIG")
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(own) if own else Path(base) / "avgen"


def load(folder: Path | None = None) -> Identity | None:
    """The identity in a folder (the user's where None); None where there is none.

    Raises:
        UserError: a part of it is missing.
    """
    folder = folder or config_folder()
    paths = [folder / name for name in (CHAIN, KEY, ROOT)]
    if not any(path.exists() for path in paths):
        return None
    try:
        return Identity(*(path.read_bytes() for path in paths))
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); "
            "`avgen provenance init --overwrite` makes a new certificate"
        ) from error
