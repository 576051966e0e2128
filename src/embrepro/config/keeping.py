"""Keep an experiment's configuration: write `conf/` so that it composes to `params.yaml`.

`dvc exp apply` brings back the `params.yaml` of an experiment, but not the choices and overrides that made it, and the
next `dvc exp run -S` would compose from the old defaults. Here choices go to the defaults list of `conf/config.yaml`,
values of its own sections to their place in it, and the rest (values that files of the groups set) to `conf/kept.yaml`,
which comes last.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from embrepro.config import conf_files
from embrepro.config.compose import compose_values
from embrepro.config.params import PARAMS, dump_params, read_params
from embrepro.config.yaml_files import read_yaml
from embrepro.errors import ConfigError, KitError
from embrepro.files import write_text

KEPT = Path("conf") / "kept.yaml"
MAIN = Path("conf") / "config.yaml"
_KEPT_HEADER = """# @package _global_
# Values kept from an experiment; they replace what the files of the groups say. Written by `embrepro keep`.
"""
_KEPT_LINE = f"  - {KEPT.stem}\n"
KeptValue = tuple[tuple[str, ...], Any]


def keep(experiment: str | None = None) -> list[Path]:
    """Write `conf/config.yaml`, `conf/kept.yaml` and `params.yaml` so that the first two compose to the last.

    Args:
        experiment: name of a DVC experiment to apply first; None keeps `params.yaml` as it stands.

    Returns:
        The files that changed, none where `conf/` composed to `params.yaml` already.

    Raises:
        ConfigError: `params.yaml` is not a valid configuration, or no `conf/` composes to it; `conf/` is as it was.
        KitError: the experiment cannot be applied.
    """
    if experiment is not None:
        _apply(experiment)
    read_params()
    wanted: dict[str, Any] = read_yaml(PARAMS)
    before = {path: path.read_text(encoding="utf-8") if path.is_file() else None for path in (MAIN, KEPT, PARAMS)}
    try:
        _write_conf(wanted)
        composed = compose_values()
        if composed != wanted:
            lost = ", ".join(".".join(path) for path, _ in _differences(composed, wanted)) or _extra(composed, wanted)
            raise ConfigError(
                f"{PARAMS} holds what no choice of conf/ composes to: {lost}. Change conf/ by hand, then: embrepro compose "
                "--write"
            )
        write_text(PARAMS, dump_params(composed))
    except BaseException:
        for path, text in before.items():
            _restore(path, text)
        raise
    return [path for path, text in before.items() if text != (path.read_text("utf-8") if path.is_file() else None)]


def _apply(experiment: str) -> None:
    if experiment.startswith("-"):
        raise ConfigError(f"Expected the name of an experiment, got {experiment!r}; `dvc exp show` lists them.")
    if not _has_ended(experiment):
        raise KitError(
            f"There is nothing to keep of '{experiment}': no experiment of that name has ended well. `dvc exp show` lists them; "
            f"`dvc queue logs {experiment}` says why one failed."
        )
    command = [sys.executable, "-m", "dvc", "exp", "apply", experiment]
    applied = subprocess.run(command, capture_output=True, text=True, check=False)
    if applied.returncode != 0:
        raise KitError(f"dvc exp apply {experiment} failed: {applied.stderr.strip() or applied.stdout.strip()}")


def _has_ended(experiment: str) -> bool:
    """Whether git has the result of an experiment; DVC would apply half of one that failed, and then say what is missing."""
    named = ["git", "for-each-ref", "--count=1", f"refs/exps/??/*/{experiment}"]
    commit = ["git", "rev-parse", "--verify", "--quiet", f"{experiment}^{{commit}}"]
    return any(
        subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip() for ask in (named, commit)
    )


def _write_conf(wanted: Mapping[str, Any]) -> None:
    write_text(MAIN, MAIN.read_text(encoding="utf-8").replace(_KEPT_LINE, ""))
    KEPT.unlink(missing_ok=True)
    _write_choices(_choices(wanted))
    own = read_yaml(MAIN)
    main: list[tuple[tuple[str, ...], Any]] = []
    rest: list[tuple[tuple[str, ...], Any]] = []
    for path, value in _differences(compose_values(), wanted):
        (main if _stands_in(own, path) else rest).append((path, value))
    if main:
        _write_values(main)
        rest = list(_differences(compose_values(), wanted))
    if rest:
        _add_kept_to_defaults()
        kept: dict[str, Any] = {}
        for path, value in rest:
            section = kept
            for key in path[:-1]:
                section = section.setdefault(key, {})
            section[path[-1]] = value
        write_text(KEPT, _KEPT_HEADER + dump_params(kept))


def _choices(wanted: Mapping[str, Any]) -> dict[str, str]:
    """For each group, the choice that comes nearest to what is wanted; the roles name their models."""
    chosen = {"model": str(wanted["candidate"]), "baseline": str(wanted["baseline"])}
    others = [key for key in wanted["models"] if key not in chosen.values()]
    known = conf_files.options(Path("conf"), "model")
    chosen["also"] = f"[{', '.join(key for key in others if key in known)}]"
    now = dict(re.findall(r"^  - (\w+): (\w[\w-]*)", MAIN.read_text(encoding="utf-8"), re.MULTILINE))
    for group in ("tasks", "device", "runtime", "executor"):
        far = {}
        for option in conf_files.options(Path("conf"), group):
            section = compose_values([f"{group}={option}"])[group]
            missing = len(list(_differences(section, wanted[group]))) + (_extra(section, wanted[group]) != "")
            far[option] = (missing, option != now.get(group), option)
        chosen[group] = min(far, key=far.__getitem__)
    return chosen


def _write_choices(chosen: Mapping[str, str]) -> None:
    text = MAIN.read_text(encoding="utf-8")
    for group, option in chosen.items():
        text, found = re.subn(rf"^(  - {group}: )(\[.*\]|\S+)", rf"\g<1>{option}", text, flags=re.MULTILINE)
        if found != 1:
            raise ConfigError(f"{MAIN}: expected one line '  - {group}: ...' in its defaults list, found {found}.")
    write_text(MAIN, text)


def _add_kept_to_defaults() -> None:
    """The last line of the defaults list: what comes later wins."""
    text = MAIN.read_text(encoding="utf-8")
    write_text(MAIN, re.sub(r"^(defaults:\n(?:  - .*\n)+)", rf"\g<1>{_KEPT_LINE}", text, flags=re.MULTILINE))


def _write_values(changes: list[KeptValue]) -> None:
    """Put values in their place in `conf/config.yaml`; comments and order stay."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(MAIN.read_text(encoding="utf-8"))
    for path, value in changes:
        section = content
        for key in path[:-1]:
            section = section[key]
        old = section[path[-1]]
        if isinstance(old, list) and isinstance(value, list):
            # Keeps the list's style
            old[:] = value
        else:
            section[path[-1]] = value
    written = io.StringIO()
    yaml.dump(content, written)
    write_text(MAIN, written.getvalue())


