"""A small project that has run: two static models, three tasks, every stage; and copies of it, free to be spoilt."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from faults import zygote

MODELS = ("big", "small")
STAGES: tuple[tuple[str, ...], ...] = (
    ("download",),
    *(("encode", key) for key in MODELS),
    *(("evaluate", key) for key in MODELS),
    ("aggregate",),
    ("report",),
    ("check",),
)
"""What `dvc repro` runs, in its order; the benchmark, whose times no two runs share, has injections of its own."""
QUICK = tuple(stage for stage in STAGES if stage != ("report",))
"""All but the pages, whose charts take longer than all the rest and hold times."""
PINNED = "HUMESTS12"
"""The task whose data has a pin."""
MADE = ("data", "embeddings", "results", "reports")


@dataclass(frozen=True)
class Good:
    """A project after a whole run, and what it holds."""

    root: Path
    sources: Path
    files: dict[str, bytes]
    scores: dict[tuple[str, str], float]

    @property
    def project(self) -> Path:
        """The project's folder."""
        return self.root / "good"


def build(root: Path) -> Good:
    """Make the sources, run every stage once."""
    sources, project = root / "sources", root / "good"
    zygote.call(lambda: _sources(sources))
    project.mkdir()
    shutil.copytree(Path(__file__).parents[2] / "conf", project / "conf")
    (project / "params.yaml").write_text(yaml.safe_dump(values(sources), sort_keys=False), encoding="utf-8")
    pinned = (("download",), ("pin", PINNED))
    for stage in (*pinned, *STAGES[:5], ("benchmark", "small"), *STAGES[5:]):
        ended = zygote.run(project, *stage)
        assert ended.code == 0, ended
    files = content(project)
    return Good(root, sources, files, scores(project))


def values(sources: Path) -> dict[str, Any]:
    """The project's configuration."""
    from embrepro.config.compose import compose_values

    composed = compose_values(["device.threads=1"], Path(__file__).parents[2] / "conf")
    composed["models"] = {
        key: {
            "org": "test",
            "name": key,
            "family": "static",
            "weights": {"org": "test", "name": key, "revision": f"{number}" * 40},
        }
        for number, key in enumerate(MODELS, 1)
    }
    composed |= {
        "candidate": "small",
        "baseline": "big",
        "benchmarked": {"small": True},
        "claims": [],
        "recommendation": None,
    }
    composed["benchmark"] = {
        "repeats": 6,
        "batch_sizes": [1],
        "seconds": 0.001,
        "longest_batch": 0.5,
        "queries": 2,
    }
    import tiny_mirror

    composed["tasks"] |= {"names": list(tiny_mirror.TASKS)}
    composed["source"] = {"mirror": str(sources / "mirror")}
    return composed


def _sources(sources: Path) -> None:
    import tiny_mirror
    from conftest import build_static_model

    tiny_mirror.build(sources / "mirror")
    for number, key in enumerate(MODELS, 1):
        folder = sources / "mirror" / "models" / "test" / key / (f"{number}" * 40)
        folder.parent.mkdir(parents=True)
        build_static_model(folder, dimensions=(32, 8)[number - 1], seed=number)


def copy(good: Good, name: str) -> Path:
    """A copy of the project."""
    target = good.root / name
    shutil.copytree(good.project, target)
    return target


def content(project: Path) -> dict[str, bytes]:
    """Every file that stages made, by name; what is not whole yet included."""
    found = {}
    for folder in MADE:
        for path in (project / folder).rglob("*"):
            if path.is_file() and not path.is_symlink():
                found[path.relative_to(project).as_posix()] = path.read_bytes()
    return found


def scores(project: Path) -> dict[tuple[str, str], float]:
    """Every number that the project states, by where it stands; absent where there is none."""
    found: dict[tuple[str, str], float] = {}
    try:
        metrics = json.loads((project / "reports" / "metrics.json").read_bytes())
    except (OSError, ValueError):
        return found
    for key, model in metrics["models"].items():
        for task, score in [*model["scores"].items(), ("mean_task", model["mean_task"])]:
            if score is not None:
                found[key, task] = score
    return found


def remove(path: Path) -> None:
    """Remove a project, whatever an injection left of it."""
    shutil.rmtree(path, ignore_errors=True)
    assert not os.path.lexists(path)
