"""PROMPT -> CLIP: the only way to generate.

`config` is what a model folder says besides its networks; `request` turns what is asked for and
given into numbers; `pipeline` makes the clip, window by window, with `denoiser`.
"""

from avgen.pipeline.config import PipelineConfig, Sampling
from avgen.pipeline.pipeline import DEFAULT_MODEL, AVPipeline
from avgen.pipeline.request import Asked, Given, Request, resolve

__all__ = [
    "DEFAULT_MODEL",
    "AVPipeline",
    "Asked",
    "Given",
    "PipelineConfig",
    "Request",
    "Sampling",
    "resolve",
]
