"""Where and from what a report was made: commit, commands, machine, packages.

Kept apart from the summary, which follows from the inputs alone: everything here may differ between two runs
that found the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from embrepro import numerics
from embrepro.numerics import Numerics

IMAGE_VARIABLE = "EMBREPRO_IMAGE"
REVISION_VARIABLE = "EMBREPRO_REVISION"
_PACKAGES = (
    "altair",
    "datasets",
    "dvc",
    "embrepro",
    "hydra-core",
    "model2vec",
    "mteb",
    "numpy",
    "polars",
    "scikit-learn",
    "scipy",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)
# What a run itself writes into the repository does not make the code that wrote it another one.
_NOT_OUTPUTS = (".", ":(exclude)dvc.lock", ":(exclude)reports", ":(exclude)results")


class Provenance(BaseModel):
    """What produced a report, as found when it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit: str | None = Field(default=None, description="null outside a git repository")
    dirty: bool | None = Field(default=None, description="whether code or configuration differs from the commit")
    branch: str | None = Field(default=None, description="null outside a repository and on a detached head")
    commands: dict[str, str] = Field(default_factory=dict, description="command by DVC stage, such as evaluate@minilm")
    python: str
    platform: str
    processor: str
    cores: int
    threads: int | None = None
    device: str
    numerics: str | None = Field(default=None, description="portable or native; null where that was not recorded")
    not_portable: str = Field(default="", description="why this machine cannot give the portable bytes, if so")
    gpu: str | None = None
    image: str | None = Field(default=None, description="digest of the container image; null on the host")
    packages: dict[str, str] = Field(default_factory=dict)
    config_hash: str | None = Field(default=None, description="SHA-256 of params.yaml")
    date: str = Field(description="UTC, ISO 8601; SOURCE_DATE_EPOCH where that is set")


def collect(root: Path, *, device: str, threads: int | None, chosen: Numerics | None = None) -> Provenance:
    """Describe the repository at `root` and the machine this runs on.

    Args:
        root: the repository's folder; outside a git repository the commit is null.
        device: the device the numbers were computed on, such as `cpu` or `cuda`.
        threads: the threads the numbers were computed with; null where the library chose.
        chosen: the numerics the numbers were computed with.
    """
    return Provenance(
        **revision(root),
        commands=_commands(root),
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        cores=_cores(),
        threads=threads,
        device=device,
        numerics=chosen,
        not_portable=numerics.why_not_portable() if chosen == "portable" else "",
        gpu=_gpu() if device.startswith("cuda") else None,
        image=os.environ.get(IMAGE_VARIABLE) or None,
        packages=_versions(),
        config_hash=_hash(root / "params.yaml"),
        date=_now(),
    )


def revision(root: Path) -> dict[str, Any]:
    """The commit, branch and dirtiness of `root`, as fields of `Provenance`; all null outside a git repository.

    An image holds no git: what the host found there comes in as JSON in EMBREPRO_REVISION.
    """
    if told := os.environ.get(REVISION_VARIABLE):
        given: dict[str, Any] = json.loads(told)
        return given
    branch = _git(root, "rev-parse", "--abbrev-ref", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *_NOT_OUTPUTS)
    return {
        "commit": _git(root, "rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "branch": None if branch == "HEAD" else branch,
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _commands(root: Path) -> dict[str, str]:
    """Commands as DVC ran them (dvc.lock), else as dvc.yaml has them where they need no templating."""
    commands = _stage_commands(root / "dvc.yaml")
    return {
        name: command.replace('"$DVC_STAGE"', name)
        for name, command in sorted((commands | _stage_commands(root / "dvc.lock")).items())
        if "${" not in command
    }


def _stage_commands(path: Path) -> dict[str, str]:
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    stages = document.get("stages") if isinstance(document, dict) else None
    found = {}
    for name, stage in (stages or {}).items():
        command = stage.get("cmd") if isinstance(stage, dict) else None
        if command:
            found[name] = command if isinstance(command, str) else " && ".join(map(str, command))
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _cores() -> int:
    # The cores this process may use, which a container or a batch system limits, not those of the machine.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def _gpu() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _hash(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _now() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