def _differences(now: Any, wanted: Any, path: tuple[str, ...] = ()) -> Iterator[KeptValue]:  # noqa: ANN401 - plain values
    """Values of `wanted` that `now` lacks or has otherwise, each with its path."""
    for key, value in wanted.items():
        if isinstance(value, Mapping) and isinstance(now.get(key), Mapping):
            yield from _differences(now[key], value, (*path, key))
        elif key not in now or now[key] != value or type(now[key]) is not type(value):
            yield (*path, key), value


def _extra(now: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Keys of `now` that `wanted` lacks, as text; empty where there are none."""
    found = []
    for key, value in now.items():
        if key not in wanted:
            found.append(key)
        elif isinstance(value, Mapping) and isinstance(wanted[key], Mapping) and (inner := _extra(value, wanted[key])):
            found.append(f"{key}.({inner})")
    return ", ".join(found)


def _stands_in(own: Any, path: tuple[str, ...]) -> bool:  # noqa: ANN401 - plain values
    """Whether `conf/config.yaml` itself holds a value at a path, and no file of a group comes after it."""
    if path[0] in conf_files.GROUPS:
        return False
    for key in path:
        if not isinstance(own, Mapping) or key not in own:
            return False
        own = own[key]
    return True


def _restore(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    else:
        write_text(path, text)
