"""A copy of this repository that git and DVC know, and the commands that its user would type there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import preloaded
from conftest import copy_repository
from embrepro.source_code import PACKAGE

TASKS = ("EmbreproInstructionAwareness", "EmbreproCodeUnderstanding")
DIMENSIONS = (2, 16, 32, 64, 256)
IDENTITY = {f"GIT_{role}_{what}": "t@test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
NO_BENCHMARK = {
    "measure": False,
    "repeats": 6,
    "batch_sizes": [8],
    "seconds": 0.001,
    "longest_batch": 0.05,
    "queries": 5,
}
"""Each measurement loads a model in a process of its own, which takes longer than all the rest of a small project."""
FOREIGN = ("EMBREPRO", "HF_", "DVC", "GIT", "MAKE", "MFLAGS", "PYTHON", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Checkout:
    """A working copy, and commands run in it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment without the kit's and the hub's settings; the working copy's code; a home of its own."""
        home = self.folder.parent / "home"
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        programs = (str(preloaded.programs()), str(Path(sys.executable).parent), os.environ["PATH"])
        return kept | {
            "PATH": os.pathsep.join(programs),
            "PYTHONPATH": str(self.folder / "src"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HOME": str(home),
            "OMP_WAIT_POLICY": "PASSIVE",
            "TQDM_DISABLE": "1",
        }

    def run(self, *command: str, code: int | None = 0, **variables: str) -> str:
        """Run a command and return all it printed; its exit code must be `code`, or not zero where that is None."""
        # A file and no pipe: what a command leaves running in the background would hold a pipe open.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment | IDENTITY | variables,
                stdout=output,
                stderr=output,
                timeout=600,
                check=False,
            )
            output.seek(0)
            said = output.read()
        assert (done.returncode == code) if code is not None else (done.returncode != 0), (
            f"{shlex.join(command)}\n{said}"
        )
        return said

    def begin(self, message: str = "start") -> None:
        """Put the folder under git and give DVC an index of its own."""
        self.run("git", "init", "--quiet", "--initial-branch=main")
        if not (self.folder / ".dvc" / "site-cache").is_dir():
            self.keep_index_here()
        self.commit(message)

    def keep_index_here(self) -> None:
        """What `make env` sets: DVC's index lies in the working copy."""
        site_cache = self.folder / ".dvc" / "site-cache"
        site_cache.mkdir(parents=True)
        self.run("dvc", "config", "--quiet", "--local", "core.site_cache_dir", str(site_cache))

    def commit(self, message: str) -> str:
        """Commit everything and return the commit."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)
        return self.run("git", "rev-parse", "HEAD").strip()

    def clone(self, target: Path) -> Checkout:
        """Another working copy, with the environment of the tests as its own."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.run("git", "clone", "--quiet", ".", str(target))
        made = Checkout(target)
        made.lend_environment()
        return made

    def lend_environment(self) -> None:
        """Lay the tests' environment where `make env` would build one, with the key that it looks for."""
        environment = self.folder / ".venv"
        (environment / "bin").mkdir(parents=True)
        for entry in Path(sys.prefix).iterdir():
            if entry.name not in (".key", "bin"):
                (environment / entry.name).symlink_to(entry)
        for program in (Path(sys.prefix) / "bin").iterdir():
            ours = preloaded.programs() / program.name
            (environment / "bin" / program.name).symlink_to(ours if ours.is_file() else program)
        (environment / ".key").write_text(self.run("scripts/make-env", "--key"))
        self.keep_index_here()

    def copy(self, target: Path) -> Checkout:
        """A copy of all there is, with an environment and an index of its own."""
        shutil.copytree(self.folder, target, symlinks=True, ignore=shutil.ignore_patterns(".venv", "site-cache"))
        made = Checkout(target)
        made.lend_environment()
        return made

    def write_model(self, key: str, **settings: object) -> Path:
        """A file of conf/model that makes a static model, by default of the folder models/KEY, the candidate."""
        definition = {"org": "test", "name": key, "family": "static", "folder": f"models/{key}"} | settings
        path = self.folder / "conf" / "model" / f"{key}.yaml"
        text = yaml.safe_dump({"candidate": key, "models": {key: definition}})
        path.write_text(f"# @package _global_\n{text}", encoding="utf-8")
        return path

    def write_candidate(self, **settings: object) -> None:
        """Change the candidate of a small project, and compose the parameters anew."""
        self.write_model("mine", **{"folder": "models/32"} | settings)
        self.compose()

    def write_tasks(self, names: Sequence[str]) -> None:
        """Make the default tasks these, and compose the parameters anew."""
        (self.folder / "conf" / "tasks" / "custom.yaml").write_text(yaml.safe_dump({"names": list(names)}))
        self.compose()

    def write_defaults(self, benchmark: Mapping[str, object] = NO_BENCHMARK, **choices: str) -> None:
        """Choose other files of conf/ by default, and no benchmark."""
        file = self.folder / "conf" / "config.yaml"
        defaults: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")) | {"benchmark": dict(benchmark)}
        defaults["defaults"] = [
            {group: choices.get(group, option) for group, option in each.items()} if isinstance(each, dict) else each
            for each in defaults["defaults"]
        ]
        file.write_text(yaml.safe_dump(defaults, sort_keys=False), encoding="utf-8")

    def compose(self) -> None:
        """Write params.yaml anew."""
        self.run("embrepro", "compose", "--write")

    def read_json(self, *path: str) -> Any:
        """A JSON file of the working copy."""
        return json.loads(self.folder.joinpath(*path).read_text(encoding="utf-8"))

    @property
    def metrics(self) -> dict[str, Any]:
        """The DVC metric."""
        return self.read_json("reports", "metrics.json")

    @property
    def params(self) -> dict[str, Any]:
        """The parameters in force."""
        return yaml.safe_load((self.folder / "params.yaml").read_text(encoding="utf-8"))


