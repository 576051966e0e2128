"""The program itself, one process a stage: killed, sent signals, without network, without room."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

import preloaded
from conftest import REPOSITORY
from embrepro.layout import Layout
from stage_project import MODELS, configuration, metrics_bytes, run, times, values

pytest_plugins = ["stage_project"]


def command(
    sources: Path, folder: Path, *arguments: str, code: str = "", fresh: bool = False, **environment: str
) -> subprocess.Popen[str]:
    """The `embrepro` program in a project folder, with `code` run before it; in a fresh Python where imports are the point."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "params.yaml").exists():
        (folder / "params.yaml").write_text(yaml.safe_dump(values(sources)))
    program = [sys.executable if fresh else str(preloaded.programs() / "python-with-libraries")]
    call = f"from embrepro.cli import main\nsys.argv = ['embrepro', *{list(arguments)!r}]\nmain()\n"
    program += ["-c", f"{code}\nimport sys\n{call}"]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_WAIT_POLICY": "PASSIVE", **environment}
    return subprocess.Popen(
        program, cwd=folder, env=variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


SLOW_IMPORTS = (
    "torch", "mteb", "sentence_transformers", "transformers", "datasets", "sklearn", "hydra", "scipy.stats"
)  # fmt: skip


@pytest.mark.parametrize(
    "stage",
    [["download"], ["encode", "big"], ["evaluate", "big"], ["aggregate"], ["report"], ["check"]],
    ids=lambda x: x[0],
)
def test_with_everything_kept_no_stage_imports_what_takes_seconds(
    stage: list[str], finished_project: Path, sources: Path
) -> None:
    noted = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('imported', [name for name in {SLOW_IMPORTS} if name in sys.modules]))"
    )
    code, out, err = finish(command(sources, finished_project, *stage, code=noted, fresh=True))
    assert code == 0, err
    assert out.splitlines()[-1] == "imported []"


