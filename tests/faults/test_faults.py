"""A short campaign with a seed of its own, in a process of its own: it must not have computed anything."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import preloaded

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_no_fault_fakes_a_number_or_loses_data() -> None:
    path = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    program = preloaded.programs() / "python-with-libraries"
    done = subprocess.run(
        [program, "-m", "faults", "--seed", "7", "--count", "30", "--seconds", "25"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "injections, seed 7" in done.stdout
