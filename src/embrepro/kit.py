"""What the kit brings beside its code: `conf/`, `dvc.yaml` and locks, of this checkout or of the installed package.

A repository of one's own holds only what is its own; what it lacks is taken from here. A file of the repository goes
before the kit's of the same name. In a checkout of the kit the two are the same files.
"""

from __future__ import annotations

from pathlib import Path

CARRIED = "embrepro_kit"
"""The folder beside the installed package that `setup.py` lays these files into."""
CONF = Path("conf")
_PACKAGE = Path(__file__).parent
_INSTALLED = _PACKAGE.with_name(CARRIED)
ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parents[1]


def find(here: Path, name: Path) -> Path:
    """A file of the repository, where it is there, else the kit's of a name such as `conf/gate/default.yaml`, if any."""
    brought = ROOT / name
    return brought if not here.exists() and brought.is_file() else here


def documents(here: Path, name: Path) -> dict[str, Path]:
    """The YAML files of a folder by stem: the kit's of a name such as `conf/model`, and the repository's in their place."""
    places = (ROOT / name, here)
    return dict(sorted((path.stem, path) for place in places for path in sorted(place.glob("*.yaml"))))
