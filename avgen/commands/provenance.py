"""`avgen provenance init`: a name in, a certificate out by which this user's clips are signed."""

from __future__ import annotations

import argparse
import getpass

from avgen.errors import UserError

SUMMARY = "make the certificate by which clips are signed"
DESCRIPTION = """\
`init` makes a root and a certificate of your own, good for ten years, in your configuration folder.
From then on `avgen generate`, `avgen serve` and `avgen batch` sign what they make (C2PA), unless
--no-metadata says otherwise. Whoever is to trust your clips needs root.pem: such a root is on no
public list. The key stays on this machine, readable by you alone."""
EXAMPLES = """\
examples:
  avgen provenance init
  avgen provenance init --name "Studio Example" --overwrite"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and whose name goes into the certificate."""
    parser.add_argument("action", choices=["init"], help="make a certificate")
    parser.add_argument("--name", help="that everybody can read in it (default: your login)")
    parser.add_argument("--overwrite", action="store_true", help="replace the one that is there")


def run(args: argparse.Namespace) -> int:
    """Make it, and say where it is."""
    try:
        from avgen.provenance import certificates, signer
    except ImportError as error:
        raise UserError(
            f"signing needs {error.name}; pip install 'avgen[provenance]' brings it"
        ) from error
    folder = signer.config_folder()
    if signer.load() is not None and not args.overwrite:
        raise UserError(
            f"{folder}: has a certificate already; --overwrite replaces it, and clips that the old "
            "one signed are then signed by somebody unknown"
        )
    certificates.create(args.name or getpass.getuser())
    print(f"{folder}: certificate made, good for {certificates.YEARS} years; clips are signed now")
    print(f"{folder / signer.ROOT}: give this to whoever is to trust them")
    return 0
