"""A stage in its image: the same command, user, paths and code as on the host, and nothing else in reach.

What the engine is told is tested without one. What it then does is tested with the engine that answers and the
image that `make images` builds; without either these tests are skipped, and the summary says so.
"""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY, build_cpu_image, build_static_model, copy_repository
from embrepro import cli, containers
from embrepro.config.compose import compose_values
from embrepro.config.params import read_params
from embrepro.config.schema import Config, parse_config
from embrepro.containers import Call, ContainerError, Engine
from embrepro.errors import ConfigError

IMAGE = "sha256:" + "0" * 64
SOMEBODY = 12345
DOCKER, PODMAN = Engine("docker"), Engine("podman", podman=True)


@functools.cache
def configured(*overrides: str) -> Config:
    return parse_config(compose_values(["runtime=docker", *overrides], REPOSITORY / "conf"), "conf/")


def call(*arguments: str, root: str = "/home/user/kit", terminal: bool = False, **environment: str) -> Call:
    return Call(
        arguments=arguments or ("encode", "minilm"),
        root=Path(root),
        name="embrepro-encode-1",
        user="1000:1001",
        owner="pid:[1] 2 3.0",
        environment=environment,
        revision={"commit": "c0ffee", "dirty": False, "branch": "main"},
        terminal=terminal,
    )


def line(called: Call | None = None, *overrides: str, engine: Engine = DOCKER) -> list[str]:
    return containers.command_line(engine, configured(*overrides), IMAGE, called or call())


def values(command: list[str], option: str) -> list[str]:
    """What follows each occurrence of an option."""
    return [word for before, word in itertools.pairwise(command) if before == option]


