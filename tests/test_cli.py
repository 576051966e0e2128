"""The program's face: help that says all, and the options that every command has."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from conftest import REPOSITORY
from embrepro import cli
from embrepro.tasks import requested

COMMANDS = [command for commands in cli.PANELS.values() for command in commands]


def name_of(command: Callable[..., object]) -> str:
    return command.__name__.replace("_", "-")


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_shows_every_panel_and_every_description_whole(option: str) -> None:
    said = " ".join(invoke(option).replace("\u2502", " ").split())
    for panel, commands in cli.PANELS.items():
        assert panel in said
        for command in commands:
            assert f"{name_of(command)} {' '.join((command.__doc__ or '').split())}" in said


@pytest.mark.parametrize("command", [name_of(command) for command in COMMANDS])
def test_every_command_has_help_in_a_word(command: str) -> None:
    assert "Usage: embrepro" in invoke(command, "-h") or f"{command} [OPTIONS]" in invoke(command, "-h")


def test_a_stage_takes_its_model_from_the_name_of_its_dvc_stage() -> None:
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    repeated = [stage["do"]["cmd"] for stage in stages.values() if "foreach" in stage]
    assert repeated
    assert all(command.endswith(' "$DVC_STAGE"') and "${" not in command for command in repeated)
    arguments = [sys.executable, "-m", "embrepro.cli", "encode", "encode@nothing"]
    done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert "No model 'nothing' in this configuration" in done.stderr
    assert done.returncode == 1


def test_claims_are_counted_or_shown_by_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("conf", "reports", "params.yaml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    files = [str(path) for path in sorted((REPOSITORY / "conf" / "documents" / "claims").glob("*.yaml"))]
    monkeypatch.chdir(tmp_path)
    nothing = CliRunner().invoke(cli.app, ["claims", "--summary"])
    assert "The configuration names no claims" in str(nothing.exception)
    everything = json.loads(invoke("claims", "--json", *files))
    counts = Counter(each["verdict"] for each in everything)
    summary = invoke("claims", "--summary", *files)
    assert {
        verdict: int(count) for count, verdict in (line.split(maxsplit=1) for line in summary.splitlines())
    } == counts
    outcome = counts.most_common(1)[0][0]
    shown = json.loads(invoke("claims", "--json", "--only", outcome, *files))
    assert shown == [each for each in everything if each["verdict"] == outcome]


def test_what_download_refuses_compose_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").symlink_to(REPOSITORY / "conf")
    monkeypatch.chdir(tmp_path)
    for override, hint in (
        ("tasks.names=[STS99]", "no task 'STS99'"),
        ("tasks.languages=[en]", "did you mean eng?"),
        ("+tasks.subsets.STS12=[x]", "not among the requested tasks"),
    ):
        result = CliRunner().invoke(cli.app, ["compose", override])
        assert hint in str(result.exception)
    assert not requested.KNOWN.exists()
    invoke("compose")
    assert len(list(requested.KNOWN.iterdir())) == 1


def test_compose_does_not_load_mteb_for_tasks_that_it_has_checked(tmp_path: Path) -> None:
    (tmp_path / "conf").symlink_to(REPOSITORY / "conf")
    code = "import sys; from embrepro.cli import app; app(['compose'], standalone_mode=False); print('mteb' in sys.modules)"
    loaded = [
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout[
            -6:
        ]
        for _ in range(2)
    ]
    assert [each.strip() for each in loaded] == ["True", "False"]


def test_a_signal_before_the_command_line_is_read_ends_with_a_line() -> None:
    code = (
        "import os, signal\nfrom embrepro.cli import program\n"
        "program.run(lambda **_: os.kill(os.getpid(), signal.SIGTERM))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.startswith("embrepro: interrupted; ") and done.stderr.count("\n") == 1


def test_a_signal_in_a_destructor_is_not_forgotten() -> None:
    """Python prints an exception of a destructor and goes on."""
    code = (
        "import os, signal, time\nfrom embrepro.cli import program\n"
        "class Last:\n    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
        "def work(**_):\n    Last()\n    time.sleep(60)\n"
        "program.run(work)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.startswith("embrepro: interrupted; ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("then", ["raise RuntimeError('a chart')", "sys.exit(1)"])
def test_a_signal_that_a_library_makes_an_error_of_is_still_one(then: str) -> None:
    code = (
        "import os, signal, sys\nfrom embrepro.cli import program\n"
        "def work(**_):\n    try: os.kill(os.getpid(), signal.SIGINT)\n"
        f"    except KeyboardInterrupt: pass\n    {then}\n"
        "program.run(work)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.startswith("embrepro: interrupted; ") and done.stderr.count("\n") == 1
