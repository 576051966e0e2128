"""Run the `run:` steps of a GitHub workflow here, as they stand in its file, and a small project for them.

Each step is a bash script with GitHub's own flags, in order, with `env`, `if`, `GITHUB_ENV`, `GITHUB_PATH`,
`GITHUB_OUTPUT` and `GITHUB_STEP_SUMMARY`. Actions (`uses:`) are done by functions that the caller hands in.
Whatever this runner does not know, be it a key, a function or a value in an expression, is an error and never
a guess.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from conftest import REPOSITORY, copy_repository

Outcome = str  # success, failure, skipped
Value = str | bool
Inputs = Mapping[str, str]
STEP_KEYS = {"name", "id", "if", "uses", "with", "run", "env", "continue-on-error"}
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")  # what `shell: bash` means on a runner
TOKEN = re.compile(r"\s*('[^']*'|[a-zA-Z_][\w.-]*(?:\(\))?|==|!=|&&|\|\||!|\(|\))")  # text, name or sign


class UnknownExpressionError(Exception):
    """An expression asks for what the caller has not given."""


class Expression:
    """One `${{ }}` expression: names, texts, `==`, `!=`, `&&`, `||`, `!` and parentheses."""

    def __init__(self, source: str, values: Mapping[str, Value]) -> None:
        self._values, self._source = values, source
        self._tokens = list(self._cut(source))

    def _cut(self, source: str) -> Iterator[str]:
        place = 0
        while source[place:].strip():
            token = TOKEN.match(source, place)
            if not token:
                raise UnknownExpressionError(f"cannot read {source!r} from {source[place:]!r} on")
            place = token.end()
            yield token.group(1)

    def value(self) -> Value:
        """What the expression comes to: a text or a truth value."""
        result = self._either()
        if self._tokens:
            raise UnknownExpressionError(f"cannot read {self._source!r} from {self._tokens[0]!r} on")
        return result

    def _next_is(self, sign: str) -> bool:
        if self._tokens[:1] == [sign]:
            self._tokens.pop(0)
            return True
        return False

    def _either(self) -> Value:
        left = self._both()
        while self._next_is("||"):
            right = self._both()
            left = left or right
        return left

    def _both(self) -> Value:
        left = self._equal()
        while self._next_is("&&"):
            right = self._equal()
            left = left and right
        return left

    def _equal(self) -> Value:
        left = self._single()
        if self._next_is("=="):
            return left == self._single()
        if self._next_is("!="):
            return left != self._single()
        return left

    def _single(self) -> Value:
        if self._next_is("!"):
            return not self._single()
        if self._next_is("("):
            inner = self._either()
            if not self._next_is(")"):
                raise UnknownExpressionError(f"a parenthesis stays open in {self._source!r}")
            return inner
        token = self._tokens.pop(0) if self._tokens else ""
        if token.startswith("'"):
            return token[1:-1]
        if token not in self._values:
            raise UnknownExpressionError(f"{token!r} in {self._source!r} is not given")
        return self._values[token]


@dataclass(frozen=True)
class StepResult:
    """What came of one step."""

    name: str
    outcome: Outcome
    output: str = ""
    forgiven: bool = False  # continue-on-error


@dataclass
class JobResult:
    """What came of a job: its steps, and what it wrote onto the run's page."""

    steps: list[StepResult] = field(default_factory=list)
    summary: str = ""

    @property
    def outcome(self) -> Outcome:
        """Failure if any step failed."""
        return "failure" if any(step.outcome == "failure" and not step.forgiven for step in self.steps) else "success"

    @property
    def log(self) -> str:
        """All that the steps printed, for a failing test's message."""
        return "\n".join(f"== {step.name}: {step.outcome}\n{step.output}" for step in self.steps)

    def step(self, name: str) -> StepResult:
        """The step of this name."""
        return next(step for step in self.steps if step.name == name)


