"""`avgen encode`: a prepared folder in, the latents of its clips out, as files or in tars."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avgen.commands.prepare import share_of
from avgen.errors import UserError

if TYPE_CHECKING:
    from avgen.corpora.manifest import ClipRecord

SUMMARY = "latents of prepared clips, by avgen's codecs or others', into files or tars"
DESCRIPTION = """\
Encode the clips of a prepared folder by two codecs, and their captions by a text encoder.

With --shards the latents go, in bfloat16, into tars (WebDataset's format) in a folder or in object
storage, which training streams; without, into a file a clip. Tasks of an array take a share each
(--num-shards, --shard); the one that finds all of it done completes the folder. What is there is
not made again. Codecs of others are named as SOURCE#SUBFOLDER, of sound SOURCE#SUBFOLDER#VOCODER,
SOURCE a folder or a repository of the Hugging Face hub; FOLDER/codecs then refers to them."""
EXAMPLES = """\
examples:
  avgen encode prepared/mine --codecs avgen/checkpoints/people --device cuda
  avgen encode prepared/mine --video Lightricks/LTX-2#vae \\
      --audio Lightricks/LTX-2#audio_vae#vocoder --patches 1 1 --shards s3://bucket/mine \\
      --caption-encoder google/t5-v1_1-base --device cuda --num-shards 8 --shard 0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, by which codecs, where to, and which share."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what avgen prepare made")
    by = parser.add_argument_group("codecs")
    by.add_argument("--codecs", type=Path, metavar="FOLDER", help="with video_codec, audio_codec")
    by.add_argument("--video", metavar="SOURCE", help="somebody else's codec of pictures")
    by.add_argument("--audio", metavar="SOURCE", help="somebody else's codec of sound")
    by.add_argument(
        "--patches", type=int, nargs=2, default=[2, 3], metavar=("P", "A"), help="latents each way "
        "in a token of picture, latents in one of sound: 2 3"
    )  # fmt: skip
    by.add_argument("--caption-encoder", metavar="NAME", help="of transformers; caches features")
    by.add_argument(
        "--caption-layers", type=int, nargs="*", default=[-1], metavar="I", help="-1; none are all"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, ...")
    parser.add_argument("--shards", metavar="URL", help="tars go there, a folder or s3://...")
    parser.add_argument("--clips-per-shard", type=int, default=1000, metavar="N", help="1000")
    parser.add_argument("--replace-latents", action="store_true", help="remove other codecs'")
    parser.add_argument("--no-frames", action="store_true", help="remove frames with --shards")
    parser.add_argument("--num-shards", type=int, metavar="N", help="shares, as of avgen prepare")
    parser.add_argument("--shard", type=int, metavar="I", help="this one, from 0")


def run(args: argparse.Namespace) -> int:
    """Encode, and say what is done."""
    from avgen.codecs.base import load_module
    from avgen.corpora.manifest import read_manifest
    from avgen.models.text_pretrained import TextEncoder
    from avgen.preparation.encode import encode, own_statistics
    from avgen.preparation.latent_store import finish_latents, read_latent_config
    from avgen.preparation.shards import pack_all
    from avgen.preparation.store import Store

    share, codecs = share_of(args.shard, args.num_shards, os.environ), _codecs(args)
    if args.no_frames and args.shards is None:
        raise UserError("--no-frames goes with --shards here")
    records = read_manifest(args.folder / "manifest.jsonl")
    video, audio = (load_module(codecs / name) for name in ("video_codec", "audio_codec"))
    captions = args.caption_encoder and TextEncoder(args.caption_encoder, args.caption_layers)
    own = own_statistics(video, audio)  # pyright: ignore[reportArgumentType]

    def encode_clips(clips: Sequence["ClipRecord"]) -> None:
        by = video, audio, tuple(args.patches), args.device, clips, captions or None
        encode(args.folder, *by, overwrite=args.replace_latents)  # pyright: ignore[reportArgumentType]

    def encode_and_forget(clips: Sequence["ClipRecord"]) -> None:
        encode_clips(clips)
        for record in clips if args.no_frames else ():
            Store(args.folder).remove_media(record.id)

    if args.shards is not None:
        place = args.shards, records, share, args.clips_per_shard, encode_and_forget
        done = pack_all(args.folder, *place, own)
    else:
        encode_clips([r for i, r in enumerate(records) if i % share[1] == share[0]])
        store = Store(args.folder)
        done = all(store.latents(record.id).is_file() for record in records)
        if done:
            finish_latents(args.folder, records, read_latent_config(args.folder), own)
    print(f"{args.folder}: {'all latents are there' if done else 'this share is done'}")
    return 0


def _codecs(args: argparse.Namespace) -> Path:
    """The folder of codecs; of somebody else's one is made that refers to them.

    Raises:
        UserError: both are named, or none is.
    """
    if args.codecs is not None and args.video is None and args.audio is None:
        return args.codecs
    if args.codecs is not None or args.video is None or args.audio is None:
        raise UserError("name codecs by --codecs, or both by --video and --audio")
    from avgen.codecs.base import save_module
    from avgen.codecs.pretrained import PretrainedConfig, PretrainedVideo
    from avgen.codecs.pretrained_audio import PretrainedAudio

    video, audio = (dict(enumerate(text.split("#"))) for text in (args.video, args.audio))
    out = args.folder / "codecs"
    made = PretrainedVideo(PretrainedConfig(video[0], video.get(1, "")))
    save_module(made, out / "video_codec")
    heard = PretrainedConfig(audio[0], audio.get(1, ""), vocoder=audio.get(2))
    save_module(PretrainedAudio(heard), out / "audio_codec")
    return out
