"""Records of clips, and runs that prepare them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from avgen.corpora.manifest import ClipRecord

for package in ("scenedetect", "silero_vad"):
    pytest.importorskip(package, reason="pip install 'avgen[prepare]'")


@pytest.fixture(scope="session")
def record() -> Callable[..., ClipRecord]:
    """A record of a file, by its path; whatever else it says is given by name."""

    def make(media: str | Path, **values) -> ClipRecord:
        known = {
            "id": Path(media).stem,
            "media": str(media),
            "corpus": "test",
            "speaker": "somebody",
            "split": "train",
            "caption": "a person",
            "words": (),
            "box": None,
            "licence": "none",
        }
        return ClipRecord(**(known | values))

    return make


@pytest.fixture(scope="session")
def grid(clips_folder) -> Path:
    """Real clips of GRID."""
    if not (clips_folder / "grid").is_dir():
        pytest.skip(f"no grid/ in {clips_folder}")
    return clips_folder / "grid"
