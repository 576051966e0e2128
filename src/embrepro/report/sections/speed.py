"""Speed and latency, measured with both models in turn."""

from __future__ import annotations

from embrepro.benchmarking import clock
from embrepro.benchmarking.speed import RepeatedMeasure, SpeedReport, Throughput
from embrepro.rendering.formats import DASH, quantity
from embrepro.rendering.model import Column, Section, Table, Value
from embrepro.report.cells import are_many, measure, model_keys, turned
from embrepro.report.origins import Origins
from embrepro.report.sections import speed_charts
from embrepro.results.summary import Summary


def section(summary: Summary, speed: SpeedReport | None, origins: Origins) -> Section | None:
    """Ratios in words, tables and charts; None where no benchmark was run."""
    if speed is None:
        return None
    found = [
        speed_table(summary, speed, origins),
        throughput_table(summary, speed, origins),
    ]
    figures = [speed_charts.latency_figures(summary, speed), speed_charts.throughput_figures(summary, speed)]
    said = speed if not are_many(summary) else _compared(speed, summary.candidate)
    lead = [*ratios(said), *_doubts(speed)]
    return Section("speed", "Speed and latency", lead, found, figures, short="Speed")


def _compared(speed: SpeedReport, candidate: str) -> SpeedReport:
    """The same with the ratios of the candidate alone."""

    def of_candidate(found: dict[str, RepeatedMeasure]) -> dict[str, RepeatedMeasure]:
        return {key: ratio for key, ratio in found.items() if key == candidate}

    return speed.model_copy(
        update={
            "throughput_ratio": of_candidate(speed.throughput_ratio),
            "latency_ratio": of_candidate(speed.latency_ratio),
        }
    )


def _doubts(speed: SpeedReport) -> list[str]:
    """What to think of times that were taken while the machine did something else."""
    busy = speed.machine.busy
    if busy is None or busy <= clock.BUSY:
        return []
    return [
        f"The machine was busy: other processes took up to {busy:.0%} of its cores' time while a model was measured. The "
        "ratios, measured in turn, hold better than the times."
    ]


_LENGTHS = ("short", "medium", "long")


def speed_table(summary: Summary, speed: SpeedReport, origins: Origins) -> Table:
    """Everything but throughput: one row per quantity, one column per model; of many, the other way around."""
    keys = [key for key in model_keys(summary) if key in speed.models]
    found = [speed.models[key] for key in keys]
    marks = [origins.of_speed(key) for key in keys]

    def row(title: str, note: str, values: list[Value]) -> list[Value]:
        linked = [Value(v.text, v.note, v.sort, v.tone, mark) for v, mark in zip(values, marks, strict=True)]
        return [Value(title, note=note), *linked]

    rows = [
        row("Latency p50", "ms, single query", [_number(m.latency.p50) for m in found]),
        row("Latency p95", "ms, single query", [_number(m.latency.p95) for m in found]),
        row("Latency p99", "ms, single query", [_number(m.latency.p99) for m in found]),
        row("Time to load", "seconds", [measure(m.load_seconds) for m in found]),
        row("Peak memory", "MB, resident", [_number(m.peak_memory_mb) for m in found]),
        row("Size on disk", "MB", [_number(m.size_mb) for m in found]),
        row("Parameters", "millions", [Value(f"{m.parameters / 1e6:.2f}", sort=m.parameters) for m in found]),
        row("Dimensions", "", [Value(f"{m.dimensions or DASH}", sort=m.dimensions) for m in found]),
    ]
    if are_many(summary):
        rows.insert(
            0, row("Throughput", f"of {speed.baseline}'s", [_ratio(speed.throughput_ratio.get(k)) for k in keys])
        )
    columns = [
        Column("Quantity"),
        *[Column(key, note=summary.models[key].role, numeric=True) for key in keys],
    ]
    machine = speed.machine
    place = f"{machine.processor}, {machine.device}, {machine.threads} threads of {machine.cores} cores"
    caption = f"Speed and size on {place}"
    table = Table("speed", caption, columns, rows, plain=True)
    return turned(table, "Model") if are_many(summary) else table


