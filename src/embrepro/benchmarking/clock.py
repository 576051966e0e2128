"""The clock: how long a model takes for texts, how sure that is, and what it weighs in a process of its own.

Models that are to be compared are loaded into one process and measured in turn, so that whatever else the
machine is doing falls on each of them alike.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import import_module
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

import embrepro.models
from embrepro import numerics
from embrepro.benchmarking.speed import RepeatedMeasure
from embrepro.config.schema import Device, ModelConfig
from embrepro.errors import KitError
from embrepro.progress import console, processes

if TYPE_CHECKING:
    from embrepro.models import Inputs, Loaded

Input = TypeVar("Input", str, tuple[str, str])
CONFIDENCE = 0.95
GROWTH = 8


BUSY = 0.1
"""Share of the cores' time that others may take before times are doubtful."""


class Others:
    """What other processes do to the machine, from now on."""

    def __init__(self) -> None:
        self._before = _processor_seconds()

    def share(self) -> float:
        """Share of the cores' time, 0 to 1, since the start that neither this process nor its children took."""
        all_time, busy, own = (after - before for after, before in zip(_processor_seconds(), self._before, strict=True))
        return min(1.0, max(0.0, busy - own) / all_time) if all_time > 0 else 0.0


def _processor_seconds() -> tuple[float, float, float]:
    """Seconds of all cores, those of them that were not idle, and this process's with its ended children's."""
    cores = psutil.cpu_times()
    own = psutil.Process().cpu_times()
    # A guest's time is in the user's already.
    every = sum(cores) - getattr(cores, "guest", 0.0) - getattr(cores, "guest_nice", 0.0)
    idle = cores.idle + getattr(cores, "iowait", 0.0)
    return every, every - idle, own.user + own.system + own.children_user + own.children_system


@dataclass(frozen=True)
class Footprint:
    """A model alone in a fresh process."""

    load_seconds: list[float]
    peak_memory_mb: float


def use_threads(device: Device) -> int:
    """Give PyTorch and fast tokenizers the threads the configuration says; returns their number."""
    import torch

    torch.set_num_threads(numerics.workers(device.threads))
    numerics.tokenize_in(torch.get_num_threads())
    return torch.get_num_threads()


def take(inputs: Sequence[Input], count: int, start: int = 0) -> list[Input]:
    """`count` texts or pairs from index `start` on, beginning again after the last."""
    first = start % len(inputs)
    return list(islice(cycle(inputs), first, first + count))


def seconds(loaded: Loaded, inputs: Inputs, batch_size: int) -> float:
    """Wall-clock seconds for texts or pairs, from strings to vectors or scores in main memory."""
    _wait(loaded)
    started = perf_counter()
    embrepro.models.process_inputs(loaded, inputs, batch_size)
    _wait(loaded)
    return perf_counter() - started


def calibrate(loaded: Loaded, inputs: Sequence[Any], batch_size: int, at_least: float) -> tuple[int, float]:
    """How many texts or pairs, in whole batches, take at least `at_least` seconds, and how many a second those were.

    The calls it takes to find out are the warm-up.
    """
    count = batch_size
    while (elapsed := seconds(loaded, take(inputs, count), batch_size)) < at_least:
        wanted = min(GROWTH, 1.2 * at_least / elapsed) * count
        count = max(-(-int(wanted) // batch_size), count // batch_size + 1) * batch_size
    return count, count / elapsed


def measure(values: Sequence[float]) -> RepeatedMeasure:
    """The median of independent repeats and its 95 % interval by order statistics.

    The interval is the exact one that inverts the sign test (Conover, Practical Nonparametric Statistics,
    3rd ed., section 3.2); it assumes nothing about how times are distributed. Six repeats are the fewest that
    have one.
    """
    import numpy as np
    from scipy.stats import quantile_test

    middle = float(np.median(values))
    interval = quantile_test(values, q=middle, p=0.5).confidence_interval(CONFIDENCE)
    return RepeatedMeasure(median=middle, low=float(interval.low), high=float(interval.high), repeats=len(values))


class FreshProcess:
    """A process in which a model is alone in memory: it imports libraries as soon as it is made, and then waits."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_start_worker)
        self._imported = self._pool.submit(_import_libraries)

    def __enter__(self) -> FreshProcess:
        """The process."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._pool.shutdown(cancel_futures=True)

    def wait(self) -> None:
        """Wait until its imports are done and it takes no processor's time."""
        wait([self._imported])

    def footprint(
        self, folder: Path, model: ModelConfig, device: Device, inputs: Inputs, batch_size: int, repeats: int
    ) -> Footprint:
        """Load a model and let it work.

        Libraries map a model's weights into memory: what counts as resident are those that the inputs made use of.

        Args:
            folder: the model's snapshot.
            model: its configuration.
            device: what to load it on.
            inputs: texts or pairs, worked on once, at `batch_size`, before the peak is read.
            batch_size: texts encoded at once.
            repeats: times the model is loaded for `load_seconds`, after a first time that does not count because
                it also fills the file cache.

        Raises:
            KitError: the process was killed, most likely for want of memory.
        """
        try:
            return self._pool.submit(_footprint, folder, model, device, inputs, batch_size, repeats).result()
        except BrokenProcessPool:
            raise KitError(
                f"The process that loaded {model.full_name} to measure its memory was killed, most likely"
                " because the machine has too little. Free some, or lower the model's batch_size."
            ) from None


def _start_worker() -> None:
    processes.start_worker()
    console.silence_libraries()


def _import_libraries() -> None:
    for name in ("sentence_transformers", "mteb.models.sentence_transformer_wrapper"):
        import_module(name)
    # Else each collection between two loads looks through all that the libraries made.
    gc.freeze()


def _footprint(
    folder: Path, model: ModelConfig, device: Device, inputs: Inputs, batch_size: int, repeats: int
) -> Footprint:
    use_threads(device)
    loaded = embrepro.models.load(folder, model, device)
    seconds(loaded, inputs, batch_size)
    peak = _peak_memory()
    load_seconds = []
    for _ in range(repeats):
        del loaded
        gc.collect()
        started = perf_counter()
        loaded = embrepro.models.load(folder, model, device)
        _wait(loaded)
        load_seconds.append(perf_counter() - started)
    return Footprint(load_seconds, peak / 1e6)


def _peak_memory() -> int:
    """Bytes of this process's resident set at its highest so far.

    From /proc, not getrusage: the latter starts a child at the peak of the parent it was forked from.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        raise KitError(
            "The peak memory of a process is read from VmHWM in /proc/self/status, which this system lacks."
        ) from None


def _wait(loaded: Loaded) -> None:
    """Let a GPU finish what it was given: its calls return before their work is done."""
    if loaded.device.type == "cuda":
        import torch

        torch.cuda.synchronize(loaded.device)
