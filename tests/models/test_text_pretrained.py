"""A caption encoder of Hugging Face's in place of the table: tiny, random, saved to a folder."""

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, T5Config, T5Model

from avgen.codecs.base import load_module, save_module
from avgen.models.text import make_text
from avgen.models.text_pretrained import PretrainedCaptions
from avgen.models.transformer import AVTransformer, AVTransformerConfig

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "woman", "with", "glasses"]


def save_tokenizer(folder):
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    return tmp_path


def test_captions_are_what_the_encoder_makes_of_them(encoder):
    """Each token is the projection of the encoder's own output; padding changes nothing."""
    captions = PretrainedCaptions(str(encoder), 8)
    text = make_text(["a man", "a woman with glasses", ""], [[]] * 3, captions.tokenize)
    assert text.caption_mask.sum(1).tolist() == [4, 6, 0]  # [CLS] ... [SEP]
    made = captions(text.caption_ids, text.caption_mask)
    model = BertModel.from_pretrained(encoder).eval()
    ids = torch.tensor([[2, 5, 6, 3]])
    with torch.no_grad():
        features = model(ids).last_hidden_state
    expected = captions.project(torch.nn.functional.layer_norm(features, (16,)))
    assert torch.allclose(made[:1, :4], expected, atol=1e-5)
    assert bool(made.isfinite().all())


def test_the_encoder_is_neither_trained_nor_saved(encoder, tmp_path):
    config = AVTransformerConfig(8, 16, 1, 2, caption_encoder=str(encoder))
    transformer = AVTransformer(config)
    assert {name for name in transformer.state_dict() if name.startswith("caption.")} == {
        "caption.project.weight",
        "caption.project.bias",
    }
    save_module(transformer, tmp_path / "saved")
    loaded = load_module(tmp_path / "saved")
    text = make_text(["a man"], [[]], transformer.caption.tokenize)
    first, second = (
        module.caption(text.caption_ids, text.caption_mask) for module in (transformer, loaded)
    )
    assert torch.allclose(first, second, atol=0.02)  # saved as bfloat16


def test_t5_gives_its_encoder(tmp_path):
    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    captions = PretrainedCaptions(str(tmp_path), 8)
    text = make_text(["a man"], [[]], captions.tokenize)
    assert captions(text.caption_ids, text.caption_mask).shape == (1, 8, 8)


def test_no_such_encoder_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"caption_encoder '.*nowhere': .*") as caught:
        PretrainedCaptions(str(tmp_path / "nowhere"), 8)
    assert "\n" not in str(caught.value)
