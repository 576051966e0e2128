"""What a lock of requirements/ is: its place, its header, and how to read its entries."""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
LOCKS = {
    "cpu": REQUIREMENTS / "cpu.lock",
    "cuda": REQUIREMENTS / "cuda.lock",
    "ray": REQUIREMENTS / "ray.lock",
    "mteb1": REQUIREMENTS / "mteb1.lock",
    "build": REQUIREMENTS / "build.lock",
    "torch-cpu": REQUIREMENTS / "torch-cpu.txt",
}
_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(.*)$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")


@dataclass(frozen=True)
class Pin:
    """One locked package: its version and the SHA-256 of every file that may be installed for it."""

    version: str
    hashes: frozenset[str]


def parse_lock(text: str) -> dict[str, Pin]:
    """Read a lock into pins by normalised name.

    Raises:
        ValueError: a line is neither a comment nor an entry of the form `name==version --hash=sha256:...`.
    """
    pins: dict[str, Pin] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        entry = _ENTRY.match(line)
        rest = _HASH.sub("", entry[3]).strip() if entry else line
        if entry is None or rest:
            raise ValueError(f"expected `name==version --hash=sha256:...`, found {line.strip()[:80]!r}")
        pins[entry[1].lower().replace("_", "-").replace(".", "-")] = Pin(entry[2], frozenset(_HASH.findall(entry[3])))
    return pins


def declared_sha256(pyproject: str) -> str:
    """Return the SHA-256 of the part of pyproject.toml that the locks answer to."""
    parsed = tomllib.loads(pyproject)
    project = parsed["project"]
    declared = {
        "python": project["requires-python"],
        "build": sorted(parsed["build-system"]["requires"]),
        "dependencies": sorted(project["dependencies"]),
        **{name: sorted(names) for name, names in project["optional-dependencies"].items()},
    }
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()


def header(sha256: str) -> str:
    """Return the first lines of a lock."""
    return (
        "# Made from pyproject.toml by `make locks`, for Python 3.11 on Linux. Do not edit.\n"
        f"# dependencies-sha256: {sha256}\n"
    )
