"""The report of a run as a document: its first screen, and its sections in their order."""

from __future__ import annotations

from embrepro.benchmarking.speed import SpeedReport
from embrepro.claims.pages import claims_section
from embrepro.recommendation.pages import recommendation_section
from embrepro.rendering.formats import quantity, score, signed, signed_interval
from embrepro.rendering.model import Alert, AlertLine, Document, Tile
from embrepro.report.cells import compared_keys, compares, missing_tasks, model_keys
from embrepro.report.origins import Origins
from embrepro.report.sections import (
    comparison,
    custom_suite,
    models,
    nanobeir,
    ranking,
    similarity,
    sparsity,
    status,
    task_types,
    tradeoff,
)
from embrepro.report.sections import provenance as provenance_section
from embrepro.report.sections import speed as speed_section
from embrepro.results.provenance import Provenance
from embrepro.results.summary import Summary


def build(summary: Summary, provenance: Provenance, speed: SpeedReport | None) -> Document:
    """Arrange everything a run found into the sections of the report."""
    origins = Origins(summary, provenance, speed)
    sections = [
        ranking.section(summary, speed, origins),
        comparison.section(summary, origins),
        status.section(summary),
        task_types.section(summary, origins),
        nanobeir.section(summary) if summary.nanobeir else None,
        sparsity.section(summary) if summary.sparsity else None,
        custom_suite.section(summary, origins),
        recommendation_section(summary.recommendations) if summary.recommendations else None,
        tradeoff.section(summary, speed, origins),
        speed_section.section(summary, speed, origins),
        similarity.section(summary),
        models.section(summary),
        claims_section(summary.claims) if summary.claims else None,
        provenance_section.section(summary, provenance, origins),
    ]
    commit = f"commit {provenance.commit[:10]}" if provenance.commit else "outside a git repository"
    return Document(
        title=_title(summary),
        subtitle=_subtitle(summary),
        stamp=f"{commit} · {provenance.date} · {provenance.device}",
        verdict=_verdict(summary),
        alert=_alert(summary),
        tiles=_tiles(summary, speed, origins),
        sections=[section for section in sections if section is not None],
        origins=origins.all,
        data={
            "summary": summary.model_dump(mode="json"),
            "provenance": provenance.model_dump(mode="json"),
            "speed": speed.model_dump(mode="json") if speed else None,
        },
    )


def _title(summary: Summary) -> str:
    if summary.ranking:
        return f"{len(summary.models)} models"
    return f"{summary.candidate} against {summary.baseline}" if compares(summary) else summary.baseline


def _subtitle(summary: Summary) -> str:
    shown = compared_keys(summary)
    more = f", and {len(summary.models) - len(shown)} more" if len(shown) < len(summary.models) else ""
    described = [f"{card.name} ({card.role}, {card.family})" for card in map(summary.models.__getitem__, shown)]
    return f"{'; '.join(described)}{more}. {len(summary.tasks)} tasks requested."


def _alert(summary: Summary) -> Alert | None:
    """Requested tasks without a score, each with its reason."""
    lost: dict[tuple[str, str], list[str]] = {}
    for task in summary.tasks:
        for key in model_keys(summary):
            found = task.cells.get(key)
            if found is None or found.score is None:
                lost.setdefault((task.name, found.status if found else "not run"), []).append(key)
    if not lost:
        return None
    lines = [AlertLine(task, ", ".join(keys), why) for (task, why), keys in lost.items()]
    tasks = len({task for task, _ in lost})
    title = f"{tasks} of {len(summary.tasks)} requested tasks have no score"
    return Alert(title, "Nothing below is over all of them.", lines)


def _scored(summary: Summary) -> int:
    """Tasks on which every model has a score."""
    lost = {name for key in model_keys(summary) for name in missing_tasks(summary, key)}
    return len(summary.tasks) - len(lost)


def _outcomes(summary: Summary) -> dict[str, int]:
    outcomes = [task.difference.outcome for task in summary.tasks if task.difference]
    return {name: outcomes.count(name) for name in ("better", "worse", "not distinguishable", "not tested")}


def _verdict(summary: Summary) -> str:
    if summary.ranking:
        return f"{ranking.leaders_sentence(summary.ranking)} {_pair_verdict(summary)}"
    return _pair_verdict(summary)


def _pair_verdict(summary: Summary) -> str:
    if not compares(summary):
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
    if compares(summary):
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
    if ratio and compares(summary):
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
    if before and after and compares(summary):
        note = f"{quantity(after.size_mb)} MB against {quantity(before.size_mb)} MB"
        ratio_text = f"{quantity(after.size_mb / before.size_mb)}\u00d7" if before.size_mb else "\u2013"
        found.append(Tile("Size ratio", ratio_text, note, origin=origins.of_speed(summary.candidate)))
    return found
