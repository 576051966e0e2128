"""Numerics that travel: the same bytes on any x86-64 processor with AVX2, and with any number of worker processes.

Numeric libraries choose their code by the processor, and their order of summation by the number of threads. Both move
the last bits of a sum, and with them a distilled model, an embedding, a score. `portable` pins the instruction set of
every library to AVX2 and gives each process one thread; parallelism then comes from worker processes, whose number
changes nothing. `native` leaves the choice to the libraries.

The libraries read these variables once, when they are loaded, so `pin` comes before numpy, scipy and torch.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Literal

Numerics = Literal["portable", "native"]

INSTRUCTION_SET = {
    # oneMKL: without STRICT, Intel and AMD processors still take different code.
    "MKL_CBWR": "AVX2,STRICT",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    # What numpy 2.4 dispatches to beyond AVX2.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
)
LIBRARIES = ("numpy", "scipy", "torch", "sklearn", "polars")


def variables(numerics: Numerics) -> dict[str, str]:
    """The variables that a process has to start with."""
    return INSTRUCTION_SET | ONE_THREAD if numerics == "portable" else {}


def pin(numerics: Numerics) -> None:
    """Set the variables of this process and its children; call it before any numeric library is imported."""
    os.environ.update(variables(numerics))


def pinned() -> bool:
    """Whether this process was started with, or has set, every variable of `portable`."""
    return all(os.environ.get(name) == value for name, value in (INSTRUCTION_SET | ONE_THREAD).items())


def loaded() -> list[str]:
    """Numeric libraries that are imported already, for which `pin` comes too late."""
    return [name for name in LIBRARIES if name in sys.modules]


def why_not_portable() -> str:
    """Why this machine cannot give the portable bytes; empty where it can."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"the processor is {platform.machine()}, and portable numerics need x86-64"
    if "avx2" not in _flags():
        return "the processor has no AVX2"
    return ""


def workers(threads: int | None) -> int:
    """Worker processes to use: the configured number, else the cores that this process may run on."""
    return threads or len(os.sched_getaffinity(0))


def _flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return set()
    return next((set(line.split()) for line in text.splitlines() if line.startswith("flags")), set())
