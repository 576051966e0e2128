"""What `conf/` composes to under Hydra overrides, and what an override that Hydra refuses should have been."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embrepro.config import conf_files
from embrepro.config.messages import known_keys, suggest
from embrepro.config.schema import Config
from embrepro.errors import ConfigError


def compose_values(overrides: Sequence[str] = (), conf: Path | str = "conf") -> dict[str, Any]:
    """What `conf/` composes to under Hydra overrides such as `model=qwen25`, as plain values.

    Raises:
        ConfigError: an override names an unknown group, option or key, or a file of `conf/` cannot be read.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folder = Path(conf).resolve()
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"Expected the configuration at {conf}/config.yaml, found no file; run this in the repository."
        )
    _expect_choices(overrides, folder)
    try:
        with conf_files.untracked_allowed(), initialize_config_dir(str(folder), version_base="1.3"):
            composed = hydra_compose("config", overrides=list(overrides))
        return OmegaConf.to_container(composed, resolve=True)  # type: ignore[return-value]
    except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError(_message(str(error), Path(conf))) from None


def _expect_choices(overrides: Sequence[str], conf: Path) -> None:
    """Refuse an override that takes a group away, which Hydra refuses without naming it."""
    for override in overrides:
        group, _, value = override.partition("=")
        if group in conf_files.GROUPS and group != "also" and value.strip() in ("", "null", "[]", "{}"):
            known = ", ".join(conf_files.options(conf, group))
            raise ConfigError(f"{override}: a run needs a choice of {group}; known: {known}")


def _message(said: str, conf: Path) -> str:
    """Hydra's complaint about an override in one line, with the nearest known words in place of its advice to append."""
    if refused := re.search(r"Could not override '([^']+)'", said):
        return _unknown_key(refused[1].split("@")[0].split("."), conf)
    return " ".join(said.split())


def _unknown_key(path: list[str], conf: Path) -> str:
    models = conf_files.options(conf, "model")
    for depth, key in enumerate(path):
        known = models if path[:depth] == ["models"] else known_keys(Config, path[:depth])
        if depth == 0:
            known = [*known, *conf_files.GROUPS]
        if known and key not in known:
            return f"{'.'.join(path[: depth + 1])}: unknown key{suggest(key, known)}"
    name = ".".join(path)
    return f"{name}: the chosen files of {conf.name}/ do not hold this key; add it with +{name}=..."