def copy_of_repository(folder: Path) -> Checkout:
    """This working tree in another folder, without what git ignores and what a run recorded; not under git yet."""
    copy_repository(folder)
    return Checkout(folder)


def small_project(folder: Path) -> Checkout:
    """This repository as a project of its own: tiny static models on two small tasks, committed, not run.

    `models/<n>` holds a model of n dimensions; the candidate `mine` is that of 32, the baseline `other` that of 64.
    """
    made = copy_of_repository(folder)
    for dimensions in DIMENSIONS:
        build_word_model(folder / "models" / str(dimensions), dimensions)
    made.write_model("other", folder="models/64")
    made.write_model("mine", folder="models/32")
    made.write_defaults(model="mine", baseline="other")
    made.lend_environment()
    made.write_tasks(TASKS)
    made.begin("A small project")
    return made


def build_word_model(folder: Path, dimensions: int) -> None:
    """A Model2Vec model of random directions for the words of the suite, rare ones longer.

    Texts are close if they share rare words; few dimensions blur that, so more of them give better scores.
    """
    import numpy as np
    from model2vec import StaticModel
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordLevel

    texts = " ".join(file.read_text(encoding="utf-8") for file in sorted((PACKAGE / "suite" / "data").glob("*.jsonl")))
    counts = sorted(Counter(re.findall("[a-z]{3,}", texts.lower())).items())
    assert counts, "the suite has no words"
    vocabulary = {"[UNK]": 0} | {word: place for place, (word, _) in enumerate(counts, 1)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    lengths = np.array([0.0, *(count**-0.5 for _, count in counts)], dtype=np.float32)
    directions = np.random.default_rng(7).standard_normal((len(lengths), dimensions), dtype=np.float32)
    StaticModel(directions * lengths[:, None], tokenizer, normalize=True).save_pretrained(str(folder))
