"""Captions -> tokens by a text encoder that somebody else trained: any of Hugging Face's.

The encoder is frozen and part of neither a checkpoint nor an average of weights: the model's
configuration names it, and it is found there again (a folder, or a name that transformers downloads
or has cached). It is loaded when it is first needed: not at all where its features are cached
beside the latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.errors import UserError

TEXT_PARTS = ("text_model", "language_model")  # of a model of pictures and text


class TextEncoder:
    """Captions to features [B, P, layers * F].

    BERT and its kin, the encoder half of T5 and UMT5 (saved whole or alone), CLIP's text tower, the
    language model of Gemma 3 and of Qwen2.5-VL, decoders such as Qwen3.

    Args:
        name: Name or folder, for transformers' `from_pretrained`.
        layers: Whose hidden states are joined, 0 of the embeddings, -1 the last; none are all.

    Raises:
        UserError: transformers is not installed, or there is no such encoder.
    """

    def __init__(self, name: str, layers: Sequence[int] = (-1,)) -> None:
        try:
            from transformers import AutoConfig, AutoTokenizer
        except ImportError as error:
            raise UserError(
                f"caption_encoder {name!r} needs transformers: pip install 'avgen[captions]'"
            ) from error
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            self.config: Any = AutoConfig.from_pretrained(name)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"caption_encoder {name!r}: {reason}") from error
        own = self.config.get_text_config()
        self.name, self.layers = name, tuple(layers) or tuple(range(own.num_hidden_layers + 1))
        self.width = own.hidden_size * len(self.layers)
        self.model: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> TextEncoder:
        """The same: it is never trained, and an average of weights need not hold it twice."""
        return self

    @property
    def key(self) -> str:
        """What features are of."""
        return f"{self.name}@{','.join(map(str, self.layers))}"

    def load(self, device: torch.device) -> nn.Module:
        """The model, in eval mode."""
        if self.model is None:
            from transformers import AutoModel, AutoModelForTextEncoding

            known = type(self.config) in AutoModelForTextEncoding._model_mapping
            kind = AutoModelForTextEncoding if known else AutoModel  # else T5's decoder comes too
            model = kind.from_pretrained(self.name)
            if model.config.is_encoder_decoder and not known:
                model = model.get_encoder()
            for part in TEXT_PARTS:
                model = getattr(model, part, model)
            self.model = model.eval().requires_grad_(False)
        return self.model.to(device)

    def tokenize(self, caption: str) -> list[int]:
        """The encoder's own tokens; none for an empty caption."""
        return self.tokenizer(caption, truncation=True)["input_ids"] if caption else []

    @torch.no_grad()
    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode ids [B, P]; what the mask [B, P] hides is never seen. Each layer is normalised.

        A row with nothing to see is given its first token, for attention over nothing is no number.
        """
        seen = mask.clone()
        seen[:, :1] = True
        model = self.load(ids.device)
        last = self.layers == (-1,)
        made = model(input_ids=ids, attention_mask=seen.long(), output_hidden_states=not last)
        states = [made.last_hidden_state] if last else [made.hidden_states[i] for i in self.layers]
        return torch.cat([F.layer_norm(s.float(), s.shape[-1:]) for s in states], -1)


class PretrainedCaptions(nn.Module):
    """Caption tokens to tokens [B, P, D] through a frozen encoder and a trained projection.

    Args:
        name: See `TextEncoder`.
        width: D.
        layers: See `TextEncoder`.

    Raises:
        UserError: as `TextEncoder`.
    """

    def __init__(self, name: str, width: int, layers: Sequence[int] = (-1,)) -> None:
        super().__init__()
        self.encoder = TextEncoder(name, layers)  # no module: unknown to state dicts and optimisers
        self.tokenize = self.encoder.tokenize
        self.project = nn.Linear(self.encoder.width, width)

    def forward(self, ids: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
        """Encode ids [B, P] that the mask [B, P] shows, or take the features [B, P, F] of them."""
        made = self.encoder(ids, mask) if features is None else features.float()
        return self.project(made)
