"""The environment is what pyproject.toml and the locks say: pinned, hashed, and free of CUDA on a CPU."""

import configparser
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = ROOT / "pyproject.toml"
ENVIRONMENTS = ("cpu", "cuda")


def load_script(name: str) -> ModuleType:
    """Import a module of scripts/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


lockfile = load_script("lockfile")


def pins(name: str) -> dict:
    """Return the pins of one lock by package name."""
    return lockfile.parse_lock(lockfile.LOCKS[name].read_text())


def declared() -> list[Requirement]:
    """Return every run-time and test dependency of pyproject.toml."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    return [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["test"]]


LOCKS = ("cpu", "cuda", "ray", "mteb1", "build")


@pytest.mark.parametrize("name", LOCKS)
def test_locks_were_made_from_this_pyproject(name: str) -> None:
    expected = lockfile.header(lockfile.declared_sha256(PYPROJECT.read_text()))
    assert lockfile.LOCKS[name].read_text().startswith(expected), "pyproject.toml changed: run `make locks`"


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("requirement", declared(), ids=lambda requirement: requirement.name)
def test_every_dependency_is_locked_at_a_version_it_allows(name: str, requirement: Requirement) -> None:
    pin = pins(name)[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin.version, prereleases=True)


@pytest.mark.parametrize("name", [*LOCKS, "torch-cpu"])
def test_every_pin_carries_a_hash(name: str) -> None:
    assert [package for package, pin in pins(name).items() if not pin.hashes] == []


@pytest.mark.parametrize("name", [*LOCKS, "torch-cpu"])
def test_locks_name_no_index_host_or_folder(name: str) -> None:
    text = lockfile.LOCKS[name].read_text()
    assert not re.search(r"://|^-|--(?!hash=sha256:)|(^|\s)/\w", text, re.MULTILINE)


def test_the_cpu_environment_holds_nothing_of_cuda() -> None:
    assert [name for name in pins("cpu") if re.match(r"nvidia|cuda|triton|cupy", name)] == []
    assert pins("cpu")["torch"].version.endswith("+cpu")


def test_the_cuda_environment_holds_the_libraries_of_cuda() -> None:
    names = set(pins("cuda"))
    assert {"triton", "nvidia-cublas", "nvidia-cudnn-cu13"} <= names
    assert Version(pins("cuda")["torch"].version).local is None


def test_both_environments_agree_on_everything_but_torch() -> None:
    cpu, cuda = pins("cpu"), pins("cuda")
    assert {name for name in cpu if cpu[name] != cuda[name]} == {"torch"}
    assert Version(cpu["torch"].version).public == cuda["torch"].version


def test_the_cpu_lock_takes_the_torch_that_is_pinned_by_hand() -> None:
    assert pins("cpu")["torch"] == pins("torch-cpu")["torch"]


def test_the_builder_of_the_environment_is_the_one_inside_it() -> None:
    assert set(pins("build")) == {"pip", "setuptools", "uv"}
    assert pins("build")["setuptools"] == pins("cpu")["setuptools"]
    (backend,) = tomllib.loads(PYPROJECT.read_text())["build-system"]["requires"]
    assert Requirement(backend).specifier.contains(pins("build")["setuptools"].version)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_lock_of_an_older_mteb_holds_only_what_differs_from_the_environment_beneath(name: str) -> None:
    older = pins("mteb1")
    assert older["mteb"].version == "1.39.7"
    assert [package for package in older if older[package] == pins(name).get(package)] == []
    assert [package for package in older if re.match(r"torch|nvidia|cuda|triton", package)] == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_lock_of_ray_only_adds_to_an_environment(name: str) -> None:
    (ray,) = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]["ray"]
    assert Requirement(ray).specifier.contains(pins("ray")["ray"].version)
    assert not set(pins("ray")) & set(pins(name))


def test_mteb_which_defines_the_scores_is_pinned_exactly() -> None:
    (mteb,) = [requirement for requirement in declared() if requirement.name == "mteb"]
    assert re.fullmatch(r"==\d+\.\d+\.\d+", str(mteb.specifier))


@pytest.mark.parametrize("line", ["six", "six>=1", "six==1.17.0 --hash=md5:00", "-r other.lock", "six @ x"])
def test_a_line_that_pins_nothing_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="expected `name==version"):
        lockfile.parse_lock(line)


@given(extra=st.sampled_from(["numpy", "polars>=3", "mteb==1.0.0"]))
def test_any_change_of_a_dependency_changes_the_hash_that_locks_carry(extra: str) -> None:
    before = PYPROJECT.read_text()
    after = before.replace("\ndependencies = [", f'\ndependencies = [\n    "{extra}",')
    assert lockfile.declared_sha256(after) != lockfile.declared_sha256(before)