@dataclass
class LocalRunner:
    """Runs one job of a workflow file in a folder.

    Args:
        folder: working tree in which the steps run.
        values: what `github.event_name` and other names in expressions stand for.
        actions: for each `uses:` (without its commit), what to do instead, given its `with:`.
        environment: variables that all steps see.
    """

    folder: Path
    values: Mapping[str, Value]
    actions: Mapping[str, Callable[[Inputs], None]]
    environment: Mapping[str, str]

    def run(self, workflow: Path, job: str) -> JobResult:
        """Run the job's steps in order."""
        whole = yaml.safe_load(workflow.read_text(encoding="utf-8"))
        assert whole["defaults"] == {"run": {"shell": "bash"}}, "this runner knows `shell: bash` only"
        definition = whole["jobs"][job]
        self._seen: dict[str, Value] = {}
        self._variables = dict(self.environment)
        self._files = {name: self.folder.parent / f"{job}-{name}" for name in ("env", "output", "path", "step_summary")}
        for file in self._files.values():
            file.write_text("")
        self._variables |= {f"GITHUB_{name.upper()}": str(file) for name, file in self._files.items()}
        for scope in (whole, definition):
            self._variables |= self._filled(scope.get("env") or {})
        result = JobResult()
        for step in definition["steps"]:
            assert set(step) <= STEP_KEYS, f"this runner does not know {set(step) - STEP_KEYS} of a step"
            result.steps.append(self._step(step, result))
            self._seen[f"steps.{step.get('id')}.outcome"] = result.steps[-1].outcome
        result.summary = self._files["step_summary"].read_text()
        return result

    def _step(self, step: Mapping[str, Any], so_far: JobResult) -> StepResult:
        if not self._wanted(str(step.get("if", "success()")), so_far.outcome):
            return StepResult(step["name"], "skipped")
        if "uses" in step:
            self.actions[step["uses"].split("@")[0]](self._filled(step.get("with") or {}))
            return StepResult(step["name"], "success")
        return self._script(step)

    def _wanted(self, condition: str, outcome: Outcome) -> bool:
        inner = re.fullmatch(r"\s*\$\{\{(.*)\}\}\s*", condition, re.DOTALL)
        source = inner.group(1) if inner else condition
        if not re.search(r"\b(success|failure|cancelled|always)\(\)", source):
            source = f"success() && ({source})"
        status = {"success()": outcome == "success", "failure()": outcome == "failure"}
        return bool(self._value(source, status | {"cancelled()": False, "always()": True}))

    def _script(self, step: Mapping[str, Any]) -> StepResult:
        script = self.folder.parent / "step.sh"
        script.write_text(self._fill(step["run"]))
        variables = self._variables | self._filled(step.get("env") or {})
        done = subprocess.run(
            [*BASH, script],
            cwd=self.folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        self._take_what_it_set(step)
        forgiven = self._fill(str(step.get("continue-on-error", False))) == "True"
        return StepResult(
            step["name"], "failure" if done.returncode else "success", done.stdout + done.stderr, forgiven
        )

    def _take_what_it_set(self, step: Mapping[str, Any]) -> None:
        for line in self._files["env"].read_text().splitlines():
            name, _, value = line.partition("=")
            self._variables[name] = value
        for line in self._files["output"].read_text().splitlines():
            name, _, value = line.partition("=")
            self._seen[f"steps.{step['id']}.outputs.{name}"] = value
        for line in self._files["path"].read_text().splitlines():
            self._variables["PATH"] = f"{line}{os.pathsep}{self._variables['PATH']}"
        for name in ("env", "output", "path"):
            self._files[name].write_text("")

    def _value(self, source: str, more: Mapping[str, Value]) -> Value:
        return Expression(source, {**self.values, **self._seen, **more}).value()

    def _fill(self, text: str) -> str:
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(self._value(found.group(1), {})), text)

    def _filled(self, texts: Mapping[str, Any]) -> dict[str, str]:
        return {name: self._fill(str(text)) for name, text in texts.items()}


