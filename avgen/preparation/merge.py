"""Several prepared folders -> one of their latents."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file

from avgen.corpora.manifest import ClipRecord, read_manifest, write_manifest
from avgen.errors import UserError
from avgen.preparation.latent_store import (
    begin_latents,
    finish_latents,
    read_latent_config,
    read_shape,
    save_latents,
)
from avgen.preparation.store import Store, write_json


def merge(folders: Sequence[Path], out: Path) -> None:
    """Several prepared folders as one of their latents, for training; statistics are of all.

    Args:
        folders: With latents of the same codecs; sizes and rates may differ.
        out: The new folder. Latents and tracks are copied.

    Raises:
        UserError: latents of other codecs or patches, two clips of one name, or a word with two
            pronunciations.
    """
    configs = [read_latent_config(folder) for folder in folders]
    records: dict[str, ClipRecord] = {}
    lexicon: dict[str, list[str]] = {}
    whole = max(configs, key=lambda config: len(config.fingerprint))  # one that has pictures
    for folder, config in zip(folders, configs, strict=True):
        if not config.fits(configs[0]):
            raise UserError(f"{folder}: latents of other codecs or patches than {folders[0]}'s")
        for word, phonemes in Store(folder).lexicon().items():
            if lexicon.setdefault(word, phonemes) != phonemes:
                raise UserError(f"{folder}: {word!r} is pronounced otherwise than in the others")
        for record in read_manifest(folder / "manifest.jsonl"):
            if record.id in records:
                raise UserError(f"{folder}: there is another clip named {record.id}")
            records[record.id] = record
    begin_latents(out, whole, overwrite=True)
    for folder, config in zip(folders, configs, strict=True):
        for record in read_manifest(folder / "manifest.jsonl"):
            path = Store(folder).latents(record.id)
            save_latents(Store(out).latents(record.id), load_file(path), read_shape(path, config))
            for track in record.tracks.values():
                (out / track).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / track, out / track)
    write_json(out / "lexicon.json", lexicon)
    write_manifest(records.values(), out / "manifest.jsonl")
    finish_latents(out, list(records.values()), whole)
