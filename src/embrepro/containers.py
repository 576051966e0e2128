"""Run a stage's command in its image, by Docker or Podman.

The container does what the host would: the repository's own code, on the repository's own files, under the
same paths and as the same user. It sees nothing else, and no network but in the download stage. It ends
with the command.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from embrepro import kit
from embrepro.config.schema import Config
from embrepro.errors import ConfigError, KitError
from embrepro.files import sha256
from embrepro.progress import console, processes
from embrepro.progress.processes import OWNER_VARIABLE
from embrepro.results.provenance import IMAGE_VARIABLE, REVISION_VARIABLE, revision

LOCK_LABEL = "embrepro.lock.sha256"
REPOSITORY_LABEL = "embrepro.repository"
OWNER_LABEL = "embrepro.owner"
COMMAND_LABEL = "embrepro.command"

NETWORK_STAGE = "download"
HOME = "/tmp"
KIT = "/opt/kit"
IMAGE_FOLDERS = ("/opt/venv", KIT, "/usr/bin", "/usr/lib", "/etc", "/proc", "/sys", "/dev", HOME)

# Passed on by name, so that no value (a token, a proxy's password) shows in the process list.
NUMERIC = ("CUBLAS_", "CUDA_VISIBLE_DEVICES", "MKL_", "OMP_", "OPENBLAS_")
PASSED = ("EMBREPRO_", "NO_COLOR", "SOURCE_DATE_EPOCH", "TERM", *NUMERIC)
CERTIFICATES = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
PROXIES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
PASSED_TO_DOWNLOAD = ("HF_ENDPOINT", "HF_HUB_", "HF_TOKEN", *PROXIES, *CERTIFICATES)
NOT_PASSED = (IMAGE_VARIABLE, REVISION_VARIABLE, OWNER_VARIABLE, "EMBREPRO_MIRROR", "HF_HUB_CACHE", "HF_TOKEN_PATH")

GRACE_SECONDS = 10
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START_FAILED, KILLED = (125, 126, 127), 137


class ContainerError(KitError):
    """No engine, no image, an image of other packages, or a container that could not start or was killed."""


@dataclass(frozen=True)
class Engine:
    """A container engine that answers, and how it maps users."""

    program: str
    podman: bool = False
    rootless: bool = False
    remapped: bool = False


@dataclass(frozen=True)
class Call:
    """Who runs what, where: all that a command line depends on beside the configuration."""

    arguments: Sequence[str]
    root: Path
    name: str
    user: str
    owner: str
    environment: Mapping[str, str]
    revision: Mapping[str, object]
    terminal: bool = False
    program: Sequence[str] = ("embrepro",)

    @property
    def may_use_network(self) -> bool:
        """Whether this is the one stage that fetches."""
        return tuple(self.arguments[:1]) == (NETWORK_STAGE,)


def wanted(config: Config) -> bool:
    """Whether stages are to run in an image and this process is not in one already."""
    return config.runtime.name != "host" and not os.environ.get(IMAGE_VARIABLE)


def run_in_container(config: Config, arguments: Sequence[str]) -> int:
    """Run `embrepro ARGUMENTS` in the device's image, from the current folder; returns the exit code.

    SIGINT, SIGTERM and SIGHUP stop the container, which is then given `GRACE_SECONDS` to end.

    Raises:
        ContainerError: no engine answers, the image is missing or of another lock, or it did not start.
        ConfigError: the repository would hide files of the image, or the mirror does not exist.
    """
    call = _call(arguments)
    _expect_room(call.root)
    engine = find_engine(config)
    image = checked_image(engine, config, call.root)
    _remove_leftovers(engine, call)
    code = _attend(engine, command_line(engine, config, image, call), call.name)
    _explain(code, config)
    return code


def run_alone(config: Config, program: Sequence[str], folder: Path) -> None:
    """Run a program in the CPU image with no network, and with nothing of this machine but one folder.

    Args:
        config: says which engine and image.
        program: its words.
        folder: mounted under its own path, and writable.

    Raises:
        ContainerError: no engine answers, the image is missing or of another lock, or the program failed.
    """
    config = config.model_copy(update={"device": config.device.model_copy(update={"name": "cpu"})})
    engine = find_engine(config)
    image = checked_image(engine, config, Path.cwd())
    call = replace(_call(["convert"]), root=folder, arguments=(), program=program)
    code = _attend(engine, command_line(engine, config, image, call), call.name)
    _explain(code, config)
    if code:
        raise ContainerError(f"{program[0]} ended with {code} in its container, see above.")


def find_engine(config: Config) -> Engine:
    """The engine that the configuration names, or the first one that answers.

    Raises:
        ContainerError: none is installed, or none answers; its own words are in the message.
    """
    chosen = config.runtime.engine
    programs = [chosen] if chosen != "auto" else ["docker", "podman"]
    refusals = []
    for program in filter(shutil.which, programs):
        asked = _ask([program, "info", "--format", "{{json .}}"])
        if asked.returncode == 0:
            return _described(program, json.loads(asked.stdout))
        refusals.append(f"{program}: {_last_line(asked.stderr)}")
    if refusals:
        raise ContainerError(
            f"runtime=docker: no container engine answers ({'; '.join(refusals)}). Start it, or join "
            "the group that may use it; or do without: runtime=host."
        )
    raise ContainerError(
        f"runtime=docker: {' and '.join(programs)} cannot be found. Install Docker or Podman, "
        "or do without: runtime=host."
    )


def checked_image(engine: Engine, config: Config, root: Path) -> str:
    """Identity (sha256:...) of the device's image, whose packages are those of the repository's lock.

    Raises:
        ContainerError: the engine has no such image, or its packages are others.
    """
    device = config.device.name
    name = getattr(config.runtime.image, device)
    remedy = f"make images IMAGES={device}{' ENGINE=podman' if engine.podman else ''}"
    asked = _ask([engine.program, "image", "inspect", name])
    if asked.returncode != 0:
        raise ContainerError(
            f"{engine.program} has no image {name}. Build it: {remedy}; "
            f"or pull one and name it under runtime.image.{device}."
        )
    image = json.loads(asked.stdout)[0]
    name_of_lock = Path("requirements") / f"{device}.lock"
    lock = kit.find(root / name_of_lock, name_of_lock)
    labels = image["Config"].get("Labels") or {}
    if labels.get(LOCK_LABEL) != sha256(lock):
        raise ContainerError(
            f"The image {name} was made from another lock than {name_of_lock}: its label says "
            f"{labels.get(LOCK_LABEL, 'nothing')[:12]}, the file has {sha256(lock)[:12]}. "
            f"Build it again: {remedy}"
        )
    return f"sha256:{image['Id'].removeprefix('sha256:')}"


def command_line(engine: Engine, config: Config, image: str, call: Call) -> list[str]:
    """The engine's command for one stage; a function of its arguments alone."""
    return [
        engine.program, "run", "--rm", "--init", "--name", call.name,
        *(["--tty"] if call.terminal else []),
        *_user(engine, call),
        *_confinement(config, call),
        *_limits(config),
        *_gpu(engine, config),
        *_mounts(config, call),
        *_environment(config, image, call),
        *_labels(call),
        "--workdir", str(call.root),
        image, *call.program, *call.arguments,
    ]  # fmt: skip