class TestWhatTheEngineIsTold:
    def test_the_image_by_its_identity_runs_the_very_command(self) -> None:
        assert line()[-4:] == [IMAGE, "embrepro", "encode", "minilm"]

    def test_the_repository_alone_is_mounted_under_its_own_path(self) -> None:
        command = line(call(root="/home/a user/kit"))
        assert values(command, "--mount") == ["type=bind,source=/home/a user/kit,target=/home/a user/kit"]
        assert values(command, "--workdir") == ["/home/a user/kit"]
        assert not {"-v", "--volume"} & set(command)

    def test_a_comma_in_the_path_is_quoted_as_engines_read_it(self) -> None:
        # https://docs.docker.com/reference/cli/docker/container/run/#mount: the option is a line of CSV.
        assert values(line(call(root="/home/a,b")), "--mount") == ['type=bind,"source=/home/a,b","target=/home/a,b"']

    @pytest.mark.parametrize("stage", ["encode", "evaluate", "benchmark", "aggregate", "report", "check"])
    def test_no_stage_but_download_has_a_network(self, stage: str) -> None:
        assert values(line(call(stage), "runtime.network=host"), "--network") == ["none"]

    def test_download_has_the_engines_network_or_the_one_that_is_named(self) -> None:
        assert values(line(call("download")), "--network") == []
        assert values(line(call("download"), "runtime.network=none"), "--network") == ["none"]

    def test_the_container_can_do_little(self) -> None:
        command = line()
        assert {"--rm", "--init", "--read-only"} <= set(command)
        assert values(command, "--cap-drop") == ["ALL"]
        assert values(command, "--tmpfs") == ["/tmp"]
        assert "no-new-privileges" in values(command, "--security-opt")

    def test_limits_are_those_of_the_configuration(self) -> None:
        assert not {"--memory", "--cpus"} & set(line())
        command = line(None, "runtime.memory=8g", "runtime.cpus=1.5")
        assert values(command, "--memory") == values(command, "--memory-swap") == ["8g"]
        assert values(command, "--cpus") == ["1.5"]

    @pytest.mark.parametrize(
        ("engine", "expected"),
        [
            (DOCKER, ["--user", "1000:1001"]),
            (PODMAN, ["--user", "1000:1001"]),
            (Engine("podman", podman=True, rootless=True), ["--userns=keep-id", "--user", "1000:1001"]),
            (Engine("docker", rootless=True), ["--user", "0:0"]),
            (Engine("docker", remapped=True), ["--userns=host", "--user", "1000:1001"]),
        ],
    )
    def test_files_belong_to_the_caller_however_users_are_mapped(self, engine: Engine, expected: list[str]) -> None:
        command = line(engine=engine)
        assert [word for word in command if word.startswith("--user") or word in expected[-1:]] == expected

    def test_the_gpu_is_passed_through_for_cuda_alone(self) -> None:
        assert not {"--gpus", "--device"} & set(line())
        assert values(line(None, "device=cuda"), "--gpus") == ["all"]
        assert values(line(None, "device=cuda", engine=PODMAN), "--device") == ["nvidia.com/gpu=all"]

    def test_what_decides_numbers_is_passed_on_and_nothing_of_the_network_but_to_download(self) -> None:
        given = {"OMP_WAIT_POLICY": "PASSIVE", "HF_TOKEN": "secret", "https_proxy": "http://u:p@x", "AWS_KEY": "1"}
        passed = values(line(call("encode", "minilm", **given)), "--env")
        assert "OMP_WAIT_POLICY" in passed
        assert not [entry for entry in passed if entry.startswith(("HF_TOKEN", "https_proxy", "AWS"))]
        assert {"HF_TOKEN", "https_proxy"} < set(values(line(call("download", **given)), "--env"))

    def test_no_passed_value_shows_in_the_command(self) -> None:
        given = {"HF_TOKEN": "secret", "HTTPS_PROXY": "http://user:secret@proxy"}
        assert not [word for word in line(call("download", **given)) if "secret" in word]

    def test_the_container_is_told_its_image_and_the_commit(self) -> None:
        told = dict(entry.split("=", 1) for entry in values(line(), "--env") if "=" in entry)
        assert told["EMBREPRO_IMAGE"] == IMAGE
        assert json.loads(told["EMBREPRO_REVISION"])["commit"] == "c0ffee"

    def test_the_repositorys_code_runs_and_not_the_images(self) -> None:
        assert "PYTHONPATH=/home/user/kit/src:/opt/kit" in values(line(), "--env")

    def test_download_sees_mirror_and_certificates_read_only(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mirror, certificate = tmp_path / "a mirror", tmp_path / "ca.crt"
        mirror.mkdir()
        certificate.write_text("")
        monkeypatch.setenv("EMBREPRO_MIRROR", str(mirror))
        given = {"EMBREPRO_MIRROR": str(mirror), "SSL_CERT_FILE": str(certificate)}
        fetching = line(call("download", **given))
        assert values(fetching, "--mount")[1:] == [
            f"type=bind,source={path},target={path},readonly" for path in (mirror, certificate)
        ]
        assert f"EMBREPRO_MIRROR={mirror}" in values(fetching, "--env")
        encoding = line(call("encode", "minilm", **given))
        assert len(values(encoding, "--mount")) == 1
        assert not [entry for entry in values(encoding, "--env") if entry.startswith(("EMBREPRO_MIRROR", "SSL"))]

    def test_a_bar_is_drawn_on_a_terminal_only(self) -> None:
        assert "--tty" in line(call(terminal=True))
        assert "--tty" not in line()


class TestWhatIsRefused:
    def test_no_engine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ContainerError, match="docker and podman cannot be found.*runtime=host"):
            containers.find_engine(configured())

    @pytest.mark.skipif(not shutil.which("docker"), reason="no docker client: how it fails is not tested")
    def test_an_engine_that_does_not_answer_is_quoted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
        with pytest.raises(ContainerError, match="no container engine answers.*unix:///nowhere"):
            containers.find_engine(configured("runtime.engine=docker"))

    def test_a_repository_that_would_hide_the_image(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir("/usr")
        with pytest.raises(ConfigError, match="would hide /usr/bin"):
            containers.run_in_container(configured(), ["encode", "minilm"])

    @pytest.mark.parametrize(
        ("override", "hint"),
        [
            ("runtime.memory=lots", "runtime.memory"),
            ("runtime.cpus=0", "runtime.cpus"),
            ("runtime.engine=dokcer", "docker"),
        ],
    )
    def test_a_wrong_setting(self, override: str, hint: str) -> None:
        with pytest.raises(ConfigError, match=hint):
            configured(override)


class TestTheStages:
    def test_every_command_of_the_pipeline_can_run_in_an_image(self) -> None:
        stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
        lines = [stage.get("do", stage)["cmd"].split() for stage in stages.values()]
        # What the code's own hash is needs nothing but Python, and is found on the host.
        commands = {line[1] for line in lines if line[0] == "embrepro"}
        registered = [info for info in cli.app.registered_commands if info.cls is cli.program.Stage]
        entered = {info.name or info.callback.__name__ for info in registered}
        assert commands == entered

    def test_no_stage_depends_on_the_runtime(self) -> None:
        stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
        params = [key for stage in stages.values() for key in stage.get("do", stage).get("params", [])]
        assert params
        assert not [key for key in params if str(key).startswith("runtime")]

    def test_inside_an_image_a_stage_does_its_work_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("EMBREPRO_IMAGE", raising=False)
        assert containers.wanted(configured())
        monkeypatch.setenv("EMBREPRO_IMAGE", IMAGE)
        assert not containers.wanted(configured())


class Box:
    """A small project in a folder with a space and a comma in its name, whose stages run in the CPU image."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        kept = {name: os.environ[name] for name in os.environ if not name.startswith(("EMBREPRO", "HF_", "DVC"))}
        self.environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
        )  # fmt: skip

    def run(self, *command: str, code: int = 0, **options: Any) -> str:
        process = self.start(*command, **options)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == code, said
        return said

    def containers(self) -> list[str]:
        ours = f"label={containers.REPOSITORY_LABEL}={self.folder}"
        listed = [self.engine.program, "ps", "--all", "--quiet", "--filter", ours]
        return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()

    def wait_for_container(self) -> None:
        for _ in range(600):
            if self.containers():
                return
            time.sleep(0.1)
        raise AssertionError("no container came up")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    try:
        engine = containers.find_engine(configured())
    except ContainerError as error:
        pytest.skip(f"NO CONTAINER ENGINE ANSWERS, runtime=docker is not tested: {error}")
    if not _build_image(engine):
        pytest.skip("THE CPU IMAGE COULD NOT BE BUILT, runtime=docker is not tested: make images IMAGES=cpu")
    folder = tmp_path_factory.mktemp("box") / "a kit, boxed"
    copy_repository(folder)
    build_static_model(folder / "models" / "tiny", dimensions=16)
    model = {"org": "test", "name": "tiny", "family": "static", "folder": "models/tiny"}
    settings = yaml.safe_load((folder / "params.yaml").read_text())
    settings |= {"candidate": "tiny", "baseline": "tiny", "benchmarked": {}, "models": {"tiny": model}}
    settings["runtime"] = configured("runtime.network=none").runtime.model_dump()
    settings["tasks"]["names"] = ["EmbreproTopicClustering"]
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    made = Box(folder, engine)
    made.run("embrepro", "download")
    yield made
    assert made.containers() == [], "a container stayed behind"


def _build_image(engine: Engine) -> bool:
    base = os.environ.get("EMBREPRO_TEST_BASE", "")
    built = build_cpu_image(ENGINE=engine.program)
    assert built.returncode == 0 or not base, built.stderr[-2000:]
    return built.returncode == 0


def _encode_as_somebody(folder: Path) -> None:
    socket = Path("/var/run/docker.sock")
    os.setgroups([socket.stat().st_gid] if socket.exists() else [])
    os.setgid(SOMEBODY)
    os.setuid(SOMEBODY)
    os.environ["HOME"] = str(folder)
    os.chdir(folder)
    sys.exit(containers.run_in_container(read_params(), ["encode", "tiny"]))


@pytest.mark.docker
@pytest.mark.slow
class TestInTheImage:
    def test_the_numbers_are_the_hosts(self, box: Box) -> None:
        metrics = box.folder / "reports" / "metrics.json"
        found = []
        settings = (box.folder / "params.yaml").read_text()
        for name in ("docker", "host"):
            changed = yaml.safe_load(settings)
            changed["runtime"] = changed["runtime"] if name == "docker" else {"name": "host"}
            (box.folder / "params.yaml").write_text(yaml.safe_dump(changed))
            for stage in (["encode", "tiny"], ["evaluate", "tiny"], ["aggregate"]):
                box.run("embrepro", *stage)
            found.append(metrics.read_bytes())
            for made in ("embeddings", "results", "reports"):
                shutil.rmtree(box.folder / made)
        (box.folder / "params.yaml").write_text(settings)
        assert found[0] == found[1]
        assert json.loads(found[0])["models"]["tiny"]["scores"]["EmbreproTopicClustering"] > 0

    def test_a_failing_stage_fails_with_its_own_message(self, box: Box) -> None:
        said = box.run("embrepro", "encode", "tini", code=1)
        assert "No model 'tini' in this configuration; did you mean tiny?" in said

    def test_work_in_a_container_can_be_watched_from_outside(self, box: Box) -> None:
        box.run("embrepro", "encode", "tiny")
        process, shown = box.start("embrepro", "evaluate", "tiny"), ""  # takes seconds: its workers import mteb
        while process.poll() is None and "evaluate  tiny" not in shown:
            shown = box.run("embrepro", "watch", "--once")
        assert process.wait(timeout=60) == 0
        assert "evaluate  tiny" in shown
        shutil.rmtree(box.folder / "results")

    def test_ctrl_c_leaves_no_container(self, box: Box) -> None:
        process = box.start("embrepro", "encode", "tiny")
        box.wait_for_container()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert box.containers() == []

    def test_a_run_that_is_stopped_before_its_container_starts_leaves_none(self, box: Box) -> None:
        for delay in (0.4, 0.6, 0.8):
            process = box.start("embrepro", "encode", "tiny")
            time.sleep(delay)
            process.terminate()
            assert process.wait(timeout=60) != 0
            assert box.containers() == []

    def test_the_next_run_removes_what_a_killed_one_left(self, box: Box) -> None:
        process = box.start("embrepro", "encode", "tiny")
        box.wait_for_container()
        process.kill()
        process.wait()
        said = box.run("embrepro", "encode", "tiny")
        assert "removing what a killed run left running: embrepro encode tiny" in said
        assert box.containers() == []

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can act as somebody else")
    def test_files_belong_to_whoever_called(self, box: Box) -> None:
        with tempfile.TemporaryDirectory() as place:
            Path(place).chmod(0o755)
            folder = Path(place) / "somebody's kit"
            shutil.copytree(box.folder, folder)
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, SOMEBODY, SOMEBODY)
            # A fork, because somebody may not be able to read this Python.
            caller = multiprocessing.get_context("fork").Process(target=_encode_as_somebody, args=(folder,))
            caller.start()
            caller.join(timeout=600)
            assert caller.exitcode == 0
            assert (folder / "embeddings" / "tiny" / "EmbreproTopicClustering.safetensors").is_file()
            assert {path.stat().st_uid for path in folder.rglob("*")} == {SOMEBODY}

    def test_an_image_of_other_packages_is_refused(self, box: Box) -> None:
        lock = box.folder / "requirements" / "cpu.lock"
        before = lock.read_text()
        lock.write_text(before + "# another\n")
        said = box.run("embrepro", "encode", "tiny", code=1)
        lock.write_text(before)
        assert "was made from another lock than requirements/cpu.lock" in said
        assert "make images IMAGES=cpu" in said

    def test_an_image_that_is_not_there(self, box: Box) -> None:
        with pytest.raises(ContainerError, match="no image embrepro:none.*make images IMAGES=cpu"):
            containers.checked_image(box.engine, configured("runtime.image.cpu=embrepro:none"), box.folder)

    def test_a_stage_that_exceeds_its_memory_says_so(self, box: Box) -> None:
        settings = (box.folder / "params.yaml").read_text()
        changed = yaml.safe_load(settings)
        changed["runtime"]["memory"] = "64m"
        (box.folder / "params.yaml").write_text(yaml.safe_dump(changed))
        # With nothing to encode it would fit.
        stored = {path: path.read_bytes() for path in (box.folder / "embeddings" / "tiny").glob("*.safetensors")}
        for path in stored:
            path.unlink()
        said = box.run("embrepro", "encode", "tiny", code=1)
        for path, content in stored.items():
            path.write_bytes(content)
        (box.folder / "params.yaml").write_text(settings)
        assert "raise runtime.memory (64m)" in said
