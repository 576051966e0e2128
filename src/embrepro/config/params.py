"""`params.yaml`: what `conf/` composed to for the last run, read by every stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from embrepro.config.schema import Config, parse_config
from embrepro.config.yaml_files import read_yaml
from embrepro.errors import ConfigError
from embrepro.files import write_text

PARAMS = Path("params.yaml")


def read_params(path: Path | str = PARAMS) -> Config:
    """Read and check a parameter file.

    Raises:
        ConfigError: the file is absent, is not YAML in UTF-8, or holds an unknown key or a wrong value.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} is missing. Write it from conf/ with: embrepro compose --write")
    return parse_config(read_yaml(path), str(path))


def dump_params(values: Mapping[str, Any]) -> str:
    """YAML of composed values, keys in the order of `conf/`, as `params.yaml` holds them."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)


def write_params(values: Mapping[str, Any], path: Path | str = PARAMS) -> None:
    """Write composed values to a parameter file, whole or not at all."""
    write_text(Path(path), dump_params(values))
