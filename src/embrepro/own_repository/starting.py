"""`embrepro init`: a repository of one's own, from an empty folder or in one that is there."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from embrepro.config import conf_files
from embrepro.config.compose import compose_values
from embrepro.config.params import PARAMS, write_params
from embrepro.config.schema import parse_config
from embrepro.errors import KitError
from embrepro.files import make_folder
from embrepro.own_repository import generated
from embrepro.own_repository.generated import BLOCKS, OWN, README, InitChoices
from embrepro.own_repository.record import RECORD, InitRecord, current, put, write_record

DVC_SETTINGS = {"core": {"analytics": False, "check_update": False}, "hydra": {"enabled": True}}
"""As in the kit's own `.dvc/config`; the last is needed for `dvc exp run -S`."""
SITE_CACHE = "site-cache"


def start(root: Path, choices: InitChoices) -> list[str]:
    """Write a repository of one's own; returns the paths that were written.

    Args:
        root: an empty folder, made where it does not exist, or the top of a git repository.
        choices: what a run takes by default.

    Raises:
        ConfigError: the kit has no such model or task set.
        KitError: the folder is no place for it, or holds files that would be overwritten; nothing is written.
    """
    _expect_known(root, choices)
    make_folder(root)
    _expect_place(root)
    if (root / RECORD).exists():
        raise KitError(
            f"{root / RECORD} is there: `embrepro init` was here. `embrepro upgrade` shows what it would write today."
        )
    if (root / README).exists():
        choices = choices.model_copy(update={"readme": None})
    wanted = generated.texts(choices)
    _expect_free(root, wanted)
    if not (root / ".git").exists():
        _run(root, "git", "init", "--quiet", f"--initial-branch={choices.branch}")
    set_up_dvc(root)
    written = [name for name, text in wanted.items() if current(root, name) != text]
    for name in written:
        put(root, name, wanted[name])
    values = compose_values(conf=root / "conf")
    parse_config(values, "conf/")
    write_params(values, root / PARAMS)
    # The last, since it says that all is there.
    write_record(root, InitRecord(choices=choices, files=wanted))
    return [*written, str(RECORD), str(PARAMS)]


def set_up_dvc(root: Path) -> None:
    """Make the folder a DVC repository where it is none, with its index inside; let DVC compose with Hydra."""
    from dvc.repo import Repo

    fresh = not (root / ".dvc").is_dir()
    repo = Repo.init(str(root)) if fresh else Repo(str(root))
    try:
        with repo.config.edit("repo") as settings:
            for section, values in DVC_SETTINGS.items():
                if fresh or section == "hydra":
                    settings.setdefault(section, {}).update(values)
        if fresh:
            _keep_index_inside(root / ".dvc")
            with repo.config.edit("local") as settings:
                settings.setdefault("core", {})["site_cache_dir"] = str((root / ".dvc" / SITE_CACHE).resolve())
    finally:
        repo.close()


def _keep_index_inside(folder: Path) -> None:
    """DVC's index holds pickles, and lies where all users of a machine can write unless it is told otherwise."""
    (folder / SITE_CACHE).mkdir(mode=0o700)
    ignored = folder / ".gitignore"
    ignored.write_text(f"{ignored.read_text(encoding='utf-8')}/{SITE_CACHE}\n", encoding="utf-8")


def _expect_known(root: Path, choices: InitChoices) -> None:
    for group, option in (("model", choices.model), ("baseline", choices.baseline), ("tasks", choices.tasks)):
        # The example is about to be written.
        if option != OWN or group == "baseline":
            conf_files.expect_choice(root / "conf", group, option)


def _expect_place(root: Path) -> None:
    asked = subprocess.run(
        ["git", "rev-parse", "--show-toplevel"], cwd=root, capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        if any(root.iterdir()):
            raise KitError(
                f"{root} holds files and is no git repository. Run `git init` there first, or name an empty folder."
            )
        return
    if (top := Path(asked.stdout.strip())).resolve() != root.resolve():
        raise KitError(f"{root} lies inside the git repository {top}. Run this at its top: embrepro init {top}")


def _expect_free(root: Path, wanted: Mapping[str, str]) -> None:
    """Refuse where a file is there and says otherwise; what ends in marks of its own is added to instead."""
    cut_short = all(current(root, name) == text for name, text in wanted.items())
    paths = [*wanted, "dvc.lock", *([] if cut_short else [str(PARAMS)])]
    taken = [name for name in paths if name not in BLOCKS and (root / name).exists()]
    taken = [name for name in taken if name not in wanted or current(root, name) != wanted[name]]
    if taken:
        raise KitError(
            f"{root} holds {', '.join(taken)} already, and nothing of yours is overwritten. Move "
            f"{'it' if len(taken) == 1 else 'them'} elsewhere, or use another repository."
        )


def _run(root: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise KitError(f"{' '.join(command)} failed in {root}: {done.stderr.strip()}")
