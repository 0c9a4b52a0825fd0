"""Text in, the sentences that voices say out: everyday English, none of it held out for tests."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from avgen.corpora.manifest import Split
from avgen.corpora.splits import split_by_speaker
from avgen.errors import UserError
from avgen.models.phonemes import without_stress

SHORTEST, LONGEST = 30, 90  # letters: about two to six seconds

_EXAMPLE = re.compile(r'"([^"]+)"')
_SAYABLE = re.compile(r"[A-Za-z][A-Za-z' ,;:.!?]*")
_SHARES = {"test": 0.05, "validation": 0.03}


def read_sentences(sources: Iterable[Path], held_out: Path | None = None) -> list[str]:
    """Sentences of `SHORTEST` to `LONGEST` plain letters, each once, in order.

    Args:
        sources: Text files with a sentence a line, and folders of WordNet's `data.*` (Debian's
            wordnet-base puts them in /usr/share/wordnet), whose quoted examples are taken.
        held_out: A text file whose sentences are left out, whatever their case and punctuation.

    Raises:
        UserError: a source is missing, or holds none.
    """
    taken = {_bare(line) for line in _lines(held_out)} if held_out else set()
    sentences = []
    for source in sources:
        before = len(sentences)
        for text in _wordnet_examples(source) if source.is_dir() else _lines(source):
            sentence = _finished(" ".join(text.split()))
            bare = _bare(sentence)
            if (
                SHORTEST <= len(sentence) <= LONGEST
                and _SAYABLE.fullmatch(sentence)
                and bare not in taken
            ):
                taken.add(bare)
                sentences.append(sentence)
        if len(sentences) == before:
            raise UserError(f"{source}: no sentence of {SHORTEST} to {LONGEST} plain letters in it")
    return sentences


def split_of_sentence(sentence: str) -> Split:
    """The split that a sentence belongs to, by hash of its words."""
    return split_by_speaker(_bare(sentence), "sentences", **_SHARES)


def rare_pairs(
    said: Iterable[Sequence[str]],
    language: Iterable[Sequence[str]],
    share: float = 1e-4,
    wanted: int = 20,
) -> dict[str, int]:
    """Pairs of neighbouring phonemes that a language has often and a corpus too seldom.

    Args:
        said: The phonemes of each utterance of the corpus; stress is not told apart.
        language: Those of a larger one.
        share: Of all its pairs, from which one is frequent.
        wanted: How often a frequent pair should be said.
    """
    usual, found = _pairs(language), _pairs(said)
    frequent = sorted(pair for pair, n in usual.items() if n >= share * usual.total())
    return {pair: found[pair] for pair in frequent if found[pair] < wanted}


def _pairs(utterances: Iterable[Sequence[str]]) -> Counter[str]:
    pairs: Counter[str] = Counter()
    for phonemes in utterances:
        names = [without_stress(phoneme) for phoneme in phonemes]
        pairs.update(f"{a} {b}" for a, b in zip(names, names[1:], strict=False))
    return pairs


def shuffled(sentences: Sequence[str], seed: int) -> list[str]:
    """The sentences in an order that depends on them and the seed alone."""
    order = np.random.default_rng(seed).permutation(len(sentences))
    return [sentences[int(i)] for i in order]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from error


def _wordnet_examples(folder: Path) -> list[str]:
    glosses = (line for path in sorted(folder.glob("data.*")) for line in _lines(path))
    return [text for line in glosses for text in _EXAMPLE.findall(line.partition("|")[2])]


def _finished(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text.rstrip(",;: ") + "."


def _bare(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower().replace("\u2019", "'")))
