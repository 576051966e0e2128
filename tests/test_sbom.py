"""Bills of materials: every locked package with its hashes, every package of an image, in CycloneDX, with no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

import sbom
from lockfile import LOCKS, parse_lock


@pytest.mark.parametrize("lock", sbom.LISTED_LOCKS)
def test_a_bill_names_every_locked_package_with_its_hashes(lock: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    written = sbom.text(sbom.of_lock(lock))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    pins = parse_lock(LOCKS[lock].read_text())
    found = {each["name"]: each for each in json.loads(written)["components"]}
    assert {name: each["version"] for name, each in found.items()} == {name: pin.version for name, pin in pins.items()}
    hashes = {name: {each["content"] for each in component["hashes"]} for name, component in found.items()}
    assert hashes == {name: set(pin.hashes) for name, pin in pins.items()}
    assert found["anyio" if "anyio" in found else next(iter(found))]["purl"].startswith("pkg:pypi/")


def test_the_same_lock_gives_the_same_bytes() -> None:
    assert sbom.text(sbom.of_lock("cpu")) == sbom.text(sbom.of_lock("cpu"))


def test_an_image_is_described_by_what_is_in_it() -> None:
    listing = "deb libc6 2.36-9+deb12u10 amd64\npypi numpy 2.4.0\npypi numpy 2.4.0\n\n"
    found = json.loads(sbom.text(sbom.of_image("cpu", listing)))
    assert [each["purl"] for each in found["components"]] == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64",
        "pkg:pypi/numpy@2.4.0",
    ]


def test_the_program_writes_a_file_for_each_lock_without_network(tmp_path: Path) -> None:
    """Names cannot be looked up and no engine is found: nothing but files of the repository is read."""
    code = (
        "import runpy, socket, sys\n"
        "def refuse(*_): raise OSError('the network was touched')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        f"sys.path.insert(0, {str(REPOSITORY / 'scripts')!r})\nsys.argv = ['sbom.py', {str(tmp_path)!r}]\n"
        f"runpy.run_path({str(REPOSITORY / 'scripts' / 'sbom.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": ""}, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "embrepro:cpu: not built here" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {f"{lock}.lock.cdx.json" for lock in sbom.LISTED_LOCKS}
