"""Tokens a second in encode, and the share of what the machine reaches in matrix products, measured in the same run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks import measuring
from embrepro import numerics

TASKS = ("STS12", "SciFact")
"""Short texts and long ones."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, show and write."""
    parser = measuring.arguments(__doc__ or "", "encode_rate")
    parser.add_argument("--models", nargs="+", default=["minilm", "static_minilm"], help="of conf/model, at most two")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, numerics.workers(None)])
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="about so long for each row, each time, or the whole task"
    )
    parser.add_argument("--repeats", type=int, default=3, help="how often; rows are medians")
    parser.add_argument("--folder", type=Path, default=measuring.ROOT / ".cache" / "benchmarks" / "encode_rate")
    parser.add_argument("--set", nargs="*", default=[], help="further overrides of the configuration")
    chosen = parser.parse_args(argv)
    overrides = [
        f"model={chosen.models[-1]}",
        f"baseline={chosen.models[0]}",
        f"tasks.names=[{','.join(chosen.tasks)}]",
    ]
    values = measuring.project(chosen.folder, [*overrides, *chosen.set])
    measuring.run(measuring.kit("download"), chosen.folder)
    wanted = list(product(values["models"], chosen.tasks, chosen.workers))
    # Each once in each round, so that a slow moment of the machine falls on one repeat of each.
    rounds = [[_measure(*each, chosen.seconds, chosen.folder) for each in wanted] for _ in range(chosen.repeats)]
    rows = [
        {"model": key, "task": task, "workers": workers, **_medians(repeats)}
        for (key, task, workers), repeats in zip(wanted, zip(*rounds, strict=True), strict=True)
    ]
    rows_, inner, columns = measuring.PRODUCT
    notes = [
        f"The product is of {rows_} x {inner} by {inner} x {columns} in float32, one thread in each process.",
        "At the end of its time a worker waits for the others, so that many workers are a little faster on a whole task.",
        "A figure is its column's median over the rounds: a share is that of the rounds' shares, not of the medians beside it.",
    ]
    measuring.keep(chosen.out, "encode_rate", vars(chosen), rows, notes)


def _measure(key: str, task: str, workers: int, seconds: float, folder: Path) -> dict[str, float | None]:
    """One measurement between two of the machine; a model without matrix products has no share of them."""
    words = [sys.executable, "-m", "benchmarks.encode_rate_run", key, task, str(workers), str(seconds)]
    found = json.loads(measuring.run(words, folder, look=False).output.splitlines()[-1])
    rate = found["operations"] / found["seconds"] if found["operations"] else None
    return {
        "tokens_a_text": found["tokens"] / found["texts"],
        "tokens_a_second": found["tokens"] / found["seconds"],
        "GFLOP_a_second": rate and rate / 1e9,
        "products_GFLOP_a_second": found["products"] / 1e9,
        "share": rate and rate / found["products"],
    }


def _medians(repeats: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """The median of each measure; the share's is that of the shares, each of which is of one moment."""
    every = {name: [value for each in repeats if (value := each[name]) is not None] for name in repeats[0]}
    return {name: median(values) if values else None for name, values in every.items()}


if __name__ == "__main__":
    main()
