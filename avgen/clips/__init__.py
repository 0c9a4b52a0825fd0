"""FILE <-> CLIP: files read by timestamp into frames and sound on one clock, and written back.

The names below load on first use, so that importing one of them does not open FFmpeg's libraries
for another.
"""

from typing import TYPE_CHECKING

from avgen.lazy import lazy_names

if TYPE_CHECKING:
    from avgen.clips.clip import Clip as Clip
    from avgen.clips.clip import MediaError as MediaError
    from avgen.clips.media.read import read_audio as read_audio
    from avgen.clips.media.read import read_clip as read_clip
    from avgen.clips.media.read import read_image as read_image
    from avgen.clips.media.read import read_metadata as read_metadata
    from avgen.clips.media.read import read_windows as read_windows
    from avgen.clips.media.streams import MediaProbe as MediaProbe
    from avgen.clips.media.streams import probe as probe
    from avgen.clips.media.write import ClipWriter as ClipWriter
    from avgen.clips.media.write import write_clip as write_clip
    from avgen.clips.timed_words import Word as Word

__getattr__, __dir__, __all__ = lazy_names(__name__)