def _user(engine: Engine, call: Call) -> list[str]:
    if engine.podman and engine.rootless:
        return ["--userns=keep-id", "--user", call.user]
    # Docker's: root inside is the calling user outside, and other users have no rights
    if engine.rootless:
        return ["--user", "0:0"]
    return [*(["--userns=host"] if engine.remapped else []), "--user", call.user]


def _confinement(config: Config, call: Call) -> list[str]:
    network = config.runtime.network if call.may_use_network else "none"
    return [
        *(["--network", network] if network else []),
        "--read-only", "--tmpfs", HOME, "--shm-size", "1g",
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        # SELinux would hide the mounted repository; relabelling the user's files is not for us to do.
        "--security-opt", "label=disable",
        # Ends Python as Ctrl-C does: what was finished is kept, what was not is removed.
        "--stop-signal", "SIGINT", "--no-healthcheck",
    ]  # fmt: skip


def _limits(config: Config) -> list[str]:
    memory, cpus = config.runtime.memory, config.runtime.cpus
    return [
        *(["--memory", memory, "--memory-swap", memory] if memory else []),
        *(["--cpus", f"{cpus:g}"] if cpus else []),
    ]


def _gpu(engine: Engine, config: Config) -> list[str]:
    if config.device.name != "cuda":
        return []
    return ["--device", "nvidia.com/gpu=all"] if engine.podman else ["--gpus", "all"]


def _mounts(config: Config, call: Call) -> list[str]:
    mounts = [_mount(call.root, call.root)]
    if call.may_use_network:
        mounts += [_mount(source, target, "readonly") for source, target in _inputs(config, call)]
    return [word for mount in mounts for word in ("--mount", mount)]


def _mount(source: Path, target: Path, *options: str) -> str:
    # Engines read this option as a line of CSV: a comma in a path needs its quotes
    written = io.StringIO()
    fields = ["type=bind", f"source={source}", f"target={target}", *options]
    csv.writer(written, lineterminator="").writerow(fields)
    return written.getvalue()


def _inputs(config: Config, call: Call) -> Iterator[tuple[Path, Path]]:
    """What download reads outside the repository, and the path under which it looks for it."""
    if config.mirror:
        yield (resolved := config.mirror.resolve()), resolved
    for model in config.models.values():
        folder = Path(model.folder or "").expanduser().resolve()
        if model.folder and folder.is_dir() and not folder.is_relative_to(call.root):
            seen = model.folder.replace("~", HOME, 1) if model.folder.startswith("~") else model.folder
            yield folder, Path(os.path.normpath(call.root / seen))
    files = {call.environment[name] for name in CERTIFICATES if call.environment.get(name)}
    yield from ((Path(file).resolve(), Path(file)) for file in sorted(files) if Path(file).is_file())


