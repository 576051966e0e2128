"""One speed report of all models, from what the benchmark stage wrote for each."""

from __future__ import annotations

from embrepro.benchmarking.speed import SpeedReport
from embrepro.config.schema import Config
from embrepro.files import read_model, write_json
from embrepro.layout import Layout


def combine(config: Config, layout: Layout) -> SpeedReport | None:
    """All models' benchmarks as one, written to `reports/speed.json`; None, and no file, where no benchmark was run.

    The file of a run that measured nothing has no model. Each benchmark measures the baseline: its numbers are those that
    were measured in turn with the candidate, where there are such.
    """
    files = {key: layout.benchmark(key) for key in config.benchmarked}
    found = {key: read_model(path, SpeedReport) for key, path in files.items() if path.is_file()}
    if not found:
        layout.speed.unlink(missing_ok=True)
        return None
    measured = {key: each for key, each in found.items() if each.models} or found
    leading = measured.get(config.candidate) or next(iter(measured.values()))
    models = {key: each.models[key] for key, each in measured.items() if key in each.models} | leading.models
    loads = [each.machine.busy for each in measured.values() if each.machine.busy is not None]
    paired = {key: each for key, each in measured.items() if key in each.throughput_ratio}
    report = SpeedReport(
        baseline=config.baseline,
        machine=leading.machine.model_copy(update={"busy": max(loads, default=None)}),
        models=models,
        throughput_ratio={key: each.throughput_ratio[key] for key, each in paired.items()},
        latency_ratio={key: each.latency_ratio[key] for key, each in paired.items()},
    )
    write_json(layout.speed, report.model_dump())
    return report
