"""executor=ray: a machine that is lost and a run that is killed cost little, and the bytes are those of executor=local."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

import preloaded
import tiny_mirror
from conftest import REPOSITORY, build_dense_model, build_static_model
from embrepro import models
from embrepro.config.compose import compose_values
from embrepro.config.schema import Executor, ModelConfig, parse_config
from embrepro.embeddings import encoding
from embrepro.embeddings.plan import BatchRule
from embrepro.executors import encoding as remote
from embrepro.files import sha256
from embrepro.tasks import registry

LOCK = REPOSITORY / "requirements" / "ray.lock"
MODELS = {"dense": build_dense_model, "static": build_static_model}


@pytest.fixture(scope="module")
def with_ray() -> dict[str, str]:
    """The variables of a process that finds Ray; it lies beside the environment, so that all else runs without it."""
    folder = REPOSITORY / ".cache" / f"ray-{sha256(LOCK)[:12]}"
    if not folder.is_dir():
        making = folder.with_suffix(".unfinished")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*command, "--target", str(making), "-r", str(LOCK)], check=True, timeout=300)
        making.rename(folder)
    paths = [str(REPOSITORY / "src"), str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two tiny models and a task of some hundred shards, downloaded."""
    root = tmp_path_factory.mktemp("ray")
    for name, build in MODELS.items():
        (root / "models").mkdir(exist_ok=True)
        build(root / "models" / name)
    tiny_mirror.build(root / "mirror")
    values = compose_values(["device.threads=2", "device.batch_tokens=16"], REPOSITORY / "conf")
    values["models"] = {
        name: {"org": "test", "name": name, "family": name, "folder": str(root / "models" / name)} for name in MODELS
    }
    values |= {
        "candidate": "static",
        "baseline": "dense",
        "benchmarked": {},
        "source": {"mirror": str(root / "mirror")},
    }
    values["tasks"] = {"names": [tiny_mirror.RERANKING]}
    folder = root / "project"
    folder.mkdir()
    configure(folder, values)
    run(folder, dict(os.environ), "download")
    return folder