def _environment(config: Config, image: str, call: Call) -> list[str]:
    prefixes = (*PASSED, *PASSED_TO_DOWNLOAD) if call.may_use_network else PASSED
    asked_for = [name for name in sorted(call.environment) if name.upper().startswith(prefixes)]
    passed = [name for name in asked_for if name not in NOT_PASSED]
    values = {
        IMAGE_VARIABLE: image,
        OWNER_VARIABLE: call.owner,
        REVISION_VARIABLE: json.dumps(dict(call.revision)),
        "PYTHONPATH": f"{call.root / 'src'}:{KIT}",
        # /tmp is memory; what the hub serves may be larger.
        "HF_HOME": str(call.root / ".cache" / "huggingface"),
    }
    if call.may_use_network and config.mirror:
        values["EMBREPRO_MIRROR"] = str(config.mirror.resolve())
    entries = [*passed, *(f"{name}={value}" for name, value in values.items())]
    return [word for entry in entries for word in ("--env", entry)]


def _labels(call: Call) -> list[str]:
    command = " ".join(call.arguments)
    labels = {REPOSITORY_LABEL: str(call.root), COMMAND_LABEL: command, OWNER_LABEL: call.owner}
    return [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]


def _call(arguments: Sequence[str]) -> Call:
    root = Path.cwd().resolve()
    return Call(
        arguments=arguments,
        root=root,
        name=f"embrepro-{arguments[0]}-{uuid.uuid4().hex[:12]}",
        user=f"{os.getuid()}:{os.getgid()}",
        owner=processes.identity(os.getpid()),
        environment=dict(os.environ),
        revision=revision(root),
        terminal=sys.stdout.isatty() and sys.stderr.isatty(),
    )


def _expect_room(root: Path) -> None:
    hidden = [folder for folder in IMAGE_FOLDERS if Path(folder).is_relative_to(root)]
    if hidden or root.is_relative_to(KIT):
        raise ConfigError(
            f"runtime=docker: {root}, mounted under its own path, would hide {', '.join(hidden) or KIT} of "
            "the image. Move the repository to another folder."
        )


def _described(program: str, information: Mapping[str, object]) -> Engine:
    host = information.get("host")
    # Podman, whatever name it is called by
    if isinstance(host, Mapping):
        return Engine(program, podman=True, rootless=bool(host.get("security", {}).get("rootless")))
    options = json.dumps(information.get("SecurityOptions") or [])
    return Engine(program, rootless="name=rootless" in options, remapped="name=userns" in options)


def _remove_leftovers(engine: Engine, call: Call) -> None:
    """Remove containers of this repository whose `embrepro` was killed before it could stop them."""
    ours = f"label={REPOSITORY_LABEL}={call.root}"
    listed = _ask([engine.program, "ps", "--all", "--quiet", "--filter", ours])
    for container in listed.stdout.split():
        asked = _ask([engine.program, "inspect", "--format", "{{json .Config.Labels}}", container])
        labels = json.loads(asked.stdout) if asked.returncode == 0 else {}
        # None: not ours to judge
        if processes.is_running(labels.get(OWNER_LABEL, "")) is False:
            console.say(f"removing what a killed run left running: embrepro {labels[COMMAND_LABEL]}")
            _ask([engine.program, "rm", "--force", container])


def _attend(engine: Engine, command: Sequence[str], name: str) -> int:
    """Wait for a container, or stop it when a signal comes; when this returns it is gone."""
    with _caught_signals() as caught:
        # In a group of its own: Ctrl-C by two ways would interrupt the stage as it cleans up.
        client = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
        while client.poll() is None and not caught:
            with suppress(subprocess.TimeoutExpired):
                client.wait(timeout=0.5)
        if not caught:
            return client.returncode
        _stop(engine, client, name)
    return 128 + caught[0]


def _stop(engine: Engine, client: subprocess.Popen[bytes], name: str) -> None:
    stopped = _ask([engine.program, "stop", "-t", str(GRACE_SECONDS), name])
    # Not created yet, and now it must not be
    if stopped.returncode != 0:
        client.terminate()
    try:
        client.wait(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        client.kill()
        client.wait()
    _ask([engine.program, "rm", "--force", name])


@contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """Collect signals that end a process, in place of being ended by them."""
    caught: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        caught.append(number)

    # What the caller has switched off stays off: SIGHUP under nohup, SIGINT in a script's background.
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _explain(code: int, config: Config) -> None:
    if code in START_FAILED:
        gpu = " device=cuda needs the NVIDIA container toolkit." if config.device.name == "cuda" else ""
        raise ContainerError(f"runtime=docker: the engine could not start the container, see above.{gpu}")
    if code == KILLED:
        limit = config.runtime.memory
        cause = f"likely at its limit: raise runtime.memory ({limit})" if limit else "perhaps out of memory"
        raise ContainerError(
            f"runtime=docker: the container was killed, {cause}. What was finished is kept, "
            "and the next run goes on from there."
        )


def _ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, process_group=0
    )


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "no answer"
