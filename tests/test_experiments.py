"""The configuration under the real `dvc`: choices by one word, refusals before any work, and keeping a winner."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from checkout import Checkout
from conftest import copy_repository

ONE_STAGE = {"stages": {"download": {"cmd": "true", "params": ["models", "tasks", "seed", "claims", "benchmark"]}}}
HOSTILE_KEYS = (
    "x;touch pwned #",
    "$(touch pwned)",
    "`touch pwned`",
    "'\"; touch pwned; '\"",
    "x\ntouch pwned\n",
    "a|touch pwned",
    "--help",
    "-S",
    "x&touch pwned&",
)


class Experiments(Checkout):
    """A working copy that experiments change."""

    def clean(self) -> None:
        """As it was committed."""
        self.run("git", "reset", "-q", "--hard", "main")
        self.run("git", "clean", "-fdq")

    def composes(self) -> bool:
        """Whether conf/ composes to params.yaml, byte for byte."""
        return self.run("embrepro", "compose") == (self.folder / "params.yaml").read_text(encoding="utf-8")


def begin(folder: Path, pipeline: dict[str, object] | None = None) -> Experiments:
    """A copy of this repository, with another pipeline where one is given."""
    copy_repository(folder)
    made = Experiments(folder)
    if pipeline:
        (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    made.begin()
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Experiments:
    """A checkout whose pipeline is one stage that does nothing."""
    return begin(tmp_path_factory.mktemp("experiments") / "a checkout", ONE_STAGE)


@pytest.fixture
def checkout(shared: Experiments) -> Experiments:
    """The shared checkout, as it was committed."""
    shared.clean()
    return shared


def queued(checkout: Experiments) -> int:
    return checkout.run("dvc", "queue", "status").count("Queued")


@pytest.mark.parametrize(
    "chosen",
    [
        {"claims": ["analysis"], "recommendation": None, "baseline": "mpnet"},
        {"claims": [], "recommendation": "default", "candidate": "mpnet"},
    ],
)
def test_dvc_composes_every_key_of_the_configuration(checkout: Experiments, chosen: dict[str, object]) -> None:
    words = {
        "claims": "claims=[{}]",
        "recommendation": "recommendation={}",
        "baseline": "baseline={}",
        "candidate": "model={}",
    }
    for key, value in chosen.items():
        text = ",".join(value) if isinstance(value, list) else value or "null"
        words[key] = words[key].format(text)
    checkout.run("dvc", "exp", "run", "-q", *(word for key in chosen for word in ("-S", words[key])))
    assert {key: checkout.params[key] for key in chosen} == chosen


def test_a_sweep_queues_one_experiment_for_each_model(checkout: Experiments) -> None:
    checkout.run("dvc", "exp", "run", "--queue", "-S", "model=mpnet,qwen25", "-S", "baseline=potion_base_8m")
    assert queued(checkout) == 2
    checkout.run("dvc", "queue", "remove", "--all")


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("model=qwen52", "did you mean qwen25?"),
        ("baseline=minlm", "did you mean minilm? `embrepro models` lists all "),
        ("tasks=englsh", "did you mean english?"),
        ("device=gpu", "did you mean cuda?"),
        ("runtime=podman", "did you mean docker?"),
        ("model=../model/minilm", "there is no conf/model"),
    ],
)
def test_through_dvc_a_misspelt_choice_names_the_nearest_and_is_not_queued(
    checkout: Experiments, override: str, hint: str
) -> None:
    assert hint in checkout.run("dvc", "exp", "run", "--queue", "-S", override, code=None)
    assert queued(checkout) == 0


def test_a_model_that_git_does_not_know_is_not_queued(checkout: Experiments) -> None:
    checkout.write_model("mine")
    for role in ("model", "baseline"):
        said = checkout.run("dvc", "exp", "run", "--queue", "-S", f"{role}=mine", code=None)
        assert "git add conf/model/mine.yaml" in said
    assert queued(checkout) == 0
    assert "candidate: mine" in checkout.run("embrepro", "compose", "model=mine")


def test_a_model_that_was_added_survives_that_its_experiment_is_kept(checkout: Experiments) -> None:
    path = checkout.write_model("mine")
    checkout.run("git", "add", "conf")
    checkout.run("dvc", "exp", "run", "-q", "-n", "added", "-S", "model=mine")
    checkout.clean()
    assert not path.exists()
    checkout.run("embrepro", "keep", "added")
    assert path.exists()
    assert checkout.composes()


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "baseline=mpnet",
            "also=[minilm,wordllama]",
            "tasks=english",
            "seed=7",
            "runtime=docker",
            "runtime.memory=8g",
            "benchmark.batch_sizes=[1,2]",
        ],
        [
            "tasks.names=[STS12,SICK-R]",
            "device.threads=2",
            "+models.minilm.dtype=float16",
            "claims=[]",
            "recommendation=null",
        ],
    ],
)
def test_a_kept_experiment_is_what_conf_composes_to(checkout: Experiments, overrides: list[str]) -> None:
    words = [word for override in overrides for word in ("-S", override)]
    checkout.run("dvc", "exp", "run", "-q", "-n", "won", *words)
    won = checkout.params
    checkout.clean()
    assert checkout.params != won
    checkout.run("embrepro", "keep", "won")
    assert checkout.params == won
    assert checkout.composes()
    checkout.run("git", "add", "-A")
    checkout.run("git", "commit", "-qm", "kept")
    assert "already" in checkout.run("embrepro", "keep")
    checkout.run("dvc", "exp", "run", "-q", "-S", "seed=99")
    assert checkout.params == won | {"seed": 99}, "the next experiment starts from what was kept"
    checkout.run("git", "reset", "-q", "--hard", "HEAD~1")
    checkout.run("dvc", "exp", "remove", "won")


def test_keeping_leaves_comments_alone_and_drops_what_an_earlier_one_wrote(checkout: Experiments) -> None:
    before = (checkout.folder / "conf" / "config.yaml").read_text(encoding="utf-8")
    params = (checkout.folder / "params.yaml").read_text(encoding="utf-8")
    (checkout.folder / "params.yaml").write_text(params.replace("threads: null", "threads: 3"), encoding="utf-8")
    checkout.run("embrepro", "keep")
    assert (checkout.folder / "conf" / "kept.yaml").is_file()
    (checkout.folder / "params.yaml").write_text(params.replace("seed: 42", "seed: 3"), encoding="utf-8")
    checkout.run("embrepro", "keep")
    assert not (checkout.folder / "conf" / "kept.yaml").exists()
    after = (checkout.folder / "conf" / "config.yaml").read_text(encoding="utf-8")
    assert [line for line in after.splitlines() if line not in before.splitlines()] == [
        "seed: 3               # of the intervals and tests; mteb's own tasks keep mteb's seed"
    ]


def test_what_cannot_be_kept_changes_nothing(checkout: Experiments) -> None:
    params = checkout.params
    del params["tasks"]["subsets"]  # type: ignore[attr-defined]
    params["candidate"] = "minilm"
    (checkout.folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    before = checkout.run("git", "status", "--short")
    assert "subsets" in checkout.run("embrepro", "keep", code=1)
    assert checkout.run("git", "status", "--short") == before
    # DVC would apply half of an experiment that failed: its name is on a queue, and no result under it.
    assert "no experiment of that name has ended well" in checkout.run("embrepro", "keep", "nothing", code=1)
    assert "name of an experiment" in checkout.run("embrepro", "keep", "--", "--help", code=1)


SLOW_STAGE = """
import sys, time
from embrepro.progress.console import work
with work("encode", "minilm SciFact", 40, "texts") as under_way:
    for _ in range(400):
        time.sleep(0.1)
        under_way.advance(0)
