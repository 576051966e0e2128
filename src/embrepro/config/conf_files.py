"""The files of `conf/` as Hydra sees them, through a plugin: checked when they are chosen, and one for each part of a model.

Hydra asks `ConfSource` about every file before it reads it, in `embrepro compose` and in `dvc exp run -S` alike. So a
misspelt choice is refused with the nearest names and a faulty file with what is wrong in it, whoever composes. Choices
of `baseline` and `also` have no files: each is derived from the model's file of that name, whose part `published` no
run sees.

What a repository of one's own does not hold is the kit's: its files of each group, and `embrepro`, the values that the
kit's own `conf/config.yaml` sets.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from embrepro import kit
from embrepro.config.messages import suggest
from embrepro.config.names import PUBLISHED
from embrepro.config.yaml_files import read_yaml
from embrepro.errors import ConfigError

GROUPS = ("model", "baseline", "also", "tasks", "device", "runtime", "executor")
DERIVED = ("baseline", "also")
"""Groups without files of their own: each choice is a model's file in another part."""
BASE = "embrepro"
"""In a defaults list: what the kit's own `conf/config.yaml` sets, whatever its version."""
PRESETS = "experiment"
"""The group of presets, of which a run may take one: `+experiment=analysis`."""
OTHER_WORDS = {"device": {"gpu": "cuda", "nvidia": "cuda"}, "runtime": {"container": "docker", "podman": "docker"}}
GLOBAL_HEADER = "# @package _global_"

_untracked_allowed: ContextVar[bool] = ContextVar("untracked_allowed", default=False)


@contextmanager
def untracked_allowed() -> Iterator[None]:
    """Compose with files that git does not know, too: nothing is stored, so nothing can be lost."""
    before = _untracked_allowed.set(True)
    try:
        yield
    finally:
        _untracked_allowed.reset(before)


class ConfSearchPath(SearchPathPlugin):
    """Puts `ConfSource` in front of a folder of the kit's configuration, and the kit's own files behind it.

    Configurations of other programs are left alone.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the sources."""
        for entry in search_path.get_path():
            folder = Path(str(entry.path).removeprefix("file://"))
            if entry.provider == "main" and _is_of_the_kit(folder):
                search_path.prepend(provider="embrepro", path=f"{ConfSource.scheme()}://{folder}")
                if (kit.ROOT / kit.CONF).resolve() != folder.resolve():
                    search_path.append(provider="embrepro", path=f"file://{kit.ROOT / kit.CONF}")
                return


def _is_of_the_kit(folder: Path) -> bool:
    """Whether the defaults list of a folder's `config.yaml` names a baseline, a model and tasks."""
    main = folder / "config.yaml"
    text = main.read_text(encoding="utf-8", errors="replace") if main.is_file() else ""
    return all(re.search(rf"^ *- {group}:", text, re.MULTILINE) for group in ("baseline", "model", "tasks"))


