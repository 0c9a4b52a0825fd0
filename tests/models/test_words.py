"""Captions by what their words mean: words of one meaning are near, whichever were trained on."""

import pytest
import torch
from torch.nn import functional as F

from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.models.word_vectors import UNKNOWN_ROWS, WordCaptions, row_of, vocabulary, word_ids


@pytest.fixture(scope="module")
def captions():
    torch.manual_seed(0)
    return WordCaptions(64).requires_grad_(False)


def read(captions, text):
    ids = torch.tensor([captions.tokenize(text)])
    return captions(ids, torch.ones_like(ids, dtype=torch.bool))[0]


@pytest.mark.parametrize(
    ("word", "near", "far"),
    [
        ("lady", "woman", "man"), ("bloke", "man", "woman"), ("pensioner", "elderly", "young"),
        ("spectacles", "glasses", "hat"), ("blonde", "blond", "black"), ("gray", "grey", "brown"),
        ("auburn", "brown", "black"), ("crimson", "red", "green"), ("navy", "blue", "yellow"),
        ("jumper", "sweater", "hat"), ("beret", "hat", "shirt"), ("hijab", "headscarf", "beard"),
        ("woods", "forest", "street"), ("husky", "hoarse", "bright"), ("whiskers", "beard", "hair"),
    ],
)  # fmt: skip
def test_a_word_is_nearer_to_what_it_means(captions, word, near, far):
    one, same, other = (read(captions, text)[0] for text in (word, near, far))
    assert float(F.cosine_similarity(one, same, 0) - F.cosine_similarity(one, other, 0)) > 0.1


def test_a_word_is_found_by_its_pieces():
    rows = vocabulary()
    assert row_of("woman's") == rows["woman"]
    assert row_of("redheadedly") == rows["redheaded"]
    assert row_of("superbearded") == rows["bearded"]
    assert row_of("xqzzt") == 0
    assert word_ids("A Woman, smiling!") == word_ids("a woman smiling")
    assert [i // UNKNOWN_ROWS for i in word_ids("a woman")] == [rows["a"], rows["woman"]]


def test_a_word_of_no_meaning_has_a_hashed_row_that_starts_at_nothing(captions):
    nothing, other = read(captions, "xqzzt wkrrp")
    torch.testing.assert_close(nothing, captions.project.bias)
    assert torch.equal(nothing, other)
    learning = WordCaptions(64)
    read(learning, "xqzzt woman").sum().backward()
    rows = learning.unknown.weight.grad.abs().sum(1).nonzero()[:, 0].tolist()
    assert rows == [word_ids("xqzzt")[0] % UNKNOWN_ROWS]


def test_vectors_are_no_weights():
    """They come with the package, so that a model folder does not carry them."""
    config = AVTransformerConfig(6, 32, 1, 2, word_vectors=True)
    network = AVTransformer(config)
    assert {n for n in network.state_dict() if n.startswith("caption")} == {
        "caption.project.weight", "caption.project.bias", "caption.unknown.weight"
    }  # fmt: skip
    text = network.read(["an old man"], [[]])
    assert text.caption_ids[0, :3].tolist() == word_ids("an old man")
