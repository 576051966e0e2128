"""What the benchmarks share: projects to run in, the clock, the machine, and how results are shown and kept."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

from embrepro import numerics
from embrepro.config.compose import compose_values
from embrepro.config.params import dump_params
from embrepro.files import read_json, write_json, write_text
from embrepro.rendering import render_terminal
from embrepro.rendering.formats import DASH
from embrepro.rendering.model import Column, Document, Section, Table, Value

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("mteb", "numpy", "sentence-transformers", "torch")
LOOK_SECONDS = 1.0
LOAD = os.getloadavg()[0]
"""Processes that ran or waited in the minute before a benchmark was started: what else the machine was doing."""
PRODUCT = (1024, 384, 1536)
"""Rows, inner and columns of the product that the machine is measured by: what a batch of MiniLM's widest layer is."""


BUSY = 0.5
"""Load a core above which a machine counts as one that does something else."""


@dataclass(frozen=True)
class Run:
    """A command's wall-clock seconds, the peak memory of it and all its children in bytes, and what it printed.

    `anonymous` is the peak of what is no part of a file, so that the kernel cannot drop it.
    """

    seconds: float
    peak: int
    anonymous: int
    output: str


def arguments(description: str, name: str) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="file for the results")
    return parser


def project(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """A folder to run stages in, with `params.yaml` composed from the kit's `conf/`; returns its values."""
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        (folder / "conf").symlink_to(ROOT / "conf")
    values = compose_values(overrides, ROOT / "conf")
    write_text(folder / "params.yaml", dump_params(values))
    return values


def run(command: Sequence[str], folder: Path, *, look: bool = True, **variables: str) -> Run:
    """Run a command to its end, which must be good, and look at its memory, which takes some of the machine's time."""
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **variables}
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    ended, peaks = Event(), (0, 0)

    def watch() -> None:
        nonlocal peaks
        while not ended.wait(LOOK_SECONDS):
            held, anonymous = memory(process.pid)
            peaks = max(peaks[0], held), max(peaks[1], anonymous)

    watcher = Thread(target=watch)
    if look:
        watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    ended.set()
    if look:
        watcher.join()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed (exit {process.returncode}):\n{output}")
    return Run(seconds, *peaks, output)


def memory(pid: int) -> tuple[int, int]:
    """Bytes that a process and its children hold, all and anonymous ones alone; what they share counts once.

    Linux's PSS: a page that n processes hold counts an n-th in each.
    """
    held = {"Pss": 0, "Pss_Anon": 0}
    with suppress(psutil.NoSuchProcess):
        for each in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(OSError):
                lines = Path(f"/proc/{each.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
                for name, _, rest in (line.partition(":") for line in lines):
                    if name in held:
                        held[name] += int(rest.split()[0]) * 1024
    return held["Pss"], held["Pss_Anon"]


def kit(*words: str) -> list[str]:
    """A command of the kit."""
    return [sys.executable, "-m", "embrepro.cli", *words]


def product_rate(workers: int, seconds: float = 1.0) -> float:
    """Floating-point operations a second in matrix products, on so many processes of one thread, all together."""
    context = get_context("spawn")
    before = dict(os.environ)
    numerics.pin("portable")
    try:
        with context.Pool(workers) as pool:
            return sum(pool.map(_products, [seconds] * workers, chunksize=1))
    finally:
        os.environ.clear()
        os.environ.update(before)


def _products(seconds: float) -> float:
    numerics.follow()
    import torch

    rows, inner, columns = PRODUCT
    left, right = torch.rand(rows, inner), torch.rand(inner, columns)
    out = left @ right
    # All workers have started by then.
    time.sleep(1.0)
    started, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - started) < seconds:
        torch.mm(left, right, out=out)
        done += 1
    return 2 * rows * inner * columns * done / taken


def machine() -> dict[str, Any]:
    """Where and with what the times were taken; nothing that changes from day to day."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "processor": next(named, platform.machine()),
        "cores": numerics.workers(None),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in PACKAGES},
    }


def keep(
    path: Path, name: str, settings: dict[str, Any], rows: list[dict[str, Any]], notes: Sequence[str] = ()
) -> None:
    """Show a table of the rows, and write them with machine and settings as JSON."""
    # Where it ran is no part of what was measured.
    settings = {key: value for key, value in settings.items() if not isinstance(value, Path)}
    if BUSY * numerics.workers(None) < LOAD:
        notes = [
            *notes,
            f"The machine was busy with other work (a load of {LOAD:.1f} on {numerics.workers(None)} cores at the start):"
            " ratios within this table hold better than its times.",
        ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    found = {"name": name, "machine": machine(), "settings": settings, "columns": columns, "rows": rows}
    write_json(path, found | {"notes": list(notes)})
    render_terminal.show(Document(title=name, sections=[section(read_json(path))]))


def section(found: dict[str, Any]) -> Section:
    """The results of one benchmark, as a section of a document: one column for each key of its rows."""
    heads = found["columns"]
    numeric = {key for row in found["rows"] for key, value in row.items() if isinstance(value, int | float)}
    rows = [[_cell(row.get(head)) for head in heads] for row in found["rows"]]
    columns = [Column(head.replace("_", " "), numeric=head in numeric) for head in heads]
    return Section(
        found["name"],
        found["name"].replace("_", " "),
        tables=[Table(found["name"], found["name"].replace("_", " "), columns, rows, plain=True)],
        notes=found["notes"],
    )


def _cell(value: Any) -> Value:  # noqa: ANN401 - whatever a row holds
    if value is None:
        return Value(DASH)
    if isinstance(value, bool):
        return Value("yes" if value else "no")
    if isinstance(value, float):
        return Value(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}")
    return Value(f"{value:,}" if isinstance(value, int) else str(value))
