"""Results are shared through a DVC remote, by docs/sharing.md's commands; who pulls computes nothing anew."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from checkout import Checkout

pytestmark = pytest.mark.slow

MADE = (".embrepro/code", "data", "embeddings", "reports", "results")


def _files(clone: Checkout) -> dict[str, tuple[int, bytes]]:
    """Modification time and content of every file that the stages made."""
    files = [file for folder in MADE for file in (clone.folder / folder).rglob("*") if file.is_file()]
    return {str(file.relative_to(clone.folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


@pytest.fixture(scope="module")
def first(project_that_ran: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A clone that ran the pipeline, pushed the results to a folder and committed their record."""
    folder = tmp_path_factory.mktemp("sharing")
    made = project_that_ran.copy(folder / "first" / "kit")
    made.run("dvc", "remote", "add", "--default", "team", str(folder / "a shared folder"))
    made.run("dvc", "remote", "modify", "team", "verify", "true")
    made.commit("A remote")
    assert "files pushed" in made.run("dvc", "push")
    return made


@pytest.fixture(scope="module")
def second(first: Checkout) -> Checkout:
    """Another clone, into which the results were pulled."""
    made = first.clone(first.folder.parents[1] / "second" / "kit")
    assert not (made.folder / "embeddings").exists(), "git must not carry what DVC carries"
    made.run("dvc", "pull")
    return made


def test_what_is_pulled_is_what_was_pushed(first: Checkout, second: Checkout) -> None:
    ours, theirs = _files(first), _files(second)
    assert set(theirs) == set(ours)
    assert [name for name in ours if ours[name][1] != theirs[name][1]] == []
    assert {folder for folder in MADE if any(name.startswith(f"{folder}/") for name in theirs)} == set(MADE)


def test_nothing_is_computed_anew(second: Checkout) -> None:
    before = _files(second)
    said = second.run("dvc", "repro")
    assert "Data and pipelines are up to date." in said
    assert "Running stage" not in said
    assert _files(second) == before


def test_the_reports_commands_work_on_pulled_results(second: Checkout) -> None:
    assert "mine" in second.run("dvc", "metrics", "show")
    second.run("embrepro", "check")


def test_a_change_on_the_second_clone_runs_only_what_it_affects(second: Checkout) -> None:
    second.write_candidate(folder="models/64")
    said = second.run("dvc", "repro", "--dry")
    assert "Running stage 'encode@mine'" in said
    assert "Stage 'encode@other' didn't change, skipping" in said


@pytest.mark.parametrize("name", ["embeddings/mine/EmbreproCodeUnderstanding.safetensors", "reports/status/mine.json"])
def test_an_object_of_the_remote_that_was_changed_is_not_pulled(name: str, first: Checkout, tmp_path: Path) -> None:
    """DVC finds it by its hash, as the remote's `verify` asks for."""
    digest = hashlib.md5((first.folder / name).read_bytes(), usedforsecurity=False).hexdigest()
    stored = first.folder.parents[1] / "a shared folder" / "files" / "md5" / digest[:2] / digest[2:]
    whole = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(bytes([*whole[:-1], whole[-1] ^ 1]))
    third = first.clone(tmp_path / "third" / "kit")
    try:
        said = third.run("dvc", "pull", code=None)
    finally:
        stored.write_bytes(whole)
    assert "failed to pull" in said
    assert not (third.folder / name).exists()
