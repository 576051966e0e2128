"""Numerics that travel: the same bytes on any x86-64 processor with AVX2, and with any number of worker processes.

Numeric libraries choose their code by the processor, and their order of summation by the number of threads. Both move
the last bits of a sum, and with them a distilled model, an embedding, a score. `portable` pins the instruction set of
every library to AVX2 and gives each process one thread; parallelism then comes from worker processes, whose number
changes nothing. `native` leaves the choice to the libraries.

The libraries read these variables once, when they are loaded, so `pin` comes before numpy, scipy and torch.

oneMKL, inside torch, asks besides who made the processor, and has other code for Intel's than for all others: products of
few rows, as in the attention of short texts, and `exp` and `erf` come out otherwise there. No variable changes that. So
where the processor is Intel's, the three functions that oneMKL asks are overwritten in memory, once torch is loaded, with
ones that answer as on another maker's. `differs` computes a sample of all this and compares it with what it must be.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Literal

Numerics = Literal["portable", "native"]

INSTRUCTION_SET = {
    # oneMKL takes any other branch for AUTO where the processor is not Intel's.
    "MKL_CBWR": "AUTO,STRICT",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    # What numpy 2.4 dispatches to beyond AVX2.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
)
_TOKENIZERS = "TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"
LIBRARIES = ("numpy", "scipy", "torch", "sklearn", "polars")

_NO, _YES = b"\x31\xc0\xc3", b"\xb8\x01\x00\x00\x00\xc3"
"""Machine code of a function that returns 0 (xor eax, eax; ret) or 1 (mov eax, 1; ret)."""
_ANSWERS = {"mkl_serv_intel_cpu_true": _NO, "mkl_serv_intel_cpu": _NO, "mkl_serv_cpuiszen": _YES}
"""What oneMKL asks about the processor, and what it is told."""
_SAMPLE = "5654ad35e859c01b"
"""SHA-256, shortened, of what `_sample` computes with portable numerics, on whatever processor."""


def variables(numerics: Numerics) -> dict[str, str]:
    """The variables that a process has to start with."""
    return INSTRUCTION_SET | ONE_THREAD if numerics == "portable" else {}


def pin(numerics: Numerics) -> None:
    """Set the variables of this process and its children; call it before any numeric library is imported."""
    os.environ.update(variables(numerics))
    follow()


def follow() -> None:
    """Where this process or its parent is pinned, have oneMKL take the same code on Intel's processors as on all others.

    For a process that was started by one that is pinned: variables are inherited, and this is not.
    """
    if not pinned():
        return
    if "torch" in sys.modules:
        _make_mkl_alike()
    elif not any(isinstance(finder, _AfterTorch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterTorch())


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


def tokenize_in(threads: int) -> None:
    """Let fast tokenizers use so many threads from now on, which changes no token; their first use decides how many.

    A forked process has none of the threads that tokenizers had before, and waits for them for ever unless it has one.
    """
    os.environ.update(zip(_TOKENIZERS, ("true" if threads > 1 else "false", str(threads)), strict=True))


@contextmanager
def tokenizing_in(threads: int) -> Iterator[None]:
    """As `tokenize_in`, while the block runs."""
    before = {name: os.environ[name] for name in _TOKENIZERS if name in os.environ}
    tokenize_in(threads)
    try:
        yield
    finally:
        for name in _TOKENIZERS:
            os.environ.pop(name)
        os.environ.update(before)


def _flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return set()
    return next((set(line.split()) for line in text.splitlines() if line.startswith("flags")), set())


def differs() -> bool:
    """Whether this process, pinned, computes other bytes than it must; imports torch."""
    return _sample() != _SAMPLE


def _sample() -> str:
    """A hash of every kind of arithmetic that a transformer does, in shapes for which libraries have code of their own."""
    import numpy as np
    import torch
    from torch.nn import functional

    def values(*shape: int) -> torch.Tensor:
        count = int(np.prod(shape))
        # Distinct, of both signs, and exact: no generator is needed.
        return ((torch.arange(count, dtype=torch.int64) * 7919 % 2003 - 1001) / 512).float().reshape(shape)

    found = [torch.exp(values(3, 37)), torch.erf(values(3, 37)), functional.gelu(values(5, 41))]
    with torch.no_grad():
        for rows in (1, 3, 6, 40):
            found.append(functional.linear(values(rows, 96), values(48, 96), values(48)))
            found.append(functional.linear(values(rows, 96), values(96, 48).t(), values(48)))
        for tokens in (3, 6, 10, 33):
            query, key, value = (values(2, 4, tokens, 32) * scale for scale in (0.5, 0.25, 1.0))
            found.append(functional.scaled_dot_product_attention(query, key, value))
            found.append(torch.softmax(query @ key.transpose(-1, -2), -1) @ value)
        found.append(functional.layer_norm(values(7, 96), (96,)))
    one, other = values(9, 33).numpy(), values(33, 7).numpy()
    arrays = [*(each.numpy() for each in found), one @ other, np.exp(one), np.tanh(one)]
    return hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in arrays)).hexdigest()[:16]


class _AfterTorch(MetaPathFinder):
    """Has `_make_mkl_alike` called as soon as torch is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of torch alone, whose loading is followed by the call."""
        if fullname != "torch":
            return None
        # Whoever asks may only want to know whether torch is there, so the next one is answered alike.
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_make_alike(module: ModuleType) -> None:
                load(module)
                _make_mkl_alike()
                sys.meta_path.remove(self)

            spec.loader.exec_module = load_and_make_alike  # type: ignore[method-assign]
        return spec


def _make_mkl_alike() -> None:
    """Overwrite what oneMKL asks about the processor, where that is Intel's; `differs` tells where it cannot be done."""
    folder = Path(str(sys.modules["torch"].__file__)).parent / "lib"
    # Another build of torch has no such file, or no oneMKL in it.
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(str(folder / "libtorch_cpu.so"))
        if library.mkl_serv_intel_cpu_true():
            for name, code in _ANSWERS.items():
                _overwrite(getattr(library, name), code)


def _overwrite(function: object, code: bytes) -> None:
    """Put machine code in place of a function's; raises OSError where the system does not allow it."""
    address = ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
    start = address & ~(mmap.PAGESIZE - 1)
    size = address + len(code) - start
    libc = ctypes.CDLL(None, use_errno=True)
    for protection in (mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC, mmap.PROT_READ | mmap.PROT_EXEC):
        if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), protection) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
        if protection & mmap.PROT_WRITE:
            ctypes.memmove(address, code, len(code))
