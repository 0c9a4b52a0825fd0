"""What the machine computes fast: bfloat16 only where it has units for it.

Without them bfloat16 is emulated: a training step then takes 8 to 10 times as long as in float32.
"""

from __future__ import annotations

import platform

import torch


def computes_bfloat16(device_type: str) -> bool:
    """Whether a kind of device ("cpu", "cuda", ...) multiplies bfloat16 matrices in hardware."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
    if platform.machine() in ("x86_64", "AMD64"):  # AVX-512 alone has no bfloat16
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def precision_for(accelerator: str) -> str:
    """Lightning's precision for an accelerator as a trainer names it: auto, cpu, gpu, ..."""
    on_cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device_type = "cuda" if on_cuda else "cpu" if accelerator in ("auto", "cpu") else accelerator
    return "bf16-mixed" if computes_bfloat16(device_type) else "32-true"
