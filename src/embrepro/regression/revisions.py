"""What a run found and what it was made from, at any git revision, DVC experiment or in the working tree.

Reports are read from git, per-sample scores from DVC's cache. Reports of older versions of the kit are read
as far as they go, so that a comparison does not end where the format grew.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from embrepro.benchmarking.speed import RepeatedMeasure, SpeedReport
from embrepro.config.messages import suggest
from embrepro.errors import KitError
from embrepro.layout import Layout
from embrepro.results.agreement import expect_agreement, expect_score
from embrepro.results.summary import Interval
from embrepro.tasks import samples
from embrepro.tasks.samples import Samples

WORKSPACE = "workspace"
_SHORT = 8
# Below refs/exps, beside the experiments, DVC keeps its own state and its queue.
_NOT_EXPERIMENTS = ("refs/exps/exec/", "refs/exps/stash", "refs/exps/celery/", "refs/exps/apply/")


class RevisionError(KitError):
    """A revision that does not exist, or that holds no reports."""


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RecordedScore(_Lenient):
    """One model on one task."""

    status: str
    score: float | None = None
    interval: Interval | None = None


class RecordedTask(_Lenient):
    """One requested task."""

    name: str
    type: str = ""
    metric: str = ""
    splits: list[str] = []
    subsets: list[str] = []
    revision: str | None = None
    data_hash: str | None = None
    cells: dict[str, RecordedScore] = {}


class RecordedModel(_Lenient):
    """What a model was."""

    name: str
    revision: str
    content_hash: str
    family: str | None = None
    dtype: str | None = None
    dimensions: int | None = None
    parameters: int | None = None
    max_seq_length: int | None = None
    normalised: bool | None = None
    similarity: str | None = None
    size_mb: float | None = None
    recipe: dict[str, str | int | float | bool | None] = {}


class RecordedRun(_Lenient):
    """The part of `reports/summary.json` that a comparison needs."""

    baseline: str
    candidate: str
    models: dict[str, RecordedModel]
    tasks: list[RecordedTask]
    suite: dict[str, Any] | None = None
    packages: dict[str, str] = {}
    recipe: dict[str, str | int | None] = {}


@dataclass(frozen=True)
class Revision:
    """A state of the project: a commit, or the working tree where `commit` is None."""

    name: str
    commit: str | None

    @property
    def label(self) -> str:
        """The name as given, with the commit where it says more."""
        if self.commit is None:
            return self.name
        if self.commit.startswith(self.name):
            return self.name[:12]
        return f"{self.name} ({self.commit[:_SHORT]})"


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    root: Path
    revision: Revision
    run: RecordedRun
    files: dict[tuple[str, str], Path] = field(default_factory=dict)
    """Of a folder of results: where each model's per-sample scores on each task would lie."""
    params: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Of its intervals and tests; 0 where no parameters say it."""
        found = self.params.get("seed")
        return found if isinstance(found, int) else 0

    @cached_property
    def tasks(self) -> dict[str, RecordedTask]:
        """Requested tasks by name."""
        return {task.name: task for task in self.run.tasks}

    def samples(self, key: str, task: str) -> Samples | str:
        """A model's per-sample scores on a task, or the reason in words why there are none.

        Raises:
            KitError: the score is not what they give, or not that of the result file beside them.
        """
        found = self._read_samples(key, task)
        score = self.tasks[task].cells[key].score
        if score is None:
            return found
        if self.revision.commit is None and not self.files:
            model = self.run.models[key]
            expect_score(score, Layout(self.root).results_of(model.name) / model.revision, task, key)
        elif not isinstance(found, str):
            expect_agreement(score, found, f"the score of {key} on {task} at {self.revision.label}")
        return found

    def _read_samples(self, key: str, task: str) -> Samples | str:
        if kept := self.files.get((key, task)):
            return samples.read(kept) if kept.is_file() else f"{self.revision.label} holds no per-sample scores"
        model = self.run.models[key]
        path = samples.path_of(Layout().results_of(model.name) / model.revision, task).as_posix()
        if self.revision.commit is None:
            file = self.root / path
            where = "the working tree" if self.revision.name == WORKSPACE else self.revision.name
            return samples.read(file) if file.is_file() else f"no per-sample scores of {task} in {where}"
        try:
            content = self._stored.read_bytes(path)
        except _not_stored() as error:
            absent = isinstance(error, FileNotFoundError) and "No storage files" not in str(error)
            reason = "not among DVC's results" if absent else "not in DVC's cache"
            return f"the per-sample scores of {self.revision.label} are {reason}"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "samples.parquet"
            file.write_bytes(content)
            return samples.read(file)

    def measures(self, key: str) -> dict[str, RepeatedMeasure]:
        """What was measured of a model beside scores, by the names of `diff.ComparedMeasure`; a single reading has no spread."""
        found = {}
        if size := self.run.models[key].size_mb:
            found["size_mb"] = RepeatedMeasure(median=size, low=size, high=size, repeats=1)
        if self.speed and key in self.speed.models:
            peak = self.speed.models[key].peak_memory_mb
            found["peak_memory_mb"] = RepeatedMeasure(median=peak, low=peak, high=peak, repeats=1)
        for name, ratios in (
            ("throughput_ratio", self.speed.throughput_ratio if self.speed else {}),
            ("latency_ratio", self.speed.latency_ratio if self.speed else {}),
        ):
            if key in ratios and key != self.run.baseline:
                found[name] = ratios[key]
        return found

    @cached_property
    def speed(self) -> SpeedReport | None:
        """The benchmark of the run, if there was one, DVC's cache has it, and it can still be read."""
        if self.files:
            return None
        path = Layout().speed
        here = self.root / path if self.revision.commit is None else self._cached(path.as_posix())
        if here is None or not here.is_file():
            return None
        content = here.read_bytes()
        try:
            return SpeedReport.model_validate_json(content)
        except ValidationError:
            return None

    def _cached(self, path: str) -> Path | None:
        """Where DVC's cache has a file that the commit's dvc.lock names; nothing is fetched."""
        lock = _mapping(read_text(self.root, self.revision, "dvc.lock"))
        stages = [stage for stage in (lock.get("stages") or {}).values() if isinstance(stage, dict)]
        hashes = [out.get("md5") for stage in stages for out in stage.get("outs", []) if out.get("path") == path]
        if not hashes or not hashes[0]:
            return None
        try:
            return Path(_cache(self.root.resolve()).oid_to_path(hashes[0]))
        except _not_stored():
            return None

    @cached_property
    def _stored(self) -> Any:  # noqa: ANN401 - a file system of DVC
        from dvc.api import DVCFileSystem
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.CRITICAL)
        return DVCFileSystem(repo=Repo(str(self.root), rev=self.revision.commit))


