"""What sentence-transformers' own NanoBEIR evaluators found: every metric at every cut-off, by data set."""

from __future__ import annotations

from embrepro.rendering.formats import DASH, score
from embrepro.rendering.model import Code, Column, Section, Table, Value, Words
from embrepro.report.cells import model_keys, role_columns
from embrepro.results.summary import NanoBeirScores, Summary

SPARSITY = ("active_dims", "sparsity_ratio", "avg_flops")
"""Parts of the names of what the evaluator says of a sparse model's embeddings, which are no scores."""


def section(summary: Summary) -> Section:
    """The aggregate of all models side by side, and each model's data sets."""
    tables = [_aggregate(summary)] if any(_of_all(found) for found in summary.nanobeir) else []
    tables += [_data_sets(found) for found in _ordered(summary)]
    notes = [
        f"{found.model}: {found.evaluator}; its primary metric is {found.primary_metric}."
        if found.status == "scored"
        else f"{found.model}: {found.status}."
        for found in _ordered(summary)
    ]
    lead: Words = [
        "Scores \u00d7 100 of sentence-transformers' own evaluators, run on the stored embeddings, under the names that "
        "they give them. They differ from mteb's where the definitions do: mteb leaves out a document with the query's "
        "own identifier, and a cross-encoder here gets the relevant documents that BM25 did not find, too, unless ",
        Code("always_rerank_positives"),
        " is off.",
    ]
    return Section(
        "nanobeir", "NanoBEIR by its own evaluators", lead=[lead], tables=tables, notes=notes, short="NanoBEIR"
    )


def _ordered(summary: Summary) -> list[NanoBeirScores]:
    by_model = {found.model: found for found in summary.nanobeir}
    return [by_model[key] for key in model_keys(summary) if key in by_model]


def _split(name: str) -> tuple[str, str]:
    """Data set, or NanoBEIR, and metric of a name: NanoMSMARCO_64_dot_ndcg@10 is of NanoMSMARCO_64."""
    parts = name.split("_")
    keep = 2 if parts[0] == "NanoBEIR" else 1
    if keep < len(parts) and (parts[keep].isdigit() or (parts[1][:1] == "R" and parts[1][1:].isdigit())):
        keep += 1
    return "_".join(parts[:keep]), "_".join(parts[keep:])


def _of_all(found: NanoBeirScores) -> dict[str, float]:
    return {_split(name)[1]: value for name, value in found.scores.items() if name.startswith("NanoBEIR_")}


def _aggregate(summary: Summary) -> Table:
    values = {found.model: _of_all(found) for found in summary.nanobeir}
    metrics = list(dict.fromkeys(name for key in model_keys(summary) for name in values.get(key, {})))
    rows = [
        [Value(metric, code=True), *[_cell(metric, values.get(key, {}).get(metric)) for key in model_keys(summary)]]
        for metric in metrics
    ]
    columns = [Column("Metric", note="over all data sets"), *role_columns(summary)]
    return Table("nanobeir", "NanoBEIR as a whole, every metric at every cut-off", columns, rows)


def _data_sets(found: NanoBeirScores) -> Table:
    by_data_set: dict[str, dict[str, float]] = {}
    for name, value in found.scores.items():
        data_set, metric = _split(name)
        if not name.startswith("NanoBEIR_"):
            by_data_set.setdefault(data_set, {})[metric] = value
    metrics = list(dict.fromkeys(metric for values in by_data_set.values() for metric in values))
    rows = [
        [Value(data_set), *[_cell(metric, values.get(metric)) for metric in metrics]]
        for data_set, values in by_data_set.items()
    ]
    columns = [Column("Data set"), *[Column(metric, numeric=True) for metric in metrics]]
    caption = f"{found.model}: every data set at every cut-off"
    return Table(f"nanobeir-{found.model}", caption, columns, rows, restack=True, folded=True)


def _cell(metric: str, value: float | None) -> Value:
    if value is None:
        return Value(DASH)
    return Value(f"{value:.2f}" if metric.endswith(SPARSITY) else score(value), sort=value)
