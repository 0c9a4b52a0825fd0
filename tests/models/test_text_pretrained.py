"""A caption encoder of Hugging Face's in place of the table: tiny, random, saved to a folder."""

import copy

import pytest
import torch
import transformers
from transformers import BertConfig, BertModel, BertTokenizerFast, T5Config, T5Model

from avgen.codecs.base import load_module, save_module
from avgen.models.text import make_text
from avgen.models.text_pretrained import PretrainedCaptions, TextEncoder
from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.preparation.encode import encode_caption

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


SMALL = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32}
T5 = {
    "vocab_size": len(WORDS),
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
}
VISION = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
VISION |= {"intermediate_size": 32, "patch_size": 14}
QWEN_VISION = {"depth": 1, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 16}
QWEN_VISION |= {"intermediate_size": 32, "fullatt_block_indexes": [0]}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
# Name -> the class that was saved, its configuration, and that of what reads text.
ENCODERS = {
    "UMT5EncoderModel": lambda: (transformers.UMT5Config(**T5), None),
    "T5EncoderModel": lambda: (transformers.T5Config(**T5), None),
    "UMT5Model": lambda: (transformers.UMT5Config(**T5), None),
    "Gemma3TextModel": lambda: (transformers.Gemma3TextConfig(**SMALL, head_dim=8), None),
    "Gemma3Model": lambda: (
        transformers.Gemma3Config(
            text_config={**SMALL, "head_dim": 8}, vision_config=VISION, mm_tokens_per_image=4
        ),
        "language_model",
    ),
    "Qwen2_5_VLModel": lambda: (
        transformers.Qwen2_5_VLConfig(
            text_config={**SMALL, "rope_parameters": ROPE}, vision_config=QWEN_VISION
        ),
        "language_model",
    ),
    "Qwen3Model": lambda: (transformers.Qwen3Config(**SMALL, head_dim=8), None),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_that_loads_reads_captions(name, tmp_path):
    """All layers of each are what its own text model's hidden states are, each normalised."""
    torch.manual_seed(0)
    config, part = ENCODERS[name]()
    model = getattr(transformers, name)(config).eval()
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    encoder = TextEncoder(str(tmp_path), ())
    assert encoder.layers == (0, 1, 2) and encoder.width == 48
    ids = torch.tensor([encoder.tokenize("a man with glasses")])
    made = encoder(ids, torch.ones_like(ids, dtype=torch.bool))
    own = model if part is None else getattr(model, part)
    own = own.get_encoder() if name == "UMT5Model" else own
    with torch.no_grad():
        states = own(input_ids=ids, output_hidden_states=True).hidden_states
    expected = torch.cat([torch.nn.functional.layer_norm(s, (16,)) for s in states], -1)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
    padded = torch.cat([ids, torch.zeros_like(ids)], 1)
    mask = torch.arange(padded.shape[1])[None] < ids.shape[1]
    torch.testing.assert_close(encoder(padded, mask)[:, : ids.shape[1]], made, atol=1e-4, rtol=1e-4)
    last = TextEncoder(str(tmp_path))
    assert copy.deepcopy(last) is last  # an average of weights holds none of its own
    torch.testing.assert_close(
        last(ids, mask[:, : ids.shape[1]]), made[..., 32:], atol=1e-4, rtol=1e-4
    )


def test_cached_features_are_what_the_encoder_makes(encoder):
    """A network reads them without loading the encoder; other captions' are refused."""
    network = AVTransformer(AVTransformerConfig(8, 16, 1, 2, caption_encoder=str(encoder)))
    captions = ["a man", "", "a woman with glasses"]
    plain = network.read(captions, [[]] * 3)
    online = network.caption(plain.caption_ids, plain.caption_mask)
    own = TextEncoder(str(encoder))
    features = [encode_caption(caption, own, "cpu").bfloat16() for caption in captions]
    assert [tuple(feature.shape) for feature in features] == [(4, 16), (0, 16), (6, 16)]
    cached = AVTransformer(AVTransformerConfig(8, 16, 1, 2, caption_encoder=str(encoder)))
    cached.load_state_dict(network.state_dict())
    text = plain.with_features(features)
    made = cached.caption(text.caption_ids, text.caption_mask, text.caption_features)
    torch.testing.assert_close(
        made[plain.caption_mask], online[plain.caption_mask], atol=0.03, rtol=0
    )
    assert cached.caption.encoder.model is None
    assert plain.with_features([None, *features[1:]]) is plain
    with pytest.raises(ValueError, match="are not of these captions"):
        plain.with_features(features[::-1])


def test_no_such_encoder_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"caption_encoder '.*nowhere': .*") as caught:
        PretrainedCaptions(str(tmp_path / "nowhere"), 8)
    assert "\n" not in str(caught.value)