"""


@pytest.mark.slow
def test_a_queued_experiment_is_watched_by_name(checkout: Experiments) -> None:
    (checkout.folder / "slow.py").write_text(SLOW_STAGE, encoding="utf-8")
    pipeline = {"stages": {"download": {"cmd": "python slow.py", "params": ["seed"]}}}
    (checkout.folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    checkout.run("git", "add", "-A")
    assert "Nothing is running here" in checkout.run("embrepro", "watch", "--once")
    checkout.run("dvc", "exp", "run", "--queue", "-n", "in-the-queue", "-S", "seed=5")
    checkout.run("dvc", "queue", "start")
    try:
        until = time.monotonic() + 60
        while "in-the-queue" not in (said := checkout.run("embrepro", "watch", "--once")):
            assert time.monotonic() < until, said + checkout.run("dvc", "queue", "status")
            time.sleep(0.5)
        assert "in-the-queue  encode  minilm SciFact  0/40 texts" in said
    finally:
        checkout.run("dvc", "queue", "stop", "--kill")


@pytest.mark.slow
def test_no_key_of_a_model_runs_a_command(tmp_path: Path) -> None:
    """Neither through the first stage, which refuses it, nor where DVC is told to run a later stage alone."""
    checkout = begin(tmp_path / "checkout")
    params = checkout.params
    models = params["models"]
    assert isinstance(models, dict)
    (checkout.folder / "data").mkdir()
    (checkout.folder / "data" / "download.json").write_text("{}")
    checkout.run("dvc", "repro", "code")
    for key in HOSTILE_KEYS:
        models[key] = models["static_minilm"] | {"name": f"model-{len(models)}"}
        for folder in (f"data/models/{key}", "data/tasks"):
            (checkout.folder / folder).mkdir(parents=True, exist_ok=True)
            (checkout.folder / folder / "manifest.json").write_text("{}")
    (checkout.folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for key in HOSTILE_KEYS:
        said = checkout.run("dvc", "repro", "--single-item", f"encode@{key}", code=None)
        assert "expected a key of letters, digits" in said, key
    said = checkout.run("dvc", "repro", code=None)
    assert "failed to reproduce 'download'" in said
    assert said.count("expected a key of letters, digits") == len(HOSTILE_KEYS)
    assert not list(checkout.folder.rglob("pwned"))
