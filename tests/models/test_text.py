"""Captions and phonemes as padded batches."""

import torch

from avgen.models.phonemes import PHONEMES, TimedPhoneme
from avgen.models.text import PAD_TO, SpeechEmbedding, caption_ids, make_text


def test_case_and_punctuation_of_a_caption_do_not_count():
    assert caption_ids("A man, with GLASSES.") == caption_ids("a man with glasses")
    assert caption_ids("man a") == caption_ids("a man")[::-1]
    assert caption_ids("") == []


def test_a_batch_is_padded_and_masked():
    speech = [[TimedPhoneme("AA", 0.1, 0.2), TimedPhoneme("ZH", 0.2, 0.5)], []]
    text = make_text(["one", " ".join(["word"] * 9)], speech)
    assert text.caption_ids.shape == (2, 2 * PAD_TO)
    assert text.caption_mask.sum(1).tolist() == [1, 9]
    assert text.speech_ids.shape == (2, PAD_TO)
    assert text.speech_mask.sum(1).tolist() == [2, 0]
    assert [PHONEMES[i] for i in text.speech_ids[0, :2]] == ["AA", "ZH"]
    torch.testing.assert_close(text.speech_spans[0, :2], torch.tensor([[0.1, 0.2], [0.2, 0.5]]))
    assert not bool(text.speech_spans[1].any())


def test_an_empty_batch_of_words_still_has_a_place_for_them():
    text = make_text([""], [[]])
    assert text.caption_ids.shape == text.speech_ids.shape == (1, PAD_TO)
    assert not bool(text.caption_mask.any() or text.speech_mask.any())


def test_drop_hides_what_it_is_told_to():
    text = make_text(["a b", "a b"], [[TimedPhoneme("AA", 0, 1)]] * 2)
    dropped = text.drop(torch.tensor([True, False]), torch.tensor([False, True]))
    assert dropped.caption_mask.sum(1).tolist() == [0, 2]
    assert dropped.speech_mask.sum(1).tolist() == [1, 0]
    assert torch.equal(dropped.caption_ids, text.caption_ids)


def test_a_phoneme_knows_how_long_it_lasts_but_not_when():
    embed = SpeechEmbedding(16, 39)
    ids = torch.tensor([[3, 3, 3]])
    made = embed(ids, torch.tensor([[[0.0, 0.25], [0.5, 0.75], [0.5, 1.0]]]))[0]
    torch.testing.assert_close(made[0], made[1])
    assert float((made[1] - made[2]).detach().abs().max()) > 0.01