TASKS = ["EmbreproInstructionAwareness", "EmbreproCodeUnderstanding"]
QUICK_BENCHMARK = {"repeats": 6, "batch_sizes": [8], "seconds": 0.01, "longest_batch": 0.05, "queries": 5}
IDENTITY = {f"GIT_{role}_{what}": "test@test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@dataclass(frozen=True)
class Clone:
    """A working copy of a small project, and commands run in it as its user would."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment without the kit's and the hub's settings; the working copy's code."""
        home = self.folder.parent / "home"
        home.mkdir(exist_ok=True)
        foreign = ("EMBREPRO", "HF_", "DVC", "GIT", "MAKE", "MFLAGS")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
            "HF_HUB_OFFLINE": "1",
            "HOME": str(home),
            "OMP_WAIT_POLICY": "PASSIVE",
            "TQDM_DISABLE": "1",
        }

    def run(self, command: str) -> str:
        """Run a command, which must end well, and return all it printed."""
        done = subprocess.run(
            shlex.split(command), cwd=self.folder, env=self.environment | IDENTITY, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def clone(self, target: Path) -> Clone:
        """Another working copy, with an environment of its own."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.run(f"git clone --quiet . {shlex.quote(str(target))}")
        made = Clone(target)
        made.lend_environment()
        return made

    def lend_environment(self) -> None:
        """Lay the tests' environment where `make env` would build one, with the key that it looks for."""
        environment = self.folder / ".venv"
        environment.mkdir()
        for entry in Path(sys.prefix).iterdir():
            if entry.name != ".key":
                (environment / entry.name).symlink_to(entry)
        functions = "/^fail() /p; /^find_python() {/,/^}/p; /^environment_key() {/,/^}/p"
        script = (
            f'eval "$(sed -n "{functions}" scripts/make-env)"; '
            "device=cpu with_kit=yes python=$(find_python); environment_key"
        )
        key = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        (environment / ".key").write_text(key.stdout)
        site_cache = self.folder / ".dvc" / "site-cache"
        site_cache.mkdir(parents=True)
        self.run(f"dvc config --local core.site_cache_dir {shlex.quote(str(site_cache))}")

    def set(self, model: Mapping[str, object] | None = None, tasks: list[str] | None = None) -> None:
        """Write the candidate's settings or the task set, and compose the parameters anew."""
        conf = self.folder / "conf"
        if model is not None:
            definition = {"org": "test", "name": "mine", "family": "static", **model}
            text = yaml.safe_dump({"candidate": "mine", "models": {"mine": definition}})
            (conf / "model" / "mine.yaml").write_text(f"# @package _global_\n{text}")
        if tasks is not None:
            file = conf / "tasks" / "custom.yaml"
            file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"names": tasks}))
        self.run("embrepro compose --write")

    def commit(self, message: str) -> str:
        """Commit everything and return the commit."""
        self.run("git add --all")
        self.run(f"git commit --quiet --message {shlex.quote(message)}")
        return self.run("git rev-parse HEAD").strip()


def build_word_model(folder: Path, dimensions: int) -> None:
    """A Model2Vec model of random directions for the words of the suite, rare ones longer.

    Texts are close if they share rare words; few dimensions blur that, so more of them give better scores.
    """
    import numpy as np
    from model2vec import StaticModel
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordLevel

    suite = REPOSITORY / "src" / "embrepro" / "tasks" / "suite" / "data"
    texts = " ".join(file.read_text(encoding="utf-8") for file in sorted(suite.glob("*.jsonl")))
    counts = sorted(Counter(re.findall("[a-z]{3,}", texts.lower())).items())
    vocabulary = {"[UNK]": 0} | {word: place for place, (word, _) in enumerate(counts, 1)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    lengths = np.array([0.0, *(count**-0.5 for _, count in counts)], dtype=np.float32)
    directions = np.random.default_rng(7).standard_normal((len(lengths), dimensions), dtype=np.float32)
    StaticModel(directions * lengths[:, None], tokenizer, normalize=True).save_pretrained(str(folder))


def make_project(folder: Path, dimensions: tuple[int, ...] = (32,)) -> Clone:
    """This repository as a project of its own: two tiny static models on two small tasks, committed, not run.

    `models/<n>` holds a model of n dimensions for each given n; the candidate `mine` is the first of them.
    """
    copy_repository(folder)
    for size in (64, *dimensions):
        build_word_model(folder / "models" / str(size), size)
    conf = folder / "conf"
    baseline = {"org": "test", "name": "other", "family": "static", "folder": "models/64"}
    text = yaml.safe_dump({"candidate": "other", "models": {"other": baseline}})
    (conf / "model" / "other.yaml").write_text(f"# @package _global_\n{text}")
    defaults = yaml.safe_load((conf / "config.yaml").read_text()) | {"benchmark": QUICK_BENCHMARK}
    chosen = {"baseline": "other", "model": "mine"}
    defaults["defaults"] = [
        {group: chosen.get(group, option) for group, option in each.items()} if isinstance(each, dict) else each
        for each in defaults["defaults"]
    ]
    (conf / "config.yaml").write_text(yaml.safe_dump(defaults, sort_keys=False))
    made = Clone(folder)
    made.run("git init --quiet --initial-branch main")
    made.lend_environment()
    made.set(model={"folder": f"models/{dimensions[0]}"}, tasks=TASKS)
    made.commit("A small project")
    return made
