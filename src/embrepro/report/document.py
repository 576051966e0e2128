"""The report as a sequence of sections, before it becomes Markdown or HTML."""

from __future__ import annotations

from dataclasses import dataclass, field

from embrepro.benchmarking.speed import SpeedReport
from embrepro.report import charts, machine_tables, speed_charts, tables
from embrepro.report.cells import Table, Tone, missing_tasks, model_keys, quantity, score, signed, signed_interval
from embrepro.report.drawing import Figure
from embrepro.report.origins import Origin, Origins
from embrepro.results.provenance import Provenance
from embrepro.results.summary import Summary


@dataclass(frozen=True)
class Tile:
    """One figure of the first screen."""

    label: str
    value: str
    note: str = ""
    tone: Tone = ""
    origin: str | None = None
    role: str = ""


@dataclass(frozen=True)
class Missing:
    """A requested task without a score, and why."""

    task: str
    model: str
    reason: str


@dataclass(frozen=True)
class Section:
    """A part of the report; where its data is absent, `absent` says why in one line.

    Figures come in groups that stand side by side; `short` is the name in the navigation.
    """

    id: str
    title: str
    lead: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[list[Figure]] = field(default_factory=list)
    short: str = ""
    absent: str = ""


@dataclass(frozen=True)
class Document:
    """The whole report."""

    title: str
    subtitle: str
    verdict: str
    tiles: list[Tile]
    requested: int
    missing: list[Missing]
    sections: list[Section]
    origins: list[Origin]
    stamp: str


def build(summary: Summary, provenance: Provenance, speed: SpeedReport | None) -> Document:
    """Arrange everything a run found into the sections of the report."""
    origins = Origins(summary, provenance, speed)
    sections = [
        _comparison(summary, origins),
        _status(summary),
        _types(summary, origins),
        _custom(summary, origins),
        _recommendations(summary),
        _claims(summary),
        _trade(summary, speed, origins),
        _speed(summary, speed, origins),
        _similarities(summary),
        _models(summary),
        _provenance(summary, provenance, origins),
    ]
    return Document(
        title=_title(summary),
        subtitle=_subtitle(summary),
        verdict=_verdict(summary),
        tiles=_tiles(summary, speed, origins),
        requested=len(summary.tasks),
        missing=_missing(summary),
        sections=[section for section in sections if section is not None],
        origins=origins.all,
        stamp=f"commit {provenance.commit[:10]}" if provenance.commit else "outside a git repository",
    )


def _title(summary: Summary) -> str:
    return f"{summary.candidate} against {summary.baseline}" if tables.compares(summary) else summary.baseline


def _subtitle(summary: Summary) -> str:
    described = [
        f"{card.name} ({card.role}, {card.family})" for card in map(summary.models.__getitem__, model_keys(summary))
    ]
    return f"{'; '.join(described)}. {len(summary.tasks)} tasks requested."


def _missing(summary: Summary) -> list[Missing]:
    found = []
    for task in summary.tasks:
        for key in model_keys(summary):
            cell = task.cells.get(key)
            if cell is None or cell.score is None:
                found.append(Missing(task.name, key, cell.status if cell else "not run"))
    return found


def _scored(summary: Summary) -> int:
    """Tasks on which every model has a score."""
    lost = {name for key in model_keys(summary) for name in missing_tasks(summary, key)}
    return len(summary.tasks) - len(lost)


def _outcomes(summary: Summary) -> dict[str, int]:
    outcomes = [task.difference.outcome for task in summary.tasks if task.difference]
    return {name: outcomes.count(name) for name in ("better", "worse", "not distinguishable", "not tested")}


def _verdict(summary: Summary) -> str:
    if not tables.compares(summary):
        return f"{summary.baseline} alone: {_scored(summary)} of {len(summary.tasks)} requested tasks scored."
    counts = _outcomes(summary)
    compared = sum(counts.values())
    if not compared:
        return f"No task could be compared: {_scored(summary)} of {len(summary.tasks)} requested tasks scored."
    found = [f"worse on {counts['worse']}", f"not distinguishable on {counts['not distinguishable']}"]
    if counts["not tested"]:
        found.append(f"not tested on {counts['not tested']}")
    first = (
        f"{summary.candidate} is better than {summary.baseline} on {counts['better']}, {', '.join(found[:-1])}"
        f" and {found[-1]} of {compared} compared tasks."
    )
    return f"{first} {_mean_sentence(summary)}"


def _mean_sentence(summary: Summary) -> str:
    before, after = (_mean(summary, key) for key in (summary.baseline, summary.candidate))
    if before is None or after is None:
        lost = len(summary.tasks) - _scored(summary)
        return f"No mean is given, because {lost} of {len(summary.tasks)} requested tasks are missing."
    means = f"{score(after)} against {score(before)}"
    tested = summary.mean_differences.mean_task
    if tested is None:
        return f"Its mean over tasks is {means}, a difference of {signed(after - before)}."
    said = f"{signed(tested.estimate)} {signed_interval(tested.interval)}: {tested.outcome}"
    return f"Its mean over tasks is {means}, a difference of {said}."


def _mean(summary: Summary, model: str) -> float | None:
    means = summary.means.get(model)
    return means.mean_task if means else None


