"""Build the images of the Dockerfile (run it through `make images`).

A site's pip configuration, certificates and wheel folders are laid into `.cache/site` for the stage that
installs the packages, and removed again. Proxies go in as the engine's predefined build arguments. None of it
reaches an image that is shipped; the engine's own build cache may hold it until it is pruned.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lockfile import LOCKS, parse_lock
from pip_settings import pip_setting

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / ".cache" / "site"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
BUILT_FROM = (
    "src",
    "scripts/make-env",
    "scripts/pip_settings.py",
    "requirements",
    "pyproject.toml",
    "Dockerfile",
    "LICENSE",
)


def find_engine() -> str:
    """Return the container engine that answers: `ENGINE`, docker or podman."""
    wanted = os.environ.get("ENGINE")
    for engine in [wanted] if wanted else ["docker", "podman"]:
        if shutil.which(engine) and not subprocess.run([engine, "info"], capture_output=True).returncode:
            return engine
    sys.exit(f"no container engine answers ({wanted or 'docker, podman'}): start one, or name it with ENGINE=")


def locked_wheels(folder: Path) -> Iterator[Path]:
    """Yield the files of a wheel folder that some lock pins by hash."""
    pinned = {name: pin for lock in ("cuda", "cpu", "build") for name, pin in read(lock).items()}
    hashes = {digest for lock in ("cuda", "cpu", "build") for pin in read(lock).values() for digest in pin.hashes}
    for file in sorted(folder.glob("*")):
        name = re.split(r"-\d", file.name, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")
        if name in pinned and file.suffix in {".whl", ".gz"} and sha256(file) in hashes:
            yield file


def read(lock: str) -> dict:
    """Return the pins of one lock."""
    return parse_lock(LOCKS[lock].read_text())


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def site_folder() -> Iterator[None]:
    """Lay out what this machine's pip is configured with for the build, and take it away afterwards.

    One build of a checkout at a time: a second one waits, since it would change the first one's folder.
    """
    SITE.parent.mkdir(parents=True, exist_ok=True)
    with SITE.with_name("site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(SITE, ignore_errors=True)
        (SITE / "wheels").mkdir(parents=True)
        try:
            (SITE / "pip.conf").write_text(site_pip_configuration())
            yield
        finally:
            shutil.rmtree(SITE, ignore_errors=True)


def site_pip_configuration() -> str:
    """Return a pip.conf for the build and copy the certificate and the wheels that it speaks of."""
    lines = ["[global]", "timeout = 180"]
    for name in ("index-url", "trusted-host"):
        lines += [f"{name} = {value}" for value in pip_setting(name)[:1]]
    remote = [url for url in pip_setting("extra-index-url") if not url.startswith("file:")]
    lines += [f"extra-index-url = {' '.join(remote)}"] if remote else []
    certificates = [
        *pip_setting("cert"),
        os.environ.get("REQUESTS_CA_BUNDLE"),
        os.environ.get("SSL_CERT_FILE"),
    ]
    for certificate in filter(None, certificates):
        shutil.copyfile(certificate, SITE / "ca.crt")
        lines.append("cert = /site/ca.crt")
        break
    for folder in pip_setting("find-links"):
        if not Path(folder).is_dir():
            lines.append(f"find-links = {folder}")
            continue
        for wheel in locked_wheels(Path(folder)):
            place(wheel, SITE / "wheels" / wheel.name)
    if any((SITE / "wheels").iterdir()):
        lines.append("find-links = /site/wheels")
    return "\n".join(lines) + "\n"


def place(source: Path, target: Path) -> None:
    """Put a file in its place without copying its bytes where the file system allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def commit() -> str:
    """Return the commit that the image is built from, with `-dirty` if what goes in is not as committed."""
    head = git("rev-parse", "HEAD")
    return f"{head}-dirty" if git("status", "--porcelain", "--", *BUILT_FROM) else head


def git(*arguments: str) -> str:
    """Return what a git command prints."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def build(engine: str, target: str, base: str | None, options: list[str]) -> None:
    """Build one target of the Dockerfile as `embrepro:<target>` and say what came out."""
    tag = f"{os.environ.get('IMAGE_NAME', 'embrepro')}:{target}"
    arguments = {"COMMIT": commit(), "LOCK_SHA256": sha256(LOCKS[target])} | ({"BASE": base} if base else {})
    command = [engine, "build", "--target", target, "--tag", tag, *options]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for name in PROXIES:
        command += ["--build-arg", name] if os.environ.get(name) else []
    if engine == "podman":  # its own format has no health command
        command += ["--format", "docker"]
    subprocess.run([*command, "."], cwd=ROOT, check=True)
    shown = [engine, "image", "inspect", "--format", "{{.Id}} {{.Size}}", tag]
    identity, size = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split()
    sys.stdout.write(f"{tag}  {identity}  {int(size) / 1e6:,.0f} MB\n")


def main() -> None:
    """Build the targets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=["cpu", "cuda"], choices=["cpu", "cuda"])
    parser.add_argument("--base", help="another base image; one named by digest can be obtained again")
    arguments, options = parser.parse_known_args()
    if arguments.base and "@sha256:" not in arguments.base:
        sys.stderr.write(f"Note: the base {arguments.base} is not named by digest; others may get another one.\n")
    engine = find_engine()
    with site_folder():
        for target in arguments.targets:
            build(engine, target, arguments.base, options)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
