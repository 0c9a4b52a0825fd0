"""The most that lies on disk while `avgen prepare` makes tars of latents, over what it leaves.

    python benchmarks/prepare_disk.py grid GRID --speaker s1 [--limit N] [anything else it takes]

The folder, the tars and temporary files are added up every 50 ms. Codecs are of the sizes of the
shipped ones' latents with few weights, since disk is measured; `--stages none` is enough for it.
"""

import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import torch

from avgen.cli import main as avgen
from avgen.codecs.audio import AudioAutoencoder, AudioAutoencoderConfig
from avgen.codecs.base import save_module
from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig


def size(folder: str) -> int:
    """Bytes of all files in a folder; what goes meanwhile counts nothing."""
    total = 0
    with suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            with suppress(FileNotFoundError):
                total += size(entry.path) if entry.is_dir() else entry.stat().st_size
    return total


def watch(folder: str, found: list[int], ended: Event) -> None:
    """Note the size of a folder until it ends."""
    while not ended.wait(0.05):
        found.append(size(folder))


def save_codecs(folder: Path) -> None:
    """Codecs of random weights whose latents are as large as those of the shipped ones."""
    torch.manual_seed(0)
    widths, once = (8, 16, 16), (1, 1, 1)
    video = ConvVideoCodecConfig(32, widths, widths, once, once)
    save_module(ConvVideoCodec(video), folder / "video_codec")
    audio = AudioAutoencoderConfig(
        latent_channels=32, encoder_width=16, encoder_hidden=16, encoder_depth=1, decoder_width=16,
        decoder_hidden=16, decoder_depth=1,
    )  # fmt: skip
    save_module(AudioAutoencoder(audio), folder / "audio_codec")


def main() -> int:
    """Prepare once, and print."""
    with tempfile.TemporaryDirectory() as codecs, tempfile.TemporaryDirectory() as folder:
        save_codecs(Path(codecs))
        os.environ["TMPDIR"] = tempfile.tempdir = str(Path(folder) / "temporary")
        Path(tempfile.tempdir).mkdir()
        found, ended = [0], Event()
        watcher = Thread(target=watch, args=(folder, found, ended), daemon=True)
        watcher.start()
        started = time.perf_counter()
        command = ["prepare", *sys.argv[1:3], f"{folder}/out", "--codecs", codecs, "--no-frames"]
        code = avgen([*command, "--shards", f"{folder}/tars", *sys.argv[3:]])
        ended.set()
        watcher.join()
        most, left = max(found), size(folder)
        print(f"{len(found)} looks in {time.perf_counter() - started:.0f} s")
        print(f"at most {most / 2**20:.1f} MiB of {left / 2**20:.1f} left: {most / left:.3f}")
    return code


if __name__ == "__main__":
    sys.exit(main())
