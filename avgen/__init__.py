"""avgen: joint audio-video diffusion, from a clip to a clip.

docs/design.md has the way of the data, the tree, and the reasons for both. The names below load on
first use: ``import avgen`` costs nothing, and no command waits for torch before it needs it.
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
