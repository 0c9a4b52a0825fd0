"""A clip in, the same with a signed C2PA manifest out; a file in, what its manifest says out.

https://spec.c2pa.org. The manifest says that a trained model made the clip, and what it was given;
no prompt and no words, which are the user's to tell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import c2pa

from avgen import __version__
from avgen.clips.files import atomic
from avgen.provenance.signer import Identity

EMBEDDED = {".mp4": "video/mp4", ".mov": "video/quicktime"}
MIMES = {**EMBEDDED, ".webm": "video/webm", ".mkv": "video/x-matroska", ".m4v": "video/mp4",
         ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".wav": "audio/wav",
         ".webp": "image/webp", ".mp3": "audio/mpeg", ".m4a": "audio/mp4"}  # fmt: skip
BESIDE = ".c2pa"  # a manifest in a file of its own, for containers that hold none
EXPIRED = "signingCredential.expired"
UNTRUSTED = "signingCredential.untrusted"


@dataclass(frozen=True)
class Manifest:
    """What a file's manifest says.

    Attributes:
        state: "trusted" (whole, signer known here), "valid" (whole, signer not known here),
            "expired" (whole, but its certificate has ended), "invalid" (changed since it was
            signed), "not_present" (says nothing: neither that it is real nor that it is not).
        reasons: Codes of C2PA's validation that failed.
        signer: Name in the certificate, or None.
        generator: The program that the manifest names, or None.
        ai: Whether the manifest says that a trained model made it.
        where: "embedded" or "beside", or None.
    """

    state: str
    reasons: tuple[str, ...] = ()
    signer: str | None = None
    generator: str | None = None
    ai: bool = False
    where: str | None = None


def sign(path: Path, identity: Identity, ingredients: Mapping[str, Path] | None = None) -> Path:
    """Sign a clip: into its file, or beside it (`a.webm.c2pa`) where its container holds none.

    Args:
        path: *.mp4, *.mov, *.webm or *.mkv.
        identity: Whom by.
        ingredients: What the clip was made from, by what it was given as; a signed one keeps its
            own manifest inside the clip's.

    Returns:
        The file that the manifest is in.
    """
    given = {name: file for name, file in (ingredients or {}).items() if _mime(file) in _known()}
    builder = c2pa.Builder(_manifest(path.name, bool(ingredients)))
    kinds = c2pa.C2paDigitalSourceType
    kind = "COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA" if given else "TRAINED_ALGORITHMIC_MEDIA"
    builder.set_intent(c2pa.C2paBuilderIntent.CREATE, kinds[kind])
    for name, file in given.items():
        about = {"title": name, "relationship": "inputTo"}
        with file.open("rb") as stream:
            builder.add_ingredient(about, _mime(file), stream)
    signer = c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(b"es256", identity.chain, identity.key, None)
    )
    suffix = path.suffix.lower()
    if suffix in EMBEDDED:
        with atomic(path) as temporary:
            builder.sign_file(path, temporary, signer)
        return path
    builder.set_no_embed()
    beside = path.with_name(path.name + BESIDE)
    with path.open("rb") as stream, atomic(beside) as temporary:
        content = builder.sign(signer, MIMES.get(suffix, "application/octet-stream"), stream)
        temporary.write_bytes(content)
    return beside


def read(path: Path, roots: tuple[bytes, ...] = ()) -> Manifest:
    """What the manifest in a file, or in the one beside it, says.

    Args:
        path: A media file.
        roots: Certificates that are trusted, PEM.
    """
    settings: dict[str, Any] = {"verify": {"verify_trust": True}}
    if roots:
        settings["trust"] = {"trust_anchors": b"\n".join(roots).decode()}
    beside = path.with_name(path.name + BESIDE)
    data = beside.read_bytes() if beside.is_file() else None
    try:
        context = c2pa.Context.from_dict(settings)
        with (
            path.open("rb") as stream,
            c2pa.Reader(_mime(path), stream, manifest_data=data, context=context) as reader,
        ):
            said = json.loads(reader.json())
            state = reader.get_validation_state()
    except c2pa.C2paError as error:
        if "ManifestNotFound" in str(error) or "NotSupported" in str(error):
            return Manifest("not_present")
        return Manifest("invalid", (" ".join(str(error).split())[:200],))
    return _said(said, state or "", "embedded" if data is None else "beside")


def _said(said: dict[str, Any], state: str, where: str) -> Manifest:
    active = said.get("manifests", {}).get(said.get("active_manifest"), {})
    results = said.get("validation_results", {}).get("activeManifest", {})
    reasons = tuple(sorted({entry["code"] for entry in results.get("failure", [])}))
    if state == "Invalid":
        others = set(reasons) - {EXPIRED, UNTRUSTED}
        verdict = "invalid" if others or EXPIRED not in reasons else "expired"
    else:
        verdict = state.lower()
    signature, generators = active.get("signature_info", {}), active.get("claim_generator_info", [])
    generator = " ".join(str(generators[0].get(k, "")) for k in ("name", "version")).strip() if (
        generators
    ) else active.get("claim_generator")  # fmt: skip
    return Manifest(
        verdict,
        reasons,
        signature.get("common_name") or signature.get("issuer"),
        generator,
        "rainedAlgorithmicMedia" in json.dumps(active.get("assertions", [])),
        where,
    )


def _manifest(title: str, has_inputs: bool) -> dict[str, Any]:
    statement = "AI-generated: picture or sound of this clip was made by a trained model."
    if has_inputs:
        statement += " Something was given to it: see the ingredients."
    return {
        "claim_generator_info": [{"name": "avgen", "version": __version__}],
        "title": title,
        "assertions": [{"label": "org.avgen.statement", "data": {"statement": statement}}],
    }


def _known() -> set[str]:
    return set(MIMES.values()) - {MIMES[".webm"], MIMES[".mkv"]}


def _mime(path: Path) -> str:
    """By the first bytes: an upload has no suffix."""
    with path.open("rb") as file:
        start = file.read(16)
    if start[4:8] == b"ftyp":
        return {b"qt  ": "video/quicktime", b"M4A ": "audio/mp4"}.get(start[8:12], "video/mp4")
    for magic, suffix in (
        (b"\x89PNG", ".png"),
        (b"\xff\xd8\xff", ".jpg"),
        (b"RIFF", ".webp" if start[8:12] == b"WEBP" else ".wav"),
        (b"ID3", ".mp3"),
        (b"\x1aE\xdf\xa3", ".webm"),
    ):
        if start.startswith(magic):
            return MIMES[suffix]
    return "application/octet-stream"


def trusted_roots(identity: Identity | None) -> tuple[bytes, ...]:
    """The roots that `verify` trusts: the user's own."""
    return () if identity is None else (identity.root,)
