"""A git and DVC repository with small hand-made reports and results, one commit for each kind of change."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from dvc.repo import Repo
from typer.testing import CliRunner, Result

import preloaded
from embrepro.benchmarking.speed import Latency, Machine, ModelSpeed, RepeatedMeasure, SpeedReport
from embrepro.cli import app
from embrepro.files import write_json, write_text
from embrepro.results import summary as sm
from embrepro.results.summary import metrics
from embrepro.tasks import samples

REPOSITORY = Path(__file__).parents[1]
SAMPLES = 300
QUERIES, PAIRS, SUMMARIES = "Queries", "Pairs", "Summaries"
TYPES = {
    QUERIES: ("Retrieval", "ndcg_at_10"),
    PAIRS: ("Reranking", "map"),
    SUMMARIES: ("Summarization", "cosine_spearman"),
}
STAGES = {
    "stages": {
        "evaluate": {
            "cmd": "true",
            "deps": ["requirements/cpu.lock"],
            "params": ["seed", "models"],
            "outs": ["results/org__small", "results/org__static"],
        },
        "aggregate": {
            "cmd": "true",
            "deps": ["results"],
            "metrics": [{"reports/metrics.json": {"cache": False}}],
            "outs": [{"reports/summary.json": {"cache": False}}],
        },
    }
}


def drawn(mean: float, seed: int) -> np.ndarray:
    """Per-sample scores of one model on one task, (SAMPLES,)."""
    return np.clip(np.random.default_rng(seed).normal(mean, 0.15, SAMPLES), 0, 1)


@dataclass(frozen=True)
class State:
    """What a run found by model and task: per-sample scores, a score without them, or why there is none."""

    found: dict[str, dict[str, np.ndarray | float | str]]
    pins: dict[str, str] = field(default_factory=lambda: dict.fromkeys(TYPES, "1" * 40))
    hashes: dict[str, str] = field(default_factory=lambda: dict.fromkeys(TYPES, "a" * 64))
    packages: dict[str, str] = field(default_factory=lambda: {"mteb": "2.26.24", "numpy": "2.4.6"})
    batch_size: int = 8
    lock: str = "numpy==2.4.6\n"
    candidate: str = "static"
    size_mb: float = 10.0
    speed: SpeedReport | None = None

    def but(self, model: str, task: str, value: np.ndarray | float | str | None) -> State:
        """This state with another finding; None where the task was not requested at all."""
        found = {key: dict(tasks) for key, tasks in self.found.items()}
        if value is None:
            for tasks in found.values():
                tasks.pop(task)
        else:
            found[model][task] = value
        return replace(self, found=found)

    @property
    def summary(self) -> sm.Summary:
        """The state as the aggregate stage writes it."""
        tasks = next(iter(self.found.values()))
        rows = [self._row(task) for task in tasks]
        means = sm.Means(mean_task=None, mean_type=None, by_type={})
        return sm.Summary(
            baseline="small",
            candidate=self.candidate,
            models={key: self._card(key) for key in self.found},
            tasks=rows,
            means=dict.fromkeys(self.found, means),
            packages=self.packages,
            recipe={"device": "cpu", "threads": None},
        )

    def _row(self, task: str) -> sm.TaskRow:
        cells = {key: _cell(tasks[task]) for key, tasks in self.found.items()}
        kind, metric = TYPES[task]
        return sm.TaskRow(
            name=task,
            type=kind,
            metric=metric,
            splits=["test"],
            subsets=["default"],
            revision=self.pins[task],
            data_hash=self.hashes[task],
            cells=cells,
        )

    def _card(self, key: str) -> sm.ModelCard:
        return sm.ModelCard(
            key=key,
            name=f"org/{key}",
            role="candidate" if key == self.candidate else "baseline",
            family="static",
            revision="2" * 40,
            source="mirror",
            content_hash="b" * 64,
            size_mb=self.size_mb,
            recipe={"batch_size": self.batch_size},
        )


def benchmarked(ratio: tuple[float, float, float], peak: float) -> SpeedReport:
    """A benchmark of the candidate, so many times as fast as the baseline."""
    once = RepeatedMeasure(median=1.0, low=1.0, high=1.0, repeats=6)
    model = ModelSpeed(
        model="static",
        load_seconds=once,
        peak_memory_mb=peak,
        throughput=[],
        latency=Latency(p50=1, p95=1, p99=1, samples=[]),
        size_mb=10,
        dimensions=32,
        parameters=1,
        max_seq_length=None,
        normalised=True,
    )
    median, low, high = ratio
    measured = {"static": RepeatedMeasure(median=median, low=low, high=high, repeats=6)}
    return SpeedReport(
        baseline="small",
        machine=Machine(processor="x", cores=2, threads=1, device="cpu", memory_gb=1, system="x"),
        models={"static": model},
        throughput_ratio=measured,
        latency_ratio={"static": once},
    )


def _cell(found: np.ndarray | float | str) -> sm.Cell:
    if isinstance(found, str):
        return sm.Cell(status=found)
    return sm.Cell(status="scored", score=float(np.mean(found)))


BASE = State(
    {
        "small": {QUERIES: drawn(0.6, 1), PAIRS: drawn(0.5, 2), SUMMARIES: 0.31},
        "static": {QUERIES: drawn(0.5, 3), PAIRS: drawn(0.4, 4), SUMMARIES: 0.28},
    }
)
_QUERIES = BASE.found["static"][QUERIES]
assert isinstance(_QUERIES, np.ndarray)
# Ten queries of 300 lose or win 0.5 each, seven to three: -0.0067 on average, a fall that chance explains.
NOISY = _QUERIES + np.array([-0.5] * 7 + [0.5] * 3 + [0.0] * (SAMPLES - 10))
CHANGES: dict[str, State] = {
    "harmless": replace(
        BASE.but("static", QUERIES, _QUERIES - 1e-4),
        packages={"mteb": "2.26.24", "numpy": "2.4.7"},
        lock="numpy==2.4.7\n",
    ),
    "noise": BASE.but("static", QUERIES, NOISY),
    "regression": replace(BASE.but("static", QUERIES, _QUERIES - 0.03), batch_size=16),
    "improvement": BASE.but("static", QUERIES, _QUERIES + 0.03),
    "vanished": BASE.but("static", PAIRS, None),
    "lost": BASE.but("static", PAIRS, "the download stage failed: no such revision"),
    "tampered": replace(BASE, hashes=BASE.hashes | {PAIRS: "c" * 64}),
    "repinned": replace(
        BASE.but("static", PAIRS, drawn(0.3, 5)),
        pins=BASE.pins | {PAIRS: "3" * 40},
        hashes=BASE.hashes | {PAIRS: "c" * 64},
    ),
    "untested": BASE.but("static", SUMMARIES, 0.20),
    "replaced": State({"small": BASE.found["small"], "tiny": BASE.found["static"]}, candidate="tiny"),
}


@dataclass(frozen=True)
class Project:
    """The repository: tag `base`, a tag for each of CHANGES, and the experiment `faster`."""

    root: Path

    def write(self, state: State) -> None:
        """Leave what a run that found `state` would leave, DVC's records included."""
        for key, tasks in state.found.items():
            folder = self.root / "results" / f"org__{key}" / ("2" * 40)
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.iterdir():
                old.unlink()
            write_json(folder / "model_meta.json", {"name": key})
            for task, found in tasks.items():
                if isinstance(found, np.ndarray):
                    samples.write(folder / f"{task}.samples.parquet", samples.Samples("mean", [_frame(found)]))
        summary = state.summary
        write_json(self.root / "reports" / "metrics.json", metrics(summary))
        write_json(self.root / "reports" / "summary.json", summary.model_dump())
        models = {key: {"name": key, "batch_size": state.batch_size} for key in state.found}
        write_text(self.root / "params.yaml", yaml.safe_dump({"seed": 42, "models": models}))
        write_text(self.root / "requirements" / "cpu.lock", state.lock)
        stages = yaml.safe_load(yaml.safe_dump(STAGES))
        stages["stages"]["evaluate"]["outs"] = [f"results/org__{key}" for key in state.found]
        if state.speed:
            write_json(self.root / "reports" / "speed.json", state.speed.model_dump())
            stages["stages"]["aggregate"]["outs"].append("reports/speed.json")
        write_text(self.root / "dvc.yaml", yaml.safe_dump(stages, sort_keys=False))
        with chdir(self.root), Repo() as repository:
            repository.commit(force=True)

    def commit(self, state: State, tag: str) -> None:
        """Write a state and commit it under a tag."""
        self.write(state)
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", f"Make it {tag}")
        self.git("tag", tag)

    def git(self, *arguments: str) -> str:
        """Run git in the repository."""
        return subprocess.run(
            ["git", "-C", str(self.root), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=_environment(),
        ).stdout

    def dvc(self, *arguments: str) -> None:
        """Run DVC in the repository."""
        subprocess.run(
            [preloaded.programs() / "dvc", *arguments],
            cwd=self.root,
            check=True,
            capture_output=True,
            env=_environment(),
        )


def _frame(scores: np.ndarray) -> pl.DataFrame:
    columns = {
        "split": ["test"] * len(scores),
        "subset": ["default"] * len(scores),
        "sample": [f"q{number}" for number in range(len(scores))],
        "replicate": [0] * len(scores),
        "score": scores,
        "target": [None] * len(scores),
    }
    return pl.DataFrame(columns, schema=samples.SCHEMA)


def _environment() -> dict[str, str]:
    names = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return (
        os.environ
        | names
        | {"GIT_CONFIG_GLOBAL": os.devnull, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(REPOSITORY / "src")}
    )


def begin(root: Path) -> Project:
    """An empty repository under git and DVC."""
    root.mkdir(parents=True, exist_ok=True)
    project = Project(root)
    project.git("init", "--quiet", "--initial-branch=main")
    project.dvc("init", "--quiet")
    project.dvc("config", "core.site_cache_dir", str(root / ".dvc" / "site"))
    write_text(root / ".gitignore", "/results/\n/reports/speed.json\n/.dvc/site/\n")
    write_text(
        root / "conf" / "gate" / "default.yaml",
        (REPOSITORY / "conf" / "gate" / "default.yaml").read_text("utf-8"),
    )
    return project


@pytest.fixture(scope="session")
def states(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The repository, at `base`, made once for all test modules; a test that changes it copies it first."""
    project = begin(tmp_path_factory.mktemp("revisions") / "a project")
    project.commit(BASE, "base")
    for name, state in CHANGES.items():
        project.git("checkout", "--quiet", "-b", f"try-{name}", "base")
        project.commit(state, name)
    project.git("checkout", "--quiet", "main")
    project.write(CHANGES["regression"])
    project.dvc("exp", "save", "--quiet", "--name", "faster")
    project.git("checkout", "--quiet", "--force", "main")
    project.write(BASE)
    return project


@pytest.fixture
def program(states: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The program, in the repository's folder or another one."""

    def invoke(*arguments: str, root: Path = states.root) -> Result:
        monkeypatch.chdir(root)
        return CliRunner().invoke(app, list(arguments))

    return invoke


def copied(project: Project, folder: Path) -> Project:
    """A copy of the repository, for a test to change."""
    return Project(Path(shutil.copytree(project.root, folder / "copy", symlinks=True)))