def _number(value: float) -> Value:
    return Value(quantity(value), sort=value)


def _ratio(found: RepeatedMeasure | None) -> Value:
    return measure(found, "\u00d7") if found else Value(DASH)


def ratios(speed: SpeedReport) -> list[str]:
    """The candidate against the baseline, in words."""
    found = []
    for model, ratio in sorted(speed.throughput_ratio.items()):
        if model != speed.baseline:
            found.append(
                f"{model} {_does(model, speed)} {quantity(ratio.median)} [{quantity(ratio.low)}, {quantity(ratio.high)}]"
                f" times as many {_unit(model, speed)} per second as {speed.baseline}{_but(model, speed)}, over the settings"
                " both have, both in one run."
            )
    for model, ratio in sorted(speed.latency_ratio.items()):
        if model != speed.baseline:
            found.append(
                f"A single query takes {speed.baseline} {quantity(ratio.median)}"
                f" [{quantity(ratio.low)}, {quantity(ratio.high)}] times as long as {model} (p50)."
            )
    return found


def _does(model: str, speed: SpeedReport) -> str:
    return "scores" if speed.models[model].pairs else "encodes"


def _unit(model: str, speed: SpeedReport) -> str:
    return "pairs of a query and a text" if speed.models[model].pairs else "texts"


def _but(model: str, speed: SpeedReport) -> str:
    """What the baseline does where it is something else."""
    if speed.models[model].pairs == speed.models[speed.baseline].pairs:
        return ""
    return f" {_does(speed.baseline, speed)} {_unit(speed.baseline, speed)}"


def throughput_table(summary: Summary, speed: SpeedReport, origins: Origins) -> Table:
    """Texts and tokens per second for every length and batch size; of many models, a row each."""
    keys = [key for key in model_keys(summary) if key in speed.models]
    by_setting = {key: {(s.length, s.batch_size): s for s in speed.models[key].throughput} for key in keys}
    settings = sorted({s for found in by_setting.values() for s in found}, key=_setting_order)
    caption = "Throughput: median and 95 % interval"
    if are_many(summary):
        columns = [Column("Model"), Column("Texts"), Column("Batch", numeric=True)]
        columns += [Column("Texts/s", numeric=True), Column("Tokens/s", numeric=True)]
        rows = [
            [Value(key), *_setting_cells(one), *_throughput_cells(one, origins.of_speed(key))]
            for setting in settings
            for key in keys
            if (one := by_setting[key].get(setting))
        ]
        return Table("throughput", caption, columns, rows, folded=True, restack=True)
    columns = [Column("Texts"), Column("Batch", numeric=True)]
    for key in keys:
        unit = "pairs/s" if speed.models[key].pairs else "texts/s"
        columns += [Column(key, note=unit, numeric=True), Column(key, note="tokens/s", numeric=True)]
    rows = []
    for setting in settings:
        found = [by_setting[key].get(setting) for key in keys]
        row = _setting_cells(next(s for s in found if s))
        for key, one in zip(keys, found, strict=True):
            row += _throughput_cells(one, origins.of_speed(key))
        rows.append(row)
    return Table("throughput", caption, columns, rows, folded=True)


def _setting_cells(one: Throughput) -> list[Value]:
    return [
        Value(one.length, note=f"{quantity(one.tokens_per_text)} tokens", sort=one.tokens_per_text),
        Value(str(one.batch_size), sort=one.batch_size),
    ]


def _setting_order(setting: tuple[str, int]) -> tuple[int, str, int]:
    length, batch = setting
    return (_LENGTHS.index(length) if length in _LENGTHS else len(_LENGTHS), length, batch)


def _throughput_cells(one: Throughput | None, origin: str) -> list[Value]:
    if one is None:
        return [Value(DASH), Value(DASH)]
    cells = [measure(one.texts_per_second), measure(one.tokens_per_second)]
    return [Value(cell.text, cell.note, cell.sort, origin=origin) for cell in cells]
