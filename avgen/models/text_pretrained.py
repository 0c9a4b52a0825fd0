"""Captions -> tokens by a text encoder that somebody else trained: any of Hugging Face's.

The encoder is frozen and not part of a checkpoint: the model's configuration names it, and it is
found there again (a folder, or a name that transformers downloads or has cached).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avgen.errors import UserError


class PretrainedCaptions(nn.Module):
    """Caption tokens to tokens [B, P, D] through a frozen encoder and a trained projection.

    Args:
        name: Name or folder of the encoder, for transformers' `from_pretrained`: BERT and its kin,
            the encoder half of T5, CLIP's text tower.
        width: D.

    Raises:
        UserError: transformers is not installed, or there is no such encoder.
    """

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise UserError(
                f"caption_encoder {name!r} needs transformers: pip install 'avgen[captions]'"
            ) from error
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            model = AutoModel.from_pretrained(name)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"caption_encoder {name!r}: {reason}") from error
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        model = getattr(model, "text_model", model)
        # In a tuple, so that neither state dicts nor optimisers know it.
        self.frozen = (model.eval().requires_grad_(False),)
        self.project = nn.Linear(model.config.hidden_size, width)

    def tokenize(self, caption: str) -> list[int]:
        """The encoder's own tokens; none for an empty caption."""
        return self.tokenizer(caption, truncation=True)["input_ids"] if caption else []

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode ids [B, P]; what the mask [B, P] hides is never seen.

        A row with nothing to see is given its first token, for attention over nothing is no number.
        """
        seen = mask.clone()
        seen[:, :1] = True
        with torch.no_grad():
            model = self.frozen[0].to(ids.device)
            features = model(input_ids=ids, attention_mask=seen.long()).last_hidden_state
        return self.project(F.layer_norm(features.float(), features.shape[-1:]))