def _tiles(summary: Summary, speed: SpeedReport | None, origins: Origins) -> list[Tile]:
    tiles = [_mean_tile(summary, key, origins) for key in dict.fromkeys([summary.baseline, summary.candidate])]
    scored, asked = _scored(summary), len(summary.tasks)
    if tables.compares(summary):
        counts = _outcomes(summary)
        tiles.append(
            Tile(
                "Better / worse",
                f"{counts['better']} / {counts['worse']}",
                f"{counts['not distinguishable']} not distinguishable"
                + (f", {counts['not tested']} not tested" if counts["not tested"] else ""),
            )
        )
    tiles.append(
        Tile("Tasks scored", f"{scored} of {asked}", "by every model", tone="missing" if scored < asked else "")
    )
    return tiles + (_speed_tiles(summary, speed, origins) if speed else [])


def _mean_tile(summary: Summary, model: str, origins: Origins) -> Tile:
    value, role = _mean(summary, model), summary.models[model].role
    if value is None:
        lost = f"{len(missing_tasks(summary, model))} of {len(summary.tasks)} tasks missing"
        return Tile(f"Mean, {model}", "not computed", lost, tone="missing", role=role)
    origin = origins.of_mean("mean_task", model, value)
    return Tile(f"Mean, {model}", score(value), f"{role}, over tasks", origin=origin, role=role)


def _speed_tiles(summary: Summary, speed: SpeedReport, origins: Origins) -> list[Tile]:
    found = []
    ratio = speed.throughput_ratio.get(summary.candidate)
    if ratio and tables.compares(summary):
        note = f"[{quantity(ratio.low)}, {quantity(ratio.high)}] texts per second"
        found.append(
            Tile(
                "Speed ratio",
                f"{quantity(ratio.median)}\u00d7",
                note,
                origin=origins.of_speed(summary.candidate),
            )
        )
    before, after = speed.models.get(summary.baseline), speed.models.get(summary.candidate)
    if before and after and tables.compares(summary):
        note = f"{quantity(after.size_mb)} MB against {quantity(before.size_mb)} MB"
        ratio_text = f"{quantity(after.size_mb / before.size_mb)}\u00d7" if before.size_mb else "\u2013"
        found.append(Tile("Size ratio", ratio_text, note, origin=origins.of_speed(summary.candidate)))
    return found


def _comparison(summary: Summary, origins: Origins) -> Section:
    compared = any(task.difference for task in summary.tasks)
    figures = [[figure] for figure in (charts.differences(summary),) if figure]
    words = [tables.differences(summary, origins)] if compared else []
    return Section("comparison", "Comparison", tables=[tables.comparison(summary, origins), *words], figures=figures)


def _status(summary: Summary) -> Section:
    return Section("status", "Status of every requested task", tables=[tables.status(summary)], short="Status")


def _types(summary: Summary, origins: Origins) -> Section:
    figure = charts.types(summary)
    return Section(
        "types",
        "By task type",
        tables=[tables.types(summary, origins)],
        figures=[[figure]] if figure else [],
        short="Types",
    )


def _custom(summary: Summary, origins: Origins) -> Section | None:
    if not summary.legacy:
        return None
    suite = (
        f"Suite version {summary.suite.version}, content {summary.suite.content_hash[:12]}. " if summary.suite else ""
    )
    lead = [
        f"{suite}The trusted score rewards separating positives from hard negatives. The analysis's"
        " definitions mostly average the similarity of positives alone, which a model that maps all texts to"
        " one direction maximises."
    ]
    return Section("custom", "Custom suite", lead, [tables.legacy(summary, origins)])


def _recommendations(summary: Summary) -> Section | None:
    if not summary.recommendations:
        return None
    return Section("recommendation", "Recommendation", tables=[tables.recommendations(summary)])


def _claims(summary: Summary) -> Section | None:
    if not summary.claims:
        return None
    verdicts = [claim.verdict for claim in summary.claims]
    order = dict.fromkeys(["reproduced", "refuted", "not measured", "not defined", *sorted(verdicts)])
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in order if name in verdicts)
    return Section("claims", "Claims", [f"Of {len(verdicts)} claims: {counts}."], [tables.claims(summary)])


def _trade(summary: Summary, speed: SpeedReport | None, origins: Origins) -> Section:
    title = "Quality against speed and size"
    if speed is None:
        return Section("trade", title, absent="Not shown: no benchmark was run.", short="Trade-off")
    figures = charts.trade(summary, speed)
    lead = [] if figures else ["No chart: the mean score is not computed while requested tasks are missing."]
    return Section("trade", title, lead, [machine_tables.pareto(summary, speed, origins)], [figures], short="Trade-off")


def _speed(summary: Summary, speed: SpeedReport | None, origins: Origins) -> Section | None:
    if speed is None:
        return None
    found = [
        machine_tables.speed_overview(summary, speed, origins),
        machine_tables.throughput(summary, speed, origins),
    ]
    figures = [speed_charts.latency(summary, speed), speed_charts.throughput(summary, speed)]
    return Section("speed", "Speed and latency", machine_tables.ratios(speed), found, figures, short="Speed")


def _similarities(summary: Summary) -> Section | None:
    if not summary.histograms:
        return None
    lead = ["The further apart the two distributions, the better the model tells a positive from a negative."]
    figures = charts.similarities(summary)
    groups = [figures[start : start + 2] for start in range(0, len(figures), 2)]
    found = [machine_tables.similarities(summary)]
    return Section("similarities", "Similarity of positives and negatives", lead, found, groups, short="Similarity")


def _models(summary: Summary) -> Section:
    return Section("models", "Model cards", tables=[machine_tables.models(summary)], short="Models")


def _provenance(summary: Summary, found: Provenance, origins: Origins) -> Section:
    parts = [machine_tables.provenance(found, summary), tables.data(summary), tables.files(summary, origins)]
    parts.append(machine_tables.packages(found, summary))
    if found.commands:
        parts.append(machine_tables.commands(found))
    return Section("provenance", "Provenance", tables=parts)