def test_a_change_elsewhere_in_pyproject_leaves_the_locks_valid() -> None:
    before = PYPROJECT.read_text()
    assert lockfile.declared_sha256(before + "\n[tool.other]\nx = 1\n") == lockfile.declared_sha256(before)


def test_what_is_installed_here_is_what_is_locked() -> None:
    venv = Path(sys.prefix)
    if not (venv / ".key").is_file():
        pytest.skip("not an environment of `make env`")
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--all", "--exclude-editable", "--exclude", "embrepro"],
        capture_output=True,
        text=True,
        check=True,
    )
    installed = dict(line.split("==") for line in listed.stdout.split() if "==" in line)
    versions = {canonicalize_name(name): version for name, version in installed.items()}
    name = "cpu" if "+" in versions["torch"] else "cuda"
    expected = {package: pin.version for package, pin in (pins("build") | pins(name)).items()}
    assert versions == expected


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make in the repository with a few environment variables more."""
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_make_help_explains_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    shown = make("help").stdout
    assert [target for target in phony[1].split() if not re.search(rf"make {target} +\w", shown)] == []


def test_the_words_of_a_make_do_not_reach_a_make_within_it() -> None:
    within = "--eval=within: ; @$(MAKE) --silent --dry-run images"
    said = make(within, "within", "ARGS=--durations=1", "IMAGES=cuda", "BASE=mine")
    assert said.returncode == 0, said.stderr
    assert [line.strip()[-17:] for line in said.stdout.splitlines() if "images" in line] == ["scripts/images.py"]


def test_uv_is_told_what_pip_is_told() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    told_pip = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://one.invalid/simple",
        "PIP_EXTRA_INDEX_URL": "https://two.invalid/a https://three.invalid/b",
        "PIP_FIND_LINKS": "/wheels /more",
        "PIP_CERT": "/ca.crt",
        "PIP_DEFAULT_TIMEOUT": "7",
    }
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "pip_settings.py"],
        env=environment | told_pip,
        capture_output=True,
        text=True,
        check=True,
    )
    assert dict(line.split("=", 1) for line in done.stdout.splitlines()) == {
        "UV_DEFAULT_INDEX": "https://one.invalid/simple",
        "UV_INDEX": "https://two.invalid/a https://three.invalid/b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/ca.crt",
        "UV_HTTP_TIMEOUT": "7",
    }


def test_a_python_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.12\n")
    other.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts/make-env", "cpu", str(tmp_path / "venv")],
        env={**os.environ, "PYTHON": str(other)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Python 3.11 is needed" in done.stderr
    assert f"PYTHON={other} is of version 3.12" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_environment_is_never_made_from_the_one_it_replaces() -> None:
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        [ROOT / "scripts/make-env", "--which-python"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_file()
    assert Path(sys.prefix) not in Path(done.stdout.strip()).parents


def test_an_unknown_device_is_refused_before_anything_is_installed() -> None:
    done = make("env", "DEVICE=tpu")
    assert done.returncode != 0
    assert "cpu or cuda, not 'tpu'" in done.stderr


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], "dvc repro"),
        (["MODEL=qwen25"], "dvc exp run -S 'model=qwen25'"),
        (["TASKS=english", "DEVICE=cuda"], "dvc exp run -S 'tasks=english' -S 'device=cuda'"),
        (["SET=tasks.names=[STS12,SICK-R]"], "dvc exp run -S 'tasks.names=[STS12,SICK-R]'"),
    ],
    ids=["default", "model", "tasks and device", "any setting"],
)
def test_make_repro_turns_its_words_into_overrides(words: list[str], command: str) -> None:
    shown = " ".join(make("--dry-run", "repro", *words).stdout.split())
    assert f"status=0; {command} " in shown


def test_dvc_is_set_up_for_hydra_without_reports_home_or_paths_of_a_machine() -> None:
    config = configparser.ConfigParser()
    config.read_string(re.sub(r"^\s+", "", (ROOT / ".dvc/config").read_text(), flags=re.MULTILINE))
    assert config["core"]["analytics"] == "false"
    assert config["hydra"]["enabled"] == "True"
    assert "site_cache_dir" not in config["core"]


def test_dvc_keeps_its_index_where_only_the_owner_writes() -> None:
    folder = ROOT / ".dvc/site-cache"
    if not folder.is_dir():
        pytest.skip("`make env` has not been run in this clone")
    assert folder.stat().st_mode & 0o077 == 0
    assert str(folder) in (ROOT / ".dvc/config.local").read_text()