class ConfSource(ConfigSource):
    """Checks the files of `conf/` that are chosen, and serves the choices of `baseline` and `also`."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path)
        self._conf = Path(self.path)

    @staticmethod
    def scheme() -> str:
        """What its addresses start with."""
        return "embrepro"

    def available(self) -> bool:
        """Whether the folder is there."""
        return self._conf.is_dir()

    def is_group(self, config_path: str) -> bool:
        """Whether this source serves a group."""
        return config_path in DERIVED

    def is_config(self, config_path: str) -> bool:
        """Whether this source serves a file; a file of a group is checked on the way.

        Raises:
            ConfigError: there is no such file, git does not know it, or it is faulty.
        """
        group, _, option = config_path.removesuffix(".yaml").partition("/")
        if group == BASE and not option:
            return True
        if group not in (*GROUPS, PRESETS) or not option:
            return False
        check_choice(self._conf, group, option)
        return group in (*DERIVED, "model")

    def load_config(self, config_path: str) -> ConfigResult:
        """A model's file without what is published of it, in its part: all but the baseline have a benchmark of their own."""
        group, _, option = config_path.removesuffix(".yaml").partition("/")
        if group not in (*DERIVED, "model", BASE):
            raise ConfigLoadError(f"{config_path} is none of this source's files")
        if group == BASE:
            config = OmegaConf.create(read_yaml(kit.ROOT / kit.CONF / "config.yaml"))
            config.pop("defaults")
        else:
            config = OmegaConf.create(read_yaml(choices(self._conf, "model")[option]))
            config.models[option].pop(PUBLISHED, None)
            config.update({"baseline": option} if group == "baseline" else {"benchmarked": {option: True}})
        return ConfigResult(
            provider=self.provider, path=f"{self.scheme()}://{self.path}", config=config, header={"package": "_global_"}
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The choices of `baseline` and `also`."""
        return options(self._conf, "model") if config_path in DERIVED else []


def options(conf: Path, group: str) -> list[str]:
    """The choices of a group, sorted."""
    return list(choices(conf, group))


def choices(conf: Path, group: str) -> dict[str, Path]:
    """The file of each choice of a group, sorted: the repository's, else the kit's."""
    folder = "model" if group in DERIVED else group
    return kit.documents(conf / folder, kit.CONF / folder)


def check_choice(conf: Path, group: str, option: str) -> None:
    """Check one choice of a group.

    Raises:
        ConfigError: there is no such file, with the nearest names; git does not know it; or it is faulty.
    """
    folder = "model" if group in DERIVED else group
    path = expect_choice(conf, group, option)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{conf.name}/{folder}/{option}.yaml holds no mapping of keys to values.")
    if folder in ("model", PRESETS):
        _expect_top_level(path)
    if folder == "model":
        _expect_model(path, content)
    if path.parent.parent == conf:
        _expect_known_to_git(path)


def expect_choice(conf: Path, group: str, option: str) -> Path:
    """The file of a choice; raises ConfigError, with the nearest names, where neither the repository nor the kit has it."""
    known = choices(conf, group)
    if option in known:
        return known[option]
    folder = "model" if group in DERIVED else group
    meant = OTHER_WORDS.get(group, {}).get(option.casefold())
    hint = f"; did you mean {meant}?" if meant in known else suggest(option, known)
    everything = "" if hint.startswith("; known") else f" (all: {', '.join(known)})"
    if folder == "model" and everything:
        everything = f"{'' if hint else '.'} `embrepro models` lists all {len(known)}."
    raise ConfigError(f"{group}={option}: there is no {conf.name}/{folder}/{option}.yaml{hint}{everything}")


def _expect_top_level(path: Path) -> None:
    """The keys of a model's file and of a preset lie at the top level of the configuration."""
    if not re.search(rf"^{GLOBAL_HEADER}\s*$", path.read_text(encoding="utf-8-sig"), re.MULTILINE):
        folder = path.parent.name
        shown = f"{path.parent.parent.name}/{folder}/{path.name}"
        raise ConfigError(f"{shown}: the first line must be '{GLOBAL_HEADER}', or its keys land under '{folder}'.")


def _expect_model(path: Path, content: dict[str, Any]) -> None:
    """A model's file makes the model that it defines the candidate."""
    shown = f"{path.parent.parent.name}/model/{path.name}"
    models = content.get("models")
    defined = list(models) if isinstance(models, dict) else []
    if content.get("candidate") != path.stem or path.stem not in defined:
        raise ConfigError(
            f"{shown}: expected 'candidate: {path.stem}' and the model under 'models.{path.stem}', as the file is called; "
            f"got candidate {content.get('candidate')} and models {', '.join(map(str, defined)) or 'none'}."
        )


def _expect_known_to_git(path: Path) -> None:
    """Refuse a file that an experiment would lose: DVC stores with it, and restores, only what git knows."""
    if _untracked_allowed.get():
        return
    asked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", "--", path.name], cwd=path.parent, capture_output=True, check=False
    )
    if asked.returncode == 1:
        shown = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
        raise ConfigError(
            f"git does not know {shown}, so the experiment would run without it or lose it. Add it first: git add {shown}"
        )
