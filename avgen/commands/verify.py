"""`avgen verify`: a file in, what it says of where it came from out, layer by layer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from avgen.errors import UserError

SUMMARY = "look for the signature and the marks that say that a model made a clip"
DESCRIPTION = """\
Look for what says that a clip was made by a model: a signed C2PA manifest, avgen's invisible mark
in the picture, and its mark in the sound. Each layer speaks for itself, with how sure it is.

"Not found" never means "real": marks wear off, manifests are lost when a file is saved anew, and
`avgen generate` can leave them out (--no-marks, --no-metadata). docs/provenance.md has the figures.

Exit codes: 0 something was found; 1 nothing was found, or the file was changed after it was signed;
2 the file cannot be read."""
EXAMPLES = """\
examples:
  avgen verify clip.mp4
  avgen verify clip.mp4 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file."""
    parser.add_argument("input", type=Path, metavar="FILE", help="a video, sound or picture")
    parser.add_argument("--json", action="store_true", help="print all that was found as JSON")


def run(args: argparse.Namespace) -> int:
    """Look, and say what is there."""
    try:
        from avgen.provenance.findings import verify
    except ImportError as error:
        raise UserError(
            f"verify needs {error.name}; pip install 'avgen[provenance]' brings it"
        ) from error
    found = verify(args.input)
    if args.json:
        print(json.dumps(found.record(), indent=2))
    else:
        print(f"{args.input}: {found.verdict}")
        print(f"  signature   {_signature(found.c2pa)}")
        for name, mark in (("picture", found.picture), ("sound", found.sound)):
            z = "" if mark.z is None else f" (z {mark.z:.1f}, threshold {mark.threshold:g})"
            print(f"  {name:<11} {mark.reason or mark.state.replace('_', ' ')}{z}")
    return 0 if found.is_marked and not found.is_tampered else 1


def _signature(manifest: object) -> str:
    state, signer = manifest.state, manifest.signer  # type: ignore[attr-defined]
    words = {
        "trusted": f"whole; signed by {signer}, whose certificate is this user's own",
        "valid": f"whole; signed by {signer}, whom nobody here knows",
        "expired": f"whole; signed by {signer}, whose certificate has ended since",
        "invalid": f"does not fit the file: {', '.join(manifest.reasons)}",  # type: ignore[attr-defined]
        "not_present": "none, which says nothing",
    }
    return words[state]
