"""One file of a public git repository at a pinned commit: from the mirror, else from the host, always with its SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from embrepro.errors import SourceError
from embrepro.sources import hub
from embrepro.sources.links import expect_inside

HOST = "https://raw.githubusercontent.com"
KIND = "git"
"""The mirror's folder for it: <mirror>/git/<org>/<name>/<commit>/<path>."""


@dataclass(frozen=True)
class GitFile:
    """A file of a repository (organisation/name) at a commit, and what its bytes must be."""

    repository: str
    commit: str
    path: str
    sha256: str

    @property
    def place(self) -> str:
        """Where it lies on the host and below the mirror's folder."""
        return f"{self.repository}/{self.commit}/{self.path}"


def fetch(file: GitFile, mirror: Path | None) -> tuple[bytes, str]:
    """The bytes of a file, and what served them: mirror or host.

    Raises:
        SourceError: neither has it, or its SHA-256 is another; the reason, and what to do.
    """
    kept = mirror / KIND / file.place if mirror else None
    if mirror is not None and kept is not None and kept.is_file():
        expect_inside(kept, mirror)
        return _checked(file, kept.read_bytes(), str(kept)), "mirror"
    looked = f"the mirror {mirror} has no {KIND}/{file.place}, " if mirror else "no mirror is set, "
    address = f"{HOST}/{file.place}"
    try:
        content = hub.read(address)
    except SourceError as error:
        raise SourceError(
            f"{file.path} of {file.repository} at {file.commit} cannot be had: {looked}{error}. "
            "Connect to the network, or set EMBREPRO_MIRROR to a folder that `embrepro mirror` filled."
        ) from None
    return _checked(file, content, address), "host"


def _checked(file: GitFile, content: bytes, origin: str) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise SourceError(f"{origin} is not the pinned file: SHA-256 {found}, expected {file.sha256}. Fetch it again.")
    return content
