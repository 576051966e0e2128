"""What `embrepro init` writes, as text by path: one's choices, and stages that run the installed kit."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from embrepro import kit, source_code
from embrepro.own_repository.inputs import FOLDER, PACKAGES

OWN = "mine"
"""Key of the example model and name of the example task set."""
WORKFLOW = ".github/workflows/embrepro.yml"
README = "README.md"
BLOCKS = (".gitignore", ".dvcignore")
"""Files of which only the part between two marks is the kit's to write."""
_TEMPLATES = Path(__file__).parent / "templates"


class KitOrigin(BaseModel):
    """Where the kit's reusable workflow is had on GitHub."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME")
    commit: str = Field(pattern=r"^[0-9a-f]{40}$")


class InitChoices(BaseModel):
    """What is asked of `embrepro init`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = OWN
    baseline: str = "minilm"
    tasks: str = OWN
    branch: str = "main"
    origin: KitOrigin | None = Field(default=None, description="null: no workflow")
    readme: str | None = Field(default=README, description="null where the repository had one")


def texts(choices: InitChoices) -> dict[str, str]:
    """The text of every file, by its path in the repository; of `BLOCKS` the part between the marks."""
    origin = choices.origin
    words = {
        "MODEL": choices.model,
        "BASELINE": choices.baseline,
        "TASKS": choices.tasks,
        "BRANCH": choices.branch,
        "REPOSITORY": origin.repository if origin else "",
        "COMMIT": origin.commit if origin else "",
    }
    found = {
        "dvc.yaml": pipeline(),
        "conf/config.yaml": _filled("config.yaml", words),
        "own-data/README.md": _filled("own-data.md", words),
        ".gitignore": _filled("gitignore", words),
        ".dvcignore": _filled("dvcignore", words),
    }
    if choices.model == OWN:
        found[f"conf/model/{OWN}.yaml"] = _filled("model.yaml", words)
    if choices.tasks == OWN:
        found[f"conf/tasks/{OWN}.yaml"] = _filled("tasks.yaml", words)
    if choices.readme:
        found[choices.readme] = _filled("README.md", words)
    if origin:
        found[WORKFLOW] = _filled("workflow.yml", words)
    return found


def _filled(template: str, words: dict[str, str]) -> str:
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda found: words[found[1]], text)


def pipeline() -> str:
    """The kit's own `dvc.yaml` for another repository: what lies in the kit comes in by files that name its hashes."""
    text = (kit.ROOT / "dvc.yaml").read_text(encoding="utf-8")
    stages = text[text.index("stages:\n") :]
    code = f"    cmd: python -m {source_code.__name__}\n    deps:\n      - src/embrepro\n    outs:\n"
    if stages.count(code) != 1:
        raise ValueError(f"the kit's dvc.yaml has no stage `code` as this module knows it:\n{code}")
    dependency = re.compile(r"^( +- )((?:conf|requirements)/[\w./-]+)$", re.MULTILINE)
    names = sorted({found[2] for found in dependency.finditer(stages)})
    made = sorted([PACKAGES.as_posix(), *(f"{FOLDER.as_posix()}/{name}.json" for name in names)])
    stages = dependency.sub(rf"\1{FOLDER.as_posix()}/\2.json", stages)
    stages = re.sub(r"^( +- )requirements/\$.*$", rf"\1{PACKAGES.as_posix()}", stages, flags=re.MULTILINE)
    return (_TEMPLATES / "pipeline.txt").read_text(encoding="utf-8") + stages.replace(
        code,
        f"    cmd: python -m embrepro.own_repository.inputs {' '.join(names)}\n    always_changed: true\n    outs:\n"
        + "".join(f"      - {path}\n" for path in made),
    )


def origin_of_the_kit() -> KitOrigin | None:
    """Where the installed kit came from, if that is a repository on GitHub: of a package's record, or of the checkout."""
    record = metadata.distribution("embrepro").read_text("direct_url.json")
    said = json.loads(record) if record else {}
    url, commit = said.get("url", ""), said.get("vcs_info", {}).get("commit_id", "")
    if not commit and (kit.ROOT / ".git").exists():
        url, commit = _git("remote", "get-url", "origin"), _git("rev-parse", "HEAD")
    place = re.search(r"github\.com[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", url)
    return KitOrigin(repository=place[1], commit=commit) if place and re.fullmatch(r"[0-9a-f]{40}", commit) else None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(kit.ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