@pytest.fixture(scope="module")
def finished_project(done: Layout, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after a whole run of the program, with what `report` needs."""
    root = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(done.root, root)
    (root / "params.yaml").write_text(yaml.safe_dump(values(sources, claims=[], recommendation=None)))
    return root


def written(folders: Iterable[Path]) -> int:
    """Files under folders that a running stage fills and renames meanwhile, which `os.walk` puts up with."""
    return sum(len(files) for folder in folders for _, _, files in os.walk(folder))


def finished(stage: str, layout: Layout) -> dict[Path, int]:
    """When the files of tasks that a stage has finished were written."""
    if stage == "download":
        return times(*[file.parent / "data" for file in layout.tasks.glob("[!.]*/key.json")])
    if stage == "encode":
        return {path: path.stat().st_mtime_ns for path in layout.embeddings("big").glob("[!.]*.safetensors")}
    if not layout.evaluate_record("big").is_file():
        return {}
    record = json.loads(layout.evaluate_record("big").read_text())
    names = {name for outcome in record["tasks"].values() for name in outcome["files"]}
    results = layout.root / "results" / "test__big"
    return {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.name in names}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["download", "encode", "evaluate"])
def test_a_stage_that_is_killed_goes_on_and_ends_with_the_same_bytes(
    stage: str, done: Layout, sources: Path, tmp_path: Path
) -> None:
    shutil.copytree(done.root, tmp_path / "project")
    layout = Layout(tmp_path / "project")
    made = {
        "download": [layout.tasks, layout.models],
        "encode": [layout.embeddings("big")],
        "evaluate": [layout.root / "results"],
    }
    for folder in made[stage]:
        shutil.rmtree(folder)
    if stage == "evaluate":
        layout.evaluate_record("big").unlink()
    arguments = [stage] if stage == "download" else [stage, "big"]
    generator = random.Random(time.time())
    for attempt in range(4):
        before = finished(stage, layout)
        process = command(sources, layout.root, *arguments)
        while process.poll() is None and written(made[stage]) <= attempt:
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.1))  # work has begun: strike at a random moment from here
        process.kill()
        # Ends only when no worker holds the other end of the pipes any more.
        process.communicate(timeout=60)
        after = finished(stage, layout)
        assert {path: after[path] for path in before} == before
    code, _, errors = finish(command(sources, layout.root, *arguments))
    assert code == 0, errors
    whole = finished(stage, layout)
    assert {path: whole[path] for path in after} == after
    assert not list(layout.root.rglob("*.unfinished"))
    metrics = run(configuration(sources), layout)
    assert metrics == json.loads(metrics_bytes(done))
    assert metrics_bytes(layout) == metrics_bytes(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("download", signal.SIGHUP),
        ("encode", signal.SIGINT),
        ("evaluate", signal.SIGINT),
        ("evaluate", signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_stage_with_a_word_and_keeps_what_is_done(
    stage: str, number: signal.Signals, done: Layout, sources: Path, tmp_path: Path
) -> None:
    """SIGINT comes to the whole group, as by Ctrl-C; the others to the stage alone."""
    shutil.copytree(done.root, tmp_path / "project")
    layout = Layout(tmp_path / "project")
    made = {"download": layout.tasks, "encode": layout.embeddings("big"), "evaluate": layout.root / "results"}[stage]
    shutil.rmtree(made)
    if stage == "evaluate":
        layout.evaluate_record("big").unlink()
    # Where the tests run under nohup, SIGHUP is switched off, and stays so in what they start.
    by_default = f"import signal\nsignal.signal({int(number)}, signal.SIG_DFL)"
    words = [stage] if stage == "download" else [stage, "big"]
    process = command(sources, layout.root, *words, code=by_default if number != signal.SIGINT else "pass")
    while process.poll() is None and not list(made.glob("[!.]*")):
        time.sleep(0.005)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    code, _, errors = finish(process)
    assert code == 128 + number
    assert "interrupted; what was finished is kept" in errors
    assert "Traceback" not in errors
    assert list(made.glob("[!.]*"))
    assert not list(layout.root.rglob("*.unfinished"))


NO_NETWORK = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[1] if event == "socket.connect" else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        local = isinstance(address, (str, bytes)) and event == "socket.connect"
        if not local and host not in ("127.0.0.1", "::1", "localhost", None):
            print("NETWORK", event, arguments, file=sys.stderr, flush=True)
            raise OSError("the network was touched")
sys.addaudithook(refuse)
"""


ONE_AFTER_ANOTHER = """
import sys
from embrepro.cli import main
for words in {stages!r}:
    sys.argv = ["embrepro", *words]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    print("ended", *words, code)
"""


@pytest.mark.slow
def test_no_stage_touches_the_network_after_download(done: Layout, sources: Path, tmp_path: Path) -> None:
    """In a fresh Python, as the hub is not switched off for it; sitecustomize has the hook in every process."""
    shutil.copytree(done.root / "data", tmp_path / "project" / "data")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    variables = {
        "PYTHONPATH": f"{tmp_path / 'site'}:{REPOSITORY / 'src'}",
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": "0",
    }
    probe = subprocess.run(
        [sys.executable, "-c", "import socket; socket.getaddrinfo('example.org', 80)"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the network was touched" in probe.stderr
    stages = [[stage, key] for stage in ("encode", "evaluate") for key in MODELS] + [["aggregate"], ["check"]]
    code = ONE_AFTER_ANOTHER.format(stages=stages)
    _, out, errors = finish(command(sources, tmp_path / "project", code=f"{code}\nsys.exit()", fresh=True, **variables))
    assert [line for line in out.splitlines() if line.startswith("ended")] == [
        f"ended {' '.join(words)} 0" for words in stages
    ], errors
    assert "NETWORK" not in errors
    assert metrics_bytes(Layout(tmp_path / "project")) == metrics_bytes(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "blocked"),
    [
        (["download"], "data"),
        (["encode", "big"], "embeddings"),
        (["evaluate", "big"], "results"),
        (["aggregate"], "reports/plots"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_clear_line(
    arguments: list[str], blocked: str, done: Layout, sources: Path, tmp_path: Path
) -> None:
    """A file stands where the folder should be: the one obstacle that also stops root."""
    shutil.copytree(done.root, tmp_path / "project")
    target = tmp_path / "project" / blocked
    shutil.rmtree(target)
    target.write_text("in the way")
    code, _, errors = finish(command(sources, tmp_path / "project", *arguments))
    assert code == 1
    assert blocked in errors
    assert "Traceback" not in errors
    assert target.read_text() == "in the way"


@pytest.mark.slow
def test_a_full_disk_is_one_clear_line_and_leaves_no_half_file(done: Layout, sources: Path, tmp_path: Path) -> None:
    """No more than 512 bytes may be written to any file: the same errors as a full disk, without needing one."""
    shutil.copytree(done.root / "data", tmp_path / "project" / "data")
    limit = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))"
    )
    code, _, errors = finish(command(sources, tmp_path / "project", "encode", "big", code=limit))
    assert "Traceback" not in errors
    assert code == 1
    assert "No room to write" in errors
    assert not list((tmp_path / "project" / "embeddings").rglob("*.unfinished"))
    assert not list((tmp_path / "project" / "embeddings").rglob("*.safetensors"))


@pytest.mark.slow
def test_the_program_refuses_a_wrong_configuration_in_one_message(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values(sources, device__name="gpu")))
    code, out, errors = finish(command(sources, tmp_path, "download"))
    assert (code, out) == (1, "")
    assert "device.name" in errors
    assert "Traceback" not in errors
