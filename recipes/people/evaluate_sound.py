"""A transformer of voices alone -> sentences it says, and how many of their words are understood.

    python recipes/people/evaluate_sound.py SOUND PREPARED OUT --clips 24 --splits train validation

SOUND is what `avgen export` makes of sound.yaml's training. The phonemes and their times are those
of the prepared clips; the sound is decoded by --codec, else by the codec's formula. OUT gets the
sound that is generated and, as SPLIT_codec, the clip's own latents decoded: its control. Words are
recognised by Whisper (tiny.en: pip install 'avgen[whisper]').
"""

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from avgen.codecs.base import load_module
from avgen.codecs.normalize import LatentStatistics
from avgen.codecs.speech import SpeechCodec, SpeechCodecConfig
from avgen.corpora.manifest import ClipRecord, read_manifest
from avgen.diffusion.samplers import SAMPLERS
from avgen.diffusion.schedules import shifted_sigmas
from avgen.evaluation.speech.recognition import WhisperRecognizer, word_error_rate
from avgen.latents.packing import make_layout, pack, unpack
from avgen.models.transformer import AVTransformer
from avgen.pipeline.config import PipelineConfig
from avgen.pipeline.denoiser import Denoiser
from avgen.preparation.latent_store import LatentConfig, read_latent_config, read_shapes
from avgen.training.callbacks import WORDLESS
from avgen.training.clip_latents import read_stretch

LONGEST_S = 6.0


def main() -> None:
    """Generate, decode, recognise, and print a line a split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sound", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", type=Path, help="a folder of a SpeechCodec")
    parser.add_argument("--splits", nargs="+", default=["train", "validation"])
    parser.add_argument("--clips", type=int, default=24, help="of each split, spread over it")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--scale", type=float, default=1.5, help="of guidance")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    transformer, codec = load_module(args.sound), SpeechCodec(SpeechCodecConfig()).eval()
    if args.codec is not None:
        codec = load_module(args.codec)
    assert isinstance(transformer, AVTransformer) and isinstance(codec, SpeechCodec)
    facts = json.loads((args.sound / "statistics.json").read_text())["audio"]
    speaker = Speaker(transformer, codec, LatentStatistics(**facts), args)
    for split in args.splits:
        speaker.report(split)


class Speaker:
    """Says the sentences of a prepared folder's clips.

    Args:
        transformer: Of sound, at least.
        codec: Decodes.
        statistics: Of the latents that the transformer was trained on.
        args: The command line's.
    """

    def __init__(
        self,
        transformer: AVTransformer,
        codec: SpeechCodec,
        statistics: LatentStatistics,
        args: argparse.Namespace,
    ) -> None:
        self.transformer, self.codec, self.statistics = transformer.eval(), codec, statistics
        self.args, self.latents = args, read_latent_config(args.prepared)
        self.recognize = WhisperRecognizer()

    def report(self, split: str) -> None:
        """Print how many words of one split are wrong, as generated and through the codec."""
        folder, rule = self.args.prepared, f"{split}, at most {LONGEST_S} s"
        records = [r for r in read_manifest(folder / "manifest.jsonl") if r.split == split]
        records = [r for r in records if (r.lasts_s or LONGEST_S) < LONGEST_S and r.transcript]
        records = records[:: max(1, len(records) // self.args.clips)][: self.args.clips]
        pairs: dict[str, list[tuple[list[str], list[str]]]] = {split: [], f"{split}_codec": []}
        for record in records:
            said = self.recognize.normalize(record.transcript or "")
            for name, latents in zip(pairs, self.both(record, self.latents), strict=True):
                path = self.args.out / name / f"{record.id}.wav"
                heard = self.recognize(self.write(latents, path), self.codec.sample_rate)
                pairs[name].append((said, self.recognize.normalize(" ".join(heard))))
        for name, found in pairs.items():
            rate = 100 * word_error_rate(found)
            print(f"{name}: {rate:.1f} % of words wrong, {len(found)} clips ({rule})", flush=True)

    @torch.inference_mode()
    def both(self, record: ClipRecord, config: LatentConfig) -> tuple[Tensor, Tensor]:
        """Latents [1, C, T] as generated and as encoded."""
        folder, args = self.args.prepared, self.args
        (shape,) = read_shapes(folder, [record], config)
        _, real = read_stretch(folder / "latents" / f"{record.id}.safetensors", config, shape, 0)
        assert real is not None
        video, audio = config.clip_grids(shape)
        layout = make_layout(video, audio, has_picture=False)
        text = self.transformer.read([record.caption, ""], [record.phonemes or (), ()])
        settings = PipelineConfig(
            height=config.height,
            width=config.width,
            fps=config.fps,
            num_frames=shape.num_frames,
            context_frames=0,
            video_patch=config.video_patch,
            audio_patch=config.audio_patch,
            video_statistics=self.statistics,  # there is no picture
            audio_statistics=self.statistics,
            timer=WORDLESS,
            guidance_scale=args.scale,
            audio_guidance_scale=args.scale,
        )
        denoise = Denoiser(self.transformer, layout, text, settings, torch.float32)
        like = pack(None, torch.zeros(1, *real.shape), layout)
        generator = torch.Generator().manual_seed(args.seed)
        noise = torch.randn(like.shape, generator=generator) * layout.used
        sigmas = shifted_sigmas(args.steps, 1.0)[:, None, None].expand(-1, 1, layout.num_tokens)
        _, made = unpack(SAMPLERS["ab2"](denoise, noise, sigmas), layout)
        assert made is not None
        return self.statistics.denormalize(made), real[None].float()

    @torch.inference_mode()
    def write(self, latents: Tensor, path: Path) -> np.ndarray:
        """The waveform [1, N] of latents, which is written as well."""
        length = latents.shape[2] * self.codec.hop_length
        waveform = self.codec.decode(latents, num_samples=length)[0].clamp(-1, 1).numpy()
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, waveform[0], self.codec.sample_rate)
        return waveform


if __name__ == "__main__":
    main()
