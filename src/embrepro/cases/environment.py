"""The environment of an older mteb: what it needs in another version, on top of the environment that this runs in.

Its lock (`requirements/mteb1.lock`) holds a dozen packages; torch and all else come from the environment beneath, so that
making it takes seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from embrepro import kit
from embrepro.errors import KitError
from embrepro.files import fingerprint, replacing_folder, write_text

LOCK = Path("requirements") / "mteb1.lock"
SETTINGS = Path("scripts") / "pip_settings.py"
FOLDER = Path(".cache") / "mteb1"


def make(root: Path) -> Path:
    """The Python of the environment under a project's root, which is made where it does not stand.

    Raises:
        KitError: the lock is not there, or its packages cannot be installed.
    """
    lock = kit.find(root / LOCK, LOCK)
    if not lock.is_file():
        raise KitError(f"{lock} is missing: run this in a checkout of embrepro.")
    folder = (root / FOLDER).resolve()
    key = fingerprint([lock.read_text(encoding="utf-8"), sys.version, sys.prefix, str(folder)])
    stamp = folder / ".key"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != key:
        with replacing_folder(folder) as unfinished:
            _fill(unfinished, lock, root)
            write_text(unfinished / ".key", key)
    return folder / "bin" / "python"


def _fill(folder: Path, lock: Path, root: Path) -> None:
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python = folder / "bin" / "python"
    told = _run([sys.executable, str(kit.find(root / SETTINGS, SETTINGS))]).stdout.splitlines()
    settings = dict(line.split("=", 1) for line in told if line)
    uv = Path(sys.prefix) / "bin" / "uv"
    command = [str(uv), "pip", "install", "--quiet", "--python", str(python), "--no-deps", "--require-hashes"]
    _run([*command, "-r", str(lock)], settings | {"UV_LINK_MODE": "copy", "UV_NO_CONFIG": "1"})
    (own,) = (folder / "lib").glob("python3*/site-packages")
    write_text(own / "beneath.pth", sysconfig.get_path("purelib") + "\n")


def _run(command: list[str], settings: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, env={**os.environ, **(settings or {})}, capture_output=True, text=True, check=True, timeout=600
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise KitError(
            f"the environment of {LOCK} cannot be made: {' '.join(said[-3:])}. Make the kit's own first (make env), and "
            "connect to a package index."
        ) from None