@cache
def _cache(root: Path) -> Any:  # noqa: ANN401 - a store of DVC
    from dvc.repo import Repo

    return Repo(str(root)).cache.local


def resolve(root: Path, name: str) -> Revision:
    """Find a git revision, a DVC experiment by name, or the working tree (`workspace`).

    Raises:
        RevisionError: no such revision, or several experiments of that name; names what there is.
    """
    if name == WORKSPACE:
        return Revision(name, None)
    if not name.startswith("-") and (commit := git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")):
        return Revision(name, commit.strip())
    found = sorted({commit for experiment, commit in experiments(root) if experiment == name})
    if len(found) == 1:
        return Revision(name, found[0])
    if found:
        commits = ", ".join(commit[:_SHORT] for commit in found)
        raise RevisionError(f"{len(found)} experiments are called '{name}' ({commits}). Name one by its commit.")
    if git(root, "rev-parse", "--git-dir") is None:
        raise RevisionError(
            f"{root.resolve()} is not in a git repository, so there is no revision '{name}'; "
            f"only {WORKSPACE} can be read."
        )
    raise RevisionError(
        f"No git revision and no DVC experiment is called '{name}'{suggest(name, _known_names(root))}. "
        "In a shallow clone, fetch it first."
    )


def experiments(root: Path) -> list[tuple[str, str]]:
    """Name and commit of every DVC experiment, newest commit last."""
    listed = git(root, "for-each-ref", "--sort=committerdate", "--format=%(refname) %(objectname)", "refs/exps") or ""
    lines = [line.split() for line in listed.splitlines()]
    return [(ref.rsplit("/", 1)[1], commit) for ref, commit in lines if not ref.startswith(_NOT_EXPERIMENTS)]


def load(root: Path, name: str) -> Side:
    """Read one side of a comparison.

    Raises:
        RevisionError: no such revision, or its `reports/summary.json` is missing or unreadable.
    """
    revision = resolve(root, name)
    return Side(
        root=root,
        revision=revision,
        run=_run(root, revision),
        params=_mapping(read_text(root, revision, "params.yaml")),
        inputs=_inputs(_mapping(read_text(root, revision, "dvc.lock"))),
    )


def read_text(root: Path, revision: Revision, path: str) -> str | None:
    """A file's text at a revision; None where it is not there."""
    if revision.commit is not None:
        return git(root, "show", f"{revision.commit}:./{path}")
    file = root / path
    return file.read_text(encoding="utf-8") if file.is_file() else None


def git(root: Path, *arguments: str) -> str | None:
    """What a git command prints; None where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise RevisionError("Revisions are read with git, which is not installed here. Install it.") from None
    return done.stdout.decode("utf-8", errors="replace") if done.returncode == 0 else None


def _run(root: Path, revision: Revision) -> RecordedRun:
    path = (Layout().summary).as_posix()
    text = read_text(root, revision, path)
    if text is None:
        how = (
            "`dvc repro` makes it" if revision.commit is None else "commit reports/ together with dvc.lock after a run"
        )
        raise RevisionError(f"{revision.label} holds no {path}; {how}.")
    try:
        return RecordedRun.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RevisionError(
            f"{path} of {revision.label} cannot be read: {where}: {first['msg']}. Run that revision again."
        ) from None


def _mapping(text: str | None) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text or "")
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


def _inputs(lock: dict[str, Any]) -> dict[str, str]:
    """Content hash by path of what enters the pipeline: dependencies in dvc.lock that no stage makes of others.

    A stage without dependencies brings in what lies outside the repository: the code and packages of an installed kit.
    """
    stages = [stage for stage in (lock.get("stages") or {}).values() if isinstance(stage, dict)]
    made = [str(out["path"]) for stage in stages if stage.get("deps") for out in stage.get("outs", [])]
    return {
        str(dep["path"]): str(dep.get("md5", ""))
        for stage in stages
        for dep in stage.get("deps", [])
        if not any(related(str(dep["path"]), out) for out in made)
    }


def related(path: str, out: str) -> bool:
    """Whether a path is an output, lies in one, or holds one."""
    return path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/")


def _known_names(root: Path) -> list[str]:
    listed = git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes") or ""
    return [WORKSPACE, *listed.split(), *(name for name, _ in experiments(root))]


def _not_stored() -> tuple[type[Exception], ...]:
    """What DVC raises for a file that it does not know, or whose content or folder its cache lacks."""
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    return OSError, DvcException, DataIndexDirError
