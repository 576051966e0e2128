"""Portable numerics: the same bytes with any number of workers, and on another processor than this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import portable_run
import preloaded
from conftest import REPOSITORY
from embrepro import numerics

EMULATOR = shutil.which("qemu-x86_64")
ARITHMETIC = """
import sys
from embrepro import numerics
numerics.pin(sys.argv[1])
import importlib.util
importlib.util.find_spec("torch")  # as transformers asks whether it is there, before it loads it
import hashlib, numpy, scipy.linalg, torch
torch.set_num_threads(1)
random = numpy.random.default_rng(0)
left, right = (random.standard_normal(shape, dtype=numpy.float32) for shape in ((96, 384), (384, 512)))
one, other = torch.from_numpy(left), torch.from_numpy(right)
scores = torch.nn.functional.gelu(one @ other)
attended = torch.nn.functional.scaled_dot_product_attention(*(scores.reshape(1, 8, 96, 64),) * 3)
found = {
    "sample": numpy.array(numerics._sample() if sys.argv[1] == "portable" else "", dtype="S16"),
    "product": left @ right,
    "torch": scores,
    "attention": attended,
    "softmax": torch.softmax(scores, 1),
    "norm": torch.nn.functional.layer_norm(scores, (512,)),
    "functions": numpy.exp(left) + numpy.tanh(left) + numpy.log1p(left * left),
    "sums": left.sum(axis=0),
    "decomposition": scipy.linalg.svd(left[:, :64])[1],
    "eigenvalues": numpy.linalg.eigh(left.T[:64] @ left[:, :64])[0],
    "best": torch.topk(one @ other, 10).values,
}
for name, values in found.items():
    print(name, hashlib.sha256(numpy.ascontiguousarray(values)).hexdigest())
"""


def arithmetic(chosen: str, *prefix: str) -> dict[str, str]:
    """A hash of each kind of arithmetic, in a process of its own."""
    pinned = numerics.variables("portable")
    clean = {name: value for name, value in os.environ.items() if name not in pinned}
    command = [*prefix, sys.executable, "-c", ARITHMETIC, chosen]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True, timeout=500)
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.skipif(
    not EMULATOR, reason="NO qemu-x86_64 HERE: no other processor was tried (apt-get install qemu-user)"
)
@pytest.mark.skipif(bool(numerics.why_not_portable()), reason="this machine cannot give the portable bytes")
@pytest.mark.parametrize("processor", ["EPYC-Rome", "Haswell"])
def test_arithmetic_gives_the_same_bytes_on_another_processor(processor: str) -> None:
    """One of another generation, and one of another maker, for which oneMKL has code of its own."""
    assert arithmetic("portable", str(EMULATOR), "-cpu", processor) == arithmetic("portable")


PINNED_ALONE = """
from embrepro import numerics
numerics.follow = lambda: None
numerics.pin("portable")
print(numerics.differs())
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not EMULATOR, reason="NO qemu-x86_64 HERE: no other processor was tried (apt-get install qemu-user)"
)
def test_variables_alone_do_not_make_another_makers_processor_alike() -> None:
    """Else overwriting what oneMKL asks would be for nothing; and `differs` finds it."""
    emulated = [str(EMULATOR), "-cpu", "Haswell", sys.executable, "-c", PINNED_ALONE]
    done = subprocess.run(emulated, capture_output=True, text=True, check=True, timeout=500)
    assert done.stdout == "True\n"


@pytest.mark.slow
def test_this_machine_computes_what_it_must() -> None:
    command = [
        sys.executable,
        "-c",
        "from embrepro import numerics; numerics.pin('portable'); print(numerics.differs())",
    ]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=500).stdout == "False\n"


@pytest.mark.slow
@pytest.mark.skipif("avx512f" not in numerics._flags(), reason="this processor has nothing beyond AVX2 to differ by")
def test_arithmetic_that_is_not_pinned_gives_others() -> None:
    """Else the test above would hold without any pinning."""
    native, portable = arithmetic("native"), arithmetic("portable")
    assert {name for name in native if native[name] != portable[name]} >= {"torch", "softmax", "attention"}


@pytest.mark.slow
def test_a_run_through_all_stages_does_not_depend_on_its_workers(tmp_path: Path) -> None:
    portable_run.build(tmp_path)

    def run(workers: int, where: str = "") -> dict[str, str]:
        code = f"import portable_run\nportable_run.main('run', {str(tmp_path)!r}, {str(workers)!r}, {where!r})"
        command = [str(preloaded.programs() / "python-with-libraries"), "-c", code]
        paths = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY / "tests")])
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=500, env={**os.environ, "PYTHONPATH": paths}
        )
        found: dict[str, str] = json.loads(said.stdout.splitlines()[-1])
        return found

    here, there = run(1, portable_run.IN_THIS_PROCESS), run(3)
    assert here == there
    assert len(here) >= 3 + 3 * 4 + 3 * 4 + 2
