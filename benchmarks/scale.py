"""Time and peak memory of each stage as the corpus grows, and with the number of workers, for a static model."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.scale_run import CORPUS, TASK, build_corpus, build_model
from embrepro.config.params import dump_params
from embrepro.files import write_text

KEY = "static"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, show and write."""
    parser = measuring.arguments(__doc__ or "", "scale")
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--folder", type=Path, default=measuring.ROOT / ".cache" / "benchmarks" / "scale")
    chosen = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    for documents in chosen.documents:
        folder = chosen.folder / str(documents)
        shutil.rmtree(folder, ignore_errors=True)
        values = measuring.project(folder, ["device=cpu"])
        build_model(folder / "model")
        build_corpus(folder / CORPUS, documents)
        values["models"] = {KEY: {"org": "test", "name": KEY, "family": "static", "folder": "model"}}
        values |= {"candidate": KEY, "baseline": KEY, "benchmarked": {}, "tasks": {"names": [TASK]}}
        for number, workers in enumerate(chosen.workers):
            values["device"]["threads"] = workers
            write_text(folder / "params.yaml", dump_params(values))
            for made in ("embeddings", "results", "reports"):
                shutil.rmtree(folder / made, ignore_errors=True)
            stages = [["encode", KEY], ["evaluate", KEY]]
            for stage in [["download"], *stages, ["aggregate"]] if not number else stages:
                words = [sys.executable, "-m", "benchmarks.scale_run", *stage]
                found = measuring.run(words, folder)
                rows.append(
                    {
                        "documents": documents,
                        "workers": workers,
                        "stage": stage[0],
                        "seconds": found.seconds,
                        "peak_GB": found.peak / 1e9,
                        "peak_anonymous_GB": found.anonymous / 1e9,
                    }
                )
        shutil.rmtree(folder)
    notes = [
        "Made-up documents of twelve words, a thousand queries, a static model of 256 dimensions.",
        "Peaks count files that are mapped into memory, which the kernel drops when it needs the room; not so anonymous memory.",
    ]
    measuring.keep(chosen.out, "scale", vars(chosen), rows, notes)


if __name__ == "__main__":
    main()
