"""Resolve pyproject.toml into the locks of requirements/ (run it through `make locks`).

Five files come out: `cuda.lock` (everything, torch as the package index serves it), `cpu.lock` (the same
versions with the CPU build of torch and nothing of NVIDIA's), `ray.lock` (what the extra `ray` adds to either),
`mteb1.lock` (what mteb 1.39.7 needs in other versions than those, for `embrepro case languages`) and
`build.lock` (what installs the others).
Where packages come from is taken from pip's own configuration; none of it is written into a lock.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from lockfile import LOCKS, declared_sha256, header, parse_lock
from pip_settings import pip_setting, uv_settings

ROOT = Path(__file__).resolve().parent.parent
PYTHON, PLATFORM = "3.11", "x86_64-manylinux_2_28"
# The version whose silence the analysis took for a fault of the tasks; it loads with no transformers of version 5.
MTEB1 = ("mteb==1.39.7", "transformers<5", "pillow")
OTHER_IN_MTEB1 = (
    "datasets",
    "dill",
    "fsspec",
    "huggingface-hub",
    "mteb",
    "multiprocess",
    "sentence-transformers",
    "transformers",
)


def uv_environment() -> dict[str, str]:
    """Return the environment for uv: the package index and certificates that pip is configured with."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("UV_")}
    wanted = ("UV_DEFAULT_INDEX", "SSL_CERT_FILE")
    return environment | {name: value for name, value in uv_settings().items() if name in wanted}


def compile_lock(sources: list[str], lock: Path, *options: str, upgrade: bool) -> None:
    """Run `uv pip compile`, keeping the versions that `lock` already holds unless asked to upgrade."""
    command = ["uv", "pip", "compile", *sources, "--output-file", str(lock), "--quiet", "--no-config"]
    command += ["--python-version", PYTHON, "--python-platform", PLATFORM, "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", *options]
    subprocess.run([*command, *(["--upgrade"] if upgrade else [])], cwd=ROOT, env=uv_environment(), check=True)


def compile_cpu(lock: Path, work: Path, upgrade: bool) -> None:
    """Lock the CPU environment: the CUDA lock's versions around the pinned CPU build of torch."""
    pinned = parse_lock(LOCKS["torch-cpu"].read_text())["torch"]
    override, constraint = work / "torch.txt", work / "versions.txt"
    override.write_text(f"torch=={pinned.version}\n")
    others = parse_lock(LOCKS["cuda"].read_text())
    constraint.write_text("".join(f"{name}=={entry.version}\n" for name, entry in others.items() if name != "torch"))
    folders = pip_setting("find-links")
    local = any(next(Path(folder).glob(f"torch-{pinned.version}-*"), None) for folder in folders)
    where = [f"--find-links={folder}" for folder in folders] if local else ["--torch-backend=cpu"]
    options = ["--extra=test", f"--overrides={override}", f"--constraints={constraint}", *where]
    compile_lock(["pyproject.toml"], lock, *options, upgrade=upgrade)
    pin_torch(lock, pinned.hashes)


def pin_torch(lock: Path, pinned: frozenset[str]) -> None:
    """Replace the hashes that this machine saw for torch by the hand-kept ones, which must agree."""
    seen = parse_lock(lock.read_text())["torch"].hashes
    if not seen & pinned:
        sys.exit(
            f"requirements/torch-cpu.txt pins {', '.join(sorted(pinned))} for torch, but this machine was "
            f"offered {', '.join(sorted(seen))}. Check where the wheel comes from; if it is PyTorch's own, "
            "put its SHA-256 into requirements/torch-cpu.txt and run `make locks` again."
        )
    block = re.compile(r"^(torch==\S+)(?: \\\n    --hash=\S+)+", re.MULTILINE)
    hashes = " \\\n".join(f"    --hash=sha256:{digest}" for digest in sorted(pinned))
    lock.write_text(block.sub(lambda match: f"{match[1]} \\\n{hashes}", lock.read_text()))


def compile_ray(lock: Path, work: Path, upgrade: bool) -> None:
    """Lock what the extra `ray` adds to an environment; what the environment has stays at its version."""
    present = parse_lock(LOCKS["cpu"].read_text())
    wanted, constraint = work / "ray.txt", work / "present.txt"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted.write_text("".join(f"{requirement}\n" for requirement in extras["ray"]))
    constraint.write_text("".join(f"{name}=={pin.version}\n" for name, pin in present.items() if name != "torch"))
    omitted = [f"--no-emit-package={name}" for name in present]
    compile_lock([str(wanted)], lock, f"--constraints={constraint}", *omitted, upgrade=upgrade)


def compile_mteb1(lock: Path, work: Path, upgrade: bool) -> None:
    """Lock an older mteb on top of an environment: only what it needs in another version, or in addition."""
    beneath = {name: pin for name, pin in parse_lock(LOCKS["cuda"].read_text()).items() if name not in OTHER_IN_MTEB1}
    wanted, constraint = work / "mteb1.txt", work / "beneath.txt"
    wanted.write_text("".join(f"{requirement}\n" for requirement in MTEB1))
    constraint.write_text("".join(f"{name}=={pin.version}\n" for name, pin in beneath.items()))
    omitted = [f"--no-emit-package={name}" for name in beneath]
    compile_lock([str(wanted)], lock, f"--constraints={constraint}", *omitted, upgrade=upgrade)


def compile_build(lock: Path, work: Path, upgrade: bool) -> None:
    """Lock pip, uv and the build back end, at the version of setuptools that the environments hold."""
    setuptools = parse_lock(LOCKS["cuda"].read_text())["setuptools"].version
    wanted = work / "build.txt"
    wanted.write_text(f"pip\nuv\nsetuptools=={setuptools}\n")
    compile_lock([str(wanted)], lock, upgrade=upgrade)


def main() -> None:
    """Write the locks, each with the hash of the dependencies that it answers to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that are allowed")
    upgrade = parser.parse_args().upgrade
    stamp = header(declared_sha256((ROOT / "pyproject.toml").read_text()))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        compile_lock(["pyproject.toml"], LOCKS["cuda"], "--extra=test", upgrade=upgrade)
        compile_cpu(LOCKS["cpu"], work, upgrade)
        compile_ray(LOCKS["ray"], work, upgrade)
        compile_mteb1(LOCKS["mteb1"], work, upgrade)
        compile_build(LOCKS["build"], work, upgrade)
    for name in ("cuda", "cpu", "ray", "mteb1", "build"):
        LOCKS[name].write_text(stamp + LOCKS[name].read_text())
        sys.stdout.write(f"{LOCKS[name].relative_to(ROOT)}: {len(parse_lock(LOCKS[name].read_text()))} pins\n")


if __name__ == "__main__":
    main()
