"""mteb's own runner against the kit's: the same model and frozen data, in turn, whole processes, from cold."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import Run
from embrepro.config.schema import parse_config
from embrepro.layout import Layout
from embrepro.pipeline.records import Record
from embrepro.tasks import main_scores


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, show and write."""
    parser = measuring.arguments(__doc__ or "", "against_mteb")
    parser.add_argument("--models", nargs="+", default=["static_minilm", "minilm"], help="one or two of conf/model")
    parser.add_argument("--tasks", default="english", help="a file of conf/tasks")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=measuring.ROOT / ".cache" / "benchmarks" / "against_mteb")
    parser.add_argument("--set", nargs="*", default=[], help="further overrides of the configuration")
    chosen = parser.parse_args(argv)
    model, baseline = chosen.models[0], chosen.models[-1]
    overrides = [f"model={model}", f"baseline={baseline}", f"tasks={chosen.tasks}", *chosen.set]
    values = measuring.project(chosen.folder, overrides)
    config, layout = parse_config(values, "conf/"), Layout(chosen.folder)
    download = measuring.run(measuring.kit("download"), chosen.folder)
    rows: list[dict[str, Any]] = []
    for key in config.models:
        theirs: list[Run] = []
        ours: list[tuple[Run, Run]] = []
        for _ in range(chosen.repeats):
            words = [sys.executable, "-m", "benchmarks.against_mteb_run", key]
            theirs.append(measuring.run(words, chosen.folder))
            for folder in (layout.embeddings(key), layout.results(config.models[key])):
                shutil.rmtree(folder, ignore_errors=True)
            layout.evaluate_record(key).unlink(missing_ok=True)
            ours.append(
                (
                    measuring.run(measuring.kit("encode", key), chosen.folder),
                    measuring.run(measuring.kit("evaluate", key), chosen.folder),
                )
            )
        record, folder = Record.read(layout.evaluate_record(key)), layout.results(config.models[key])
        folder /= str(record.details["revision"])
        scores = {name: main_scores.read_main_score(main_scores.path_of(folder, name)) for name in record.tasks}
        rows += _rows(key, theirs, ours, scores)
    notes = [
        f"Download, which lists what each task asks for and is done once for all models, took {download.seconds:.0f} s.",
        "A task's time in the kit is that of its scoring; its encoding runs on all cores with the other tasks'.",
    ]
    measuring.keep(chosen.out, "against_mteb", vars(chosen), rows, notes)


def _rows(key: str, theirs: list[Run], ours: list[tuple[Run, Run]], scores: dict[str, float]) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = json.loads(theirs[-1].output.splitlines()[-1])
    mteb = median([run.seconds for run in theirs])
    kit = median([encode.seconds + evaluate.seconds for encode, evaluate in ours])
    rows: list[dict[str, Any]] = [
        {
            "model": key,
            "task": "all",
            "mteb_seconds": mteb,
            "kit_seconds": kit,
            "of_which_encode": median([encode.seconds for encode, _ in ours]),
            "times_as_fast": mteb / kit,
            "mteb_peak_GB": max(run.peak for run in theirs) / 1e9,
            "kit_peak_GB": max(run.peak for each in ours for run in each) / 1e9,
            "largest_score_difference": max(abs(scores[task] - score) for task, (score, _) in found.items()),
        }
    ]
    said = dict(re.findall(r"^evaluate \S+ (\S+): [\d.]+ in ([\d.]+) s$", ours[-1][1].output, re.MULTILINE))
    for task, (score, seconds) in found.items():
        rows.append(
            {
                "model": key,
                "task": task,
                "mteb_seconds": seconds,
                "kit_seconds": float(said[task]) if task in said else None,
                "largest_score_difference": abs(scores[task] - score),
            }
        )
    return rows


if __name__ == "__main__":
    main()
