"""avgen: joint audio-video diffusion, from a clip to a clip.

The way of the data::

    clip.mp4 -> clips.read_clip        -> Clip(frames, waveform)        decode, by timestamp
             -> codecs/*.encode        -> video latents, audio latents  compress
             -> latents/packing.pack   -> one sequence of tokens, each with its time and place
             -> diffusion/*            -> add noise, or walk it back: models/ is called here
             -> latents/packing.unpack -> video latents, audio latents  split
             -> codecs/*.decode        -> Clip(frames, waveform)        reconstruct, in chunks
             -> clips.write_clip       -> out.mp4                       mux, with provenance

The tree is that sentence::

    clips/       FILE <-> CLIP          imports nothing of avgen
    codecs/      CLIP <-> LATENTS       imports clips
    latents/     LATENTS <-> SEQUENCE   imports clips
    diffusion/   NOISE <-> DATA         imports nothing of avgen
    models/      THE NETWORK            imports latents, clips
    pipeline/    PROMPT -> CLIP         imports all of the above; the only way to generate
    datasets/    CORPORA -> MANIFEST    imports clips, models.speech
    preparation/ CORPORA -> DATA        imports clips, codecs, datasets, metrics
    training/    LIGHTNING              imports all of the above
    cli.py       avgen generate | train | reconstruct | probe, one module each in commands/

The names below load on first use: ``import avgen`` costs nothing, and no command waits for torch
before it needs it.
"""

from typing import TYPE_CHECKING

from avgen.lazy import lazy_names

if TYPE_CHECKING:
    from avgen.clips.clip import Clip as Clip
    from avgen.clips.media.read import read_clip as read_clip
    from avgen.clips.media.write import write_clip as write_clip
    from avgen.pipeline.pipeline import AVPipeline as AVPipeline
    from avgen.pipeline.request import GenerateRequest as GenerateRequest

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_names(__name__)