@pytest.fixture
def cluster(with_ray: dict[str, str], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Two nodes of one core each, and their address."""
    program = [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))]
    errors = tmp_path / "errors"
    address = ""
    # A node that takes longer than fifteen seconds to start its helpers gives up, which a busy machine can cause.
    for _ in range(3):
        with errors.open("w") as file:
            process = subprocess.Popen(
                program, env=with_ray, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True
            )
        assert process.stdin and process.stdout
        if address := process.stdout.readline().strip():
            break
        process.wait(60)
    assert address, errors.read_text()
    yield process, address
    process.stdin.close()
    process.wait(120)


def configure(folder: Path, values: dict[str, Any] | None = None, **executor: str) -> None:
    """Write params.yaml, or change its executor."""
    path = folder / "params.yaml"
    values = values or yaml.safe_load(path.read_text())
    values["executor"] |= executor
    path.write_text(yaml.safe_dump(values))


def start(folder: Path, variables: dict[str, str], *words: str) -> subprocess.Popen[str]:
    command = [str(preloaded.programs() / "embrepro"), *words]
    return subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(folder: Path, variables: dict[str, str], *words: str) -> str:
    process = start(folder, variables, *words)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def outputs(folder: Path) -> dict[str, bytes]:
    """Everything that encode and evaluate write, but the times in mteb's results."""
    found = {}
    for path in sorted([*(folder / "embeddings").rglob("*"), *(folder / "results").rglob("*")]):
        if path.is_file():
            lines = path.read_bytes().splitlines(keepends=True)
            varies = (b'"date"', b'"evaluation_time"', b'"kg_co2', b'"start"', b'"end"')
            found[str(path.relative_to(folder))] = b"".join(
                line for line in lines if not line.lstrip().startswith(varies)
            )
    return {name: content for name, content in found.items() if "record.json" not in name}


def wait_for_shards(folder: Path, process: subprocess.Popen[str], count: int) -> dict[Path, int]:
    """The shards that are stored, once there are so many, and when each was written."""
    until = time.monotonic() + 240
    while time.monotonic() < until and process.poll() is None:
        shards = list((folder / "embeddings" / "dense" / ".shards").glob("[!.]*.safetensors"))
        if len(shards) >= count:
            return {path: path.stat().st_mtime_ns for path in shards}
        time.sleep(0.02)
    raise AssertionError(f"no {count} shards in time: {process.communicate()[0] if process.poll() is not None else ''}")


@pytest.mark.slow
def test_a_killed_run_and_a_lost_node_leave_the_bytes_of_a_local_run(
    project: Path, cluster: tuple[subprocess.Popen[str], str], with_ray: dict[str, str]
) -> None:
    nodes, address = cluster
    for stage in ("encode", "evaluate"):
        run(project, dict(os.environ), stage, "dense")
    local = outputs(project)
    assert len(local) > 3
    for path in project.glob("embeddings/dense/*"):
        path.unlink()
    for path in [*project.glob("results/*/*/*"), *project.glob("reports/status/*")]:
        path.unlink()

    configure(project, name="ray", address=address)
    first = start(project, with_ray, "encode", "dense")
    kept = wait_for_shards(project, first, 4)
    first.kill()
    first.communicate()

    second = start(project, with_ray, "encode", "dense")
    shards = wait_for_shards(project, second, len(kept) + 4)
    assert nodes.stdin and nodes.stdout
    nodes.stdin.write("kill\n")
    nodes.stdin.flush()
    assert nodes.stdout.readline() == "killed\n"
    assert not list((project / "embeddings" / "dense").glob("*.safetensors")), "it had ended before the node was lost"
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said
    assert {path: shards.get(path) for path in kept} == kept, "shards of the killed run were encoded again"
    run(project, with_ray, "evaluate", "dense")
    assert outputs(project) == local


def test_ray_that_is_not_installed_is_an_error_that_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from embrepro.executors import crew; from embrepro.config.schema import Executor\n"
        "with crew.connected(Executor(name='ray')): pass"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ConfigError" in done.stderr
    assert "--require-hashes -r requirements/ray.lock" in done.stderr


def test_nothing_of_ray_is_loaded_where_the_executor_is_local() -> None:
    code = (
        "import sys, embrepro.pipeline.encode, embrepro.pipeline.evaluate, embrepro.embeddings.encoding\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'ray' or 'embrepro.executors' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("address", ["a b", "10.0.0.1:6379; rm", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Executor(name="ray", address=address)


@pytest.mark.slow
def test_what_travels_for_a_shard_gives_the_rows_that_the_whole_task_gives(tmp_path: Path) -> None:
    """The order alone, pickled, without the machine that it goes to."""
    device = parse_config(compose_values([], REPOSITORY / "conf"), "conf/").device
    model = ModelConfig(org="test", name="dense", family="dense", folder=str(build_dense_model(tmp_path / "dense")))
    loaded = models.load(tmp_path / "dense", model, device)
    encoder = models.wrap(loaded, model, "1" * 40, models.describe(loaded))
    texts = [" ".join("the a of and to in is it"[: 3 + number % 19].split()) for number in range(60)]
    table = pa.table({"prompt": ["query"] * 20 + ["document"] * 40, "text": texts})
    plan, lengths = encoding.plan_task(table, BatchRule(tokens=16), loaded, pairs=False)
    metadata = registry.find(tiny_mirror.RETRIEVAL).metadata
    task = encoding.TaskShards("Task", metadata, table, False, "key", tmp_path, plan, lengths)
    assert plan.shards > 1
    for shard in plan:
        order = pickle.loads(pickle.dumps(remote.order(task, shard.index)))  # noqa: S301 - made in the line itself
        assert len(order.work.texts) == len(shard.rows)
        there, here = (encoding.encode_shard(encoder, *each) for each in ((order.work, order.shard), (task, shard)))
        assert there.dtype == here.dtype
        assert np.array_equal(there, here)
