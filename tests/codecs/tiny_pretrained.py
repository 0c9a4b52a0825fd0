"""Codecs that others trained, of their real classes, with random weights and tiny sizes, saved."""

from pathlib import Path

import diffusers
import torch
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

WAN = {"base_dim": 4, "z_dim": 4, "num_res_blocks": 1, "dim_mult": [1, 2, 2, 2]}
WAN |= {"latents_mean": [0.5, -1.0, 2.0, 0.0], "latents_std": [2.0, 1.0, 0.5, 3.0]}
LTX = {
    "latent_channels": 8,
    "block_out_channels": (8, 8, 16, 16),
    "decoder_block_out_channels": (8, 16, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "decoder_causal": False,
}
VOCODER = {
    "hidden_channels": 32,
    "upsample_kernel_sizes": [16, 15, 8, 4, 4],
    "resnet_kernel_sizes": [3],
    "resnet_dilations": [[1, 3]],
}
VOCODER["in_channels"] = 32  # both channels of a spectrogram of 16 bands
BWE = {
    "in_channels": 32,
    "hidden_channels": 64,
    "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4],
    "resnet_kernel_sizes": [3],
    "resnet_dilations": [[1, 3]],
    "bwe_resnet_kernel_sizes": [3],
    "bwe_resnet_dilations": [[1, 3]],
    "bwe_in_channels": 32,
    "bwe_hidden_channels": 32,
    "num_mel_channels": 16,
}
LTX_AUDIO = {"base_channels": 8, "ch_mult": (1, 1, 1), "num_res_blocks": 1, "latent_channels": 2}
LTX_AUDIO["mel_bins"] = 16
OOBLECK = {
    "encoder_hidden_size": 8,
    "downsampling_ratios": [2, 4, 8],
    "channel_multiples": [1, 2, 2],
    "decoder_channels": 4,
    "decoder_input_channels": 4,
}
H3 = {"encoder_dim": 4, "latent_dim": 16, "latent_channels": 4, "num_attention_heads": 2}
H3 |= {"decoder_dim": 128, "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1,),)}
ENCODEC = {"num_filters": 4, "hidden_size": 8, "codebook_size": 16, "codebook_dim": 8}
ENCODEC["target_bandwidths"] = [1.5]
DAC = {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "n_codebooks": 2, "codebook_size": 16}
DAC |= {"downsampling_ratios": [2, 4, 8, 8], "upsampling_ratios": [8, 8, 4, 2]}
MIMI = {"num_filters": 4, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
MIMI |= {"num_key_value_heads": 2, "intermediate_size": 16, "codebook_size": 16, "head_dim": 8}
MIMI |= {"codebook_dim": 8, "vector_quantization_hidden_dimension": 8, "sliding_window": 8}
MIMI |= {"num_quantizers": 2, "upsample_groups": 16}

# Name -> how it is made; one with two parts is saved in two folders.
MAKE = {
    "wan": lambda: diffusers.AutoencoderKLWan(**WAN),
    "wan22": lambda: diffusers.AutoencoderKLWan(
        **WAN, is_residual=True, patch_size=2, in_channels=12, out_channels=12
    ),
    "ltx": lambda: diffusers.AutoencoderKLLTX2Video(**LTX),
    "oobleck": lambda: diffusers.AutoencoderOobleck(**OOBLECK),
    "h3": lambda: diffusers.AutoencoderKLMiniMaxH3Audio(**H3),
    "encodec": lambda: EncodecModel(EncodecConfig(**ENCODEC)),
    "dac": lambda: DacModel(DacConfig(**DAC)),
    "mimi": lambda: MimiModel(MimiConfig(**MIMI)),
    "ltx_audio": lambda: diffusers.AutoencoderKLLTX2Audio(**LTX_AUDIO),
    "ltx_audio_bwe": lambda: diffusers.AutoencoderKLLTX2Audio(**LTX_AUDIO),
}


def save_tiny(name: str, folder: Path, seed: int = 0) -> dict[str, str]:
    """Save a codec; the fields of its `PretrainedConfig`."""
    torch.manual_seed(seed)
    model = MAKE[name]()
    if "ltx_audio" not in name:
        model.save_pretrained(folder)
        return {"source": str(folder)}
    model.save_pretrained(folder / "audio_vae")
    vocoder = LTX2VocoderWithBWE(**BWE) if "bwe" in name else LTX2Vocoder(**VOCODER)
    for buffer_name, buffer in vocoder.named_buffers():
        if "basis" in buffer_name:  # which a checkpoint brings
            torch.nn.init.normal_(buffer, std=0.1)
    vocoder.save_pretrained(folder / "vocoder")
    return {"source": str(folder), "subfolder": "audio_vae", "vocoder": "vocoder"}
