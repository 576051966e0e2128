"""Write software bills of materials (CycloneDX 1.6, JSON) of the locks, and of the images that are built (`make sbom`).

A lock gives each package with the SHA-256 of every file that may be installed. An image is asked for what is in it:
Debian's packages and Python's. Nothing asks a network, and the same lock gives the same bytes.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from lockfile import LOCKS, parse_lock
from packageurl import PackageURL

LISTED_LOCKS = ("cpu", "cuda", "ray")
IMAGES = ("cpu", "cuda")
ENGINES = ("docker", "podman")
IN_IMAGE = """
dpkg-query --show --showformat 'deb ${Package} ${Version} ${Architecture}\\n'
/opt/venv/bin/python -c '
import importlib.metadata
for found in importlib.metadata.distributions():
    print("pypi", found.metadata["Name"], found.version)'
"""


def of_lock(name: str) -> Bom:
    """The bill of a lock of requirements/."""
    pins = parse_lock(LOCKS[name].read_text(encoding="utf-8"))
    packages = [
        _component("pypi", package, pin.version, hashes=sorted(pin.hashes)) for package, pin in sorted(pins.items())
    ]
    return _bom(f"embrepro environment {name}", packages)


def of_image(name: str, listing: str) -> Bom:
    """The bill of an image.

    Args:
        name: the image.
        listing: what it says of itself: lines `deb NAME VERSION ARCHITECTURE` and `pypi NAME VERSION`.
    """
    lines = sorted({tuple(line.split()) for line in listing.splitlines() if line.strip()})
    return _bom(f"embrepro image {name}", [_component(*line[:3], architecture="".join(line[3:4])) for line in lines])


def _component(kind: str, name: str, version: str, *, hashes: Sequence[str] = (), architecture: str = "") -> Component:
    namespace = "debian" if kind == "deb" else None
    qualifiers = {"arch": architecture} if architecture else None
    url = PackageURL(kind, namespace, name, version, qualifiers)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=url.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in hashes],
    )


def _bom(subject: str, packages: Iterable[Component]) -> Bom:
    described = Component(name=subject, type=ComponentType.APPLICATION, bom_ref=subject)
    made = Bom(components=packages)
    made.metadata.component = described
    made.register_dependency(described, made.components)
    # Of the content alone, not of the moment: the same lock gives the same bytes.
    made.serial_number = uuid5(NAMESPACE_URL, "\n".join(sorted(str(each.purl) for each in made.components)))
    return made


def text(made: Bom) -> str:
    """A bill as JSON, without the time at which it was made."""
    made.metadata.timestamp = None  # type: ignore[assignment]
    return JsonV1Dot6(made).output_as_string(indent=2) + "\n"


def listing(image: str) -> str | None:
    """What an image holds; None where no engine answers or the image is not there."""
    for engine in ENGINES:
        if (
            shutil.which(engine)
            and not subprocess.run([engine, "image", "inspect", image], capture_output=True).returncode
        ):
            command = [engine, "run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-euc", IN_IMAGE]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return None


def main() -> None:
    """Write the bills into a folder."""
    parser = argparse.ArgumentParser(description="Write software bills of materials.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for lock in LISTED_LOCKS:
        _write(folder / f"{lock}.lock.cdx.json", of_lock(lock))
    for name in IMAGES:
        image = f"embrepro:{name}"
        if (found := listing(image)) is None:
            sys.stdout.write(f"{image}: not built here, no bill; `make images` builds it\n")
        else:
            _write(folder / f"image-{name}.cdx.json", of_image(name, found))


def _write(path: Path, made: Bom) -> None:
    path.write_text(text(made), encoding="utf-8")
    sys.stdout.write(f"{path}: {len(made.components)} components\n")


if __name__ == "__main__":
    main()
