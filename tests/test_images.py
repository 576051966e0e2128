"""The images run anywhere: as any user, on a read-only root, with no network and nothing of the builder's.

They are built by `make images`; a base other than the pinned one is named by EMBREPRO_TEST_BASE. Without a
container engine, or without a base that can be obtained, these tests are skipped, and the summary says so.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import build_cpu_image

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCKED_DOWN = ["--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]


def find_engine() -> str | None:
    """Return the container engine that answers, if any."""
    for engine in filter(None, [os.environ.get("ENGINE"), "docker", "podman"]):
        if shutil.which(engine) and not subprocess.run([engine, "info"], capture_output=True).returncode:
            return engine
    return None


ENGINE = find_engine()
needs_engine = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(ENGINE is None, reason="NO CONTAINER ENGINE ANSWERS: the images are not tested"),
]


def engine(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the container engine."""
    assert ENGINE is not None
    return subprocess.run([ENGINE, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def image() -> str:
    """Return the CPU image of this working tree, built if it is not there."""
    base = os.environ.get("EMBREPRO_TEST_BASE", "")
    built = build_cpu_image()
    if built.returncode and not base:
        pytest.skip(f"THE PINNED BASE COULD NOT BE HAD OR BUILT UPON, images untested: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return "embrepro:cpu"


def run(image: str, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command in a container that may do as little as a stage needs."""
    return engine("run", *LOCKED_DOWN, *options, image, *command)


class TestDockerfile:
    def test_the_base_is_pinned_by_digest(self) -> None:
        assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)

    def test_every_stage_stands_on_the_base_or_on_another_stage(self) -> None:
        stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
        assert len(stages) == DOCKERFILE.count("\nFROM ")
        names = ["${BASE}"]
        for parent, name in stages:
            assert parent in names
            names.append(name)
        assert {"cpu", "cuda"} <= set(names)

    def test_the_cuda_stages_come_last_so_that_a_simple_builder_never_builds_them_for_the_cpu(self) -> None:
        assert DOCKERFILE.index("AS cpu") < DOCKERFILE.index("AS packages-cuda")

    @pytest.mark.parametrize("target", ["cpu", "cuda"])
    def test_what_is_shipped_copies_the_two_installed_folders_and_the_lock_only(self, target: str) -> None:
        stage = re.split(r"^FROM ", DOCKERFILE.split(f"FROM runtime AS {target}\n")[1], flags=re.MULTILINE)[0]
        copies = re.findall(r"^COPY (.*)$", stage, re.MULTILINE)
        assert copies == [
            f"--from=packages-{target} /opt/venv /opt/venv",
            f"requirements/{target}.lock /opt/requirements.lock",
            "--from=kit /opt/kit /opt/kit",
        ]
        assert not re.search(r"^(RUN|ADD) ", stage, re.MULTILINE)

    def test_only_what_the_dockerfile_copies_is_sent_to_the_engine(self) -> None:
        allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
        copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        sources = {source for line in copied for source in line.replace("sit[e]", "site").split()}
        assert {source for source in sources if not source.startswith(tuple(allowed))} == set()


class TestCpuImage:
    pytestmark = needs_engine

    def test_the_program_answers_with_no_network_on_a_read_only_root(self, image: str) -> None:
        done = run(image, "embrepro", "--help")
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout

    def test_any_user_without_an_entry_in_the_password_file_can_use_it(self, image: str) -> None:
        script = "import os, getpass, torch, mteb; print(os.getuid(), getpass.getuser(), torch.__version__)"
        done = run(image, "python", "-c", script, options=("--user", "12345:54321"))
        assert done.stdout.split() == ["12345", "embrepro", "2.13.0+cpu"], done.stderr

    def test_the_user_is_not_root_and_can_write_nowhere_but_in_tmp(self, image: str) -> None:
        assert run(image, "id", "-u").stdout.strip() == "10001"
        assert run(image, "find", "/", "-xdev", "-writable", "-type", "d").stdout.split() == ["/tmp"]
        on_a_writable_root = engine("run", "--rm", "--network", "none", image, "find", "/opt", "-writable")
        assert on_a_writable_root.stdout.split() == []

    def test_the_packages_are_those_of_the_lock(self, image: str) -> None:
        lock = (ROOT / "requirements/cpu.lock").read_bytes()
        assert run(image, "cat", "/opt/requirements.lock").stdout.encode() == lock
        freeze = run(image, "python", "-m", "pip", "freeze", "--path", "/opt/venv/lib/python3.11/site-packages")
        locked = re.findall(r"^([\w.-]+)==(\S+)", lock.decode(), re.MULTILINE)
        installed = re.findall(r"^([\w.-]+)==(\S+)$", freeze.stdout, re.MULTILINE)
        normal = {(re.sub(r"[_.]", "-", name.lower()), version) for name, version in installed}
        assert {(name, version) for name, version in locked if name != "setuptools"} <= normal

    def test_labels_tell_the_commit_and_the_lock(self, image: str) -> None:
        labels = json.loads(engine("image", "inspect", "--format", "{{json .Config.Labels}}", image).stdout)
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") == head.stdout.strip()
        lock = (ROOT / "requirements/cpu.lock").read_bytes()
        assert labels["embrepro.lock.sha256"] == hashlib.sha256(lock).hexdigest()

    def test_the_health_command_passes(self, image: str) -> None:
        check = json.loads(engine("image", "inspect", "--format", "{{json .Config.Healthcheck}}", image).stdout)
        kind, *command = check["Test"]
        assert kind == "CMD"
        assert run(image, *command).returncode == 0

    def test_nothing_of_the_builder_stays(self, image: str) -> None:
        assert run(image, "ls", "/site", "/build").returncode != 0
        leftovers = "find / -xdev -name pip.conf -o -name ca.crt -o -name 'torch-*.whl' -o -path '*/.cache/*'"
        found = engine("run", "--rm", "--network", "none", "--user", "0", image, "bash", "-c", leftovers)
        assert (found.returncode, found.stdout.split()) == (0, [])
        for compiler in ("gcc", "cc", "g++", "make", "rustc"):
            assert run(image, "bash", "-c", f"command -v {compiler}").returncode != 0
        history = engine("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout
        assert not re.search(r"/site|PIP_|_proxy|_PROXY|\.crt|\.whl", history)
        assert not (ROOT / ".cache/site").exists()

    def test_a_change_of_the_kit_leaves_the_big_layer_as_it_is(self, image: str) -> None:
        layers = engine("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout.splitlines()
        kit = next(place for place, line in enumerate(layers) if "/opt/kit" in line and "COPY" in line)
        packages = next(place for place, line in enumerate(layers) if "/opt/venv" in line and "COPY" in line)
        assert kit < packages, "newest first: the kit must be copied after the packages"
