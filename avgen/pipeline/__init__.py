"""PROMPT -> CLIP: the only way to generate.

`request` is what can be asked for, `config` what a model folder says besides its networks;
`conditions` turns both into numbers; `pipeline` makes the clip by windows, with `denoiser`.
"""

from typing import TYPE_CHECKING

from avgen.lazy import lazy_names

if TYPE_CHECKING:
    from avgen.pipeline.conditions import Conditions as Conditions
    from avgen.pipeline.conditions import resolve as resolve
    from avgen.pipeline.config import DEFAULT_MODEL as DEFAULT_MODEL
    from avgen.pipeline.config import PipelineConfig as PipelineConfig
    from avgen.pipeline.pipeline import AVPipeline as AVPipeline
    from avgen.pipeline.request import GenerateRequest as GenerateRequest

__getattr__, __dir__, __all__ = lazy_names(__name__)
