"""The queries, pairs and documents that moved most between two runs or two models, with their texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from embrepro.config.schema import Config
from embrepro.explaining import observing
from embrepro.explaining.differences import ROUNDED, Differences
from embrepro.explaining.observing import Observed, RankedDocuments
from embrepro.explaining.switching import Attribution
from embrepro.layout import Layout
from embrepro.progress import console
from embrepro.regression.diff import ScoreChange
from embrepro.regression.revisions import Side
from embrepro.tasks import encode_requests, freezing, requested
from embrepro.tasks.registry import Request
from embrepro.tasks.samples import Samples

MOST = 10
"""Samples that are shown of those that lost most, and of those that gained most."""
_STILL = 1e-9
"""A sample that moves less did not move."""
SAMPLE = ["split", "subset", "sample"]


@dataclass(frozen=True)
class Found:
    """A document in a query's ranking; `relevance` is what the task's judgements say of it, 0 for nothing."""

    place: int
    document: str
    text: str
    similarity: float
    relevance: int


@dataclass(frozen=True)
class SampleOutcome:
    """What one side made of a sample: how well, 0 to 1, in words, and the ranking of a query where there is one."""

    value: float
    words: str
    ranking: Sequence[Found] = ()


@dataclass(frozen=True)
class MovedSample:
    """A sample, its texts, what is right (a label, a similarity; empty for a query), and what both sides made of it."""

    split: str
    subset: str
    name: str
    texts: Sequence[str]
    gold: str
    old: SampleOutcome
    new: SampleOutcome

    @property
    def change(self) -> float:
        """How much better the new side did, -1 to 1."""
        return self.new.value - self.old.value


@dataclass(frozen=True)
class MovedTask:
    """A task's samples that moved most, those that lost most first.

    `measure` says how well a sample was done; `why` why there are no samples, if so.
    """

    task: str
    measure: str = ""
    old: str = ""
    new: str = ""
    lost: int = 0
    gained: int = 0
    still: int = 0
    samples: Sequence[MovedSample] = ()
    why: str = ""


def find(
    config: Config,
    layout: Layout,
    differences: Differences,
    old: Side,
    new: Side,
    attribution: Attribution | str,
    most: int = MOST,
) -> list[MovedTask]:
    """What moved on every task that both have a score of.

    Per-sample scores are those of both runs. Where one of them has none, as in a folder of mteb's results, those of the run
    that was scored again stand in, before and after all that was switched.

    Args:
        config: the configuration of the project on this machine.
        layout: its folders, with the frozen tasks.
        differences: the two runs and the models that are compared.
        old: one run.
        new: the other.
        attribution: what switching gave.
        most: how many samples of each direction are kept.

    Raises:
        KitError: frozen data or a run's scores are not as they were written.
    """
    requests = {request.name: request for request in requested.resolve(config.tasks, layout.root)}
    compared = _Compared(config, differences, (old, new), attribution)
    found = []
    for row in differences.scores:
        if row.old is None or row.new is None:
            continue
        console.say(f"explain: what moved on {row.task}")
        why = row.incomparable or _why_not(requests.get(row.task), layout, (old, new))
        seen = why or _seen(compared, row, requests[row.task])
        if isinstance(seen, str) and not why and abs(row.new - row.old) < ROUNDED:
            seen = "the two scores are the same"
        found.append(
            MovedTask(row.task, why=seen)
            if isinstance(seen, str)
            else _moved(requests[row.task], layout, row.metric, seen, most)
        )
    return found


@dataclass(frozen=True)
class _Compared:
    """What is compared: two runs, what differs between them, and what switching gave."""

    config: Config
    differences: Differences
    runs: tuple[Side, Side]
    attribution: Attribution | str


@dataclass(frozen=True)
class _Seen:
    """Both sides of a task under their names."""

    names: tuple[str, str]
    sides: tuple[Observed, Observed]


def _why_not(request: Request | None, layout: Layout, sides: tuple[Side, Side]) -> str:
    if request is None or not (layout.tasks / request.name / "manifest.json").is_file():
        return "its data is not frozen here"
    here = freezing.read_manifest(layout.tasks / request.name).data_hash
    if any((known := side.tasks[request.name].data_hash) and known != here for side in sides):
        return "the data that is frozen here is other data"
    return ""


def _seen(compared: _Compared, row: ScoreChange, request: Request) -> _Seen | str:
    differences, attribution = compared.differences, compared.attribution
    keys = differences.old_key, differences.new_key
    kept = [side.samples(key, row.task) for side, key in zip(compared.runs, keys, strict=True)]
    if (missing := next((each for each in kept if isinstance(each, str)), None)) is None:
        names = keys if keys[0] != keys[1] else (differences.old, differences.new)
        runs = [
            _with_rankings(compared.config, side, key, request, found)
            for side, key, found in zip(compared.runs, keys, kept, strict=True)
            if isinstance(found, Samples)
        ]
        return _Seen(names, (runs[0], runs[1]))
    if isinstance(attribution, Attribution) and attribution.seen and row.task in attribution.seen[0]:
        steps = sorted((each for each in attribution.switched if each.step), key=lambda each: each.step or 0)
        names = attribution.start, ", ".join(each.words for each in steps) or attribution.start
        first, last = (found[row.task] for found in attribution.seen)
        forward = attribution.start == differences.old
        return _Seen(names if forward else names[::-1], (first, last) if forward else (last, first))
    return missing


def _with_rankings(config: Config, side: Side, key: str, request: Request, found: Samples) -> Observed:
    """A run's per-sample scores, with rankings where its embeddings are here and give just these scores."""
    score = side.tasks[request.name].cells[key].score or 0.0
    if request.searched and not side.files and key in config.models:
        model, recorded = config.models[key], side.run.models[key]
        replayed = observing.from_store(Layout(side.root), key, model, recorded, request, found)
        if replayed:
            return replayed
    return Observed(score, found)


def _moved(request: Request, layout: Layout, metric: str, seen: _Seen, most: int) -> MovedTask:
    old, new = seen.sides
    statistic = new.samples.statistic
    if not statistic or statistic != old.samples.statistic or new.samples.frame.is_empty():
        return MovedTask(request.name, why="this main score has no per-sample scores")
    joined = values(old.samples.frame, statistic).join(
        values(new.samples.frame, statistic), on=SAMPLE, how="inner", suffix="_new", maintain_order="left"
    )
    change = joined["value_new"] - joined["value"]
    ordered = joined.with_columns(change=change, place=pl.int_range(pl.len())).sort("change", "place")
    lost, gained = ordered.filter(pl.col("change") < -_STILL), ordered.filter(pl.col("change") > _STILL)
    texts = _Texts(request, layout)
    shown = pl.concat([lost.head(most), gained.tail(most).reverse()])
    return MovedTask(
        request.name,
        measure=_MEASURES.get(statistic, metric),
        old=seen.names[0],
        new=seen.names[1],
        lost=len(lost),
        gained=len(gained),
        still=len(ordered) - len(lost) - len(gained),
        samples=[_sample(row, seen, texts, statistic) for row in shown.iter_rows(named=True)],
    )


_MEASURES = {
    "accuracy": "share of experiments that are right",
    "f1_macro": "share of experiments that are right",
    "f1_weighted": "share of experiments that are right",
    "spearman": "how near its rank is to that of the gold score",
    "pearson": "how near its rank is to that of the gold score",
    "average_precision": "how high it ranks where it is a match, how low where it is none",
    "v_measure": "how well its cluster fits its label (BCubed F1)",
}
_SHARE = pl.col("score").rank() / pl.len()
_GOLD = pl.col("target").rank() / pl.len()
_RUN = ["split", "subset", "replicate"]


def values(frame: pl.DataFrame, statistic: str) -> pl.DataFrame:
    """How well each sample was done, 0 to 1, in a way that two models share.

    Scores of queries are what they are. A predicted label is right or not. A similarity says nothing beside that of another
    model, so its rank among the pairs is held against the gold score's rank, or the label. A document's cluster is held
    against its label by BCubed (Bagga & Baldwin 1998): the harmonic mean of the share of the cluster that has its label, and of
    the share of its label that is in the cluster. Experiments are averaged.

    Args:
        frame: per-sample scores.
        statistic: what makes the main score of them.

    Returns:
        One row a sample: split, subset, sample, value, and `said`, the scores of its experiments, as a list.
    """
    right = pl.col("score") == pl.col("target")
    value = {
        "accuracy": right.cast(pl.Float64),
        "f1_macro": right.cast(pl.Float64),
        "f1_weighted": right.cast(pl.Float64),
        "spearman": 1 - (_SHARE.over(_RUN) - _GOLD.over(_RUN)).abs(),
        "pearson": 1 - (_SHARE.over(_RUN) - _GOLD.over(_RUN)).abs(),
        "average_precision": pl.when(pl.col("target") > 0).then(_SHARE.over(_RUN)).otherwise(1 - _SHARE.over(_RUN)),
        "v_measure": 2
        * pl.len().over([*_RUN, "score", "target"])
        / (pl.len().over([*_RUN, "score"]) + pl.len().over([*_RUN, "target"])),
    }.get(statistic, pl.col("score"))
    return (
        frame.with_columns(value=value)
        .group_by(SAMPLE, maintain_order=True)
        .agg(pl.col("value").mean(), said=pl.col("score"), gold=pl.col("target").first())
    )


def _sample(row: Mapping[str, Any], seen: _Seen, texts: _Texts, statistic: str) -> MovedSample:
    split, subset, name = (str(row[column]) for column in SAMPLE)
    readings = [
        SampleOutcome(
            value=float(row[f"value{end}"]),
            words=texts.words(split, subset, row[f"said{end}"], statistic),
            ranking=texts.ranking(split, subset, name, side.rankings.get((split, subset), {}).get(name, [])),
        )
        for end, side in zip(("", "_new"), seen.sides, strict=True)
    ]
    return MovedSample(split, subset, name, *texts.of(split, subset, name, row["gold"]), *readings)


class _Texts:
    """What stands behind a task's samples, from its frozen data."""

    def __init__(self, request: Request, layout: Layout) -> None:
        self._folder = layout.tasks / request.name
        self._task: Any = freezing.load_frozen(request, self._folder)
        self._kind = request.type
        self._positions: dict[tuple[str, str, str], dict[str, int]] = {}
        self._labels: dict[str, list[str]] = {}
        self._clustered: dict[tuple[str, str], list[str]] = {}

    def of(self, split: str, subset: str, name: str, gold: float | None) -> tuple[list[str], str]:
        """The texts of a sample and what is right; no text where the task's kind is not known here."""
        from mteb import abstasks

        task, data = self._task, self._data(split, subset)
        number = int(name) if name.isdigit() else 0
        if isinstance(task, abstasks.AbsTaskRetrieval):
            return [self._query(split, subset, name)], ""
        if isinstance(task, abstasks.AbsTaskMultilabelClassification):
            return [str(data[number][task.input_column_name])], str(data[number][task.label_column_name])
        if isinstance(task, abstasks.AbsTaskClassification):
            return [str(data[number][task.input_column_name])], self._label(split, subset, gold)
        if isinstance(task, abstasks.AbsTaskSTS):
            return [str(data[number][column]) for column in task.column_names], f"{data[number]['score']:g}"
        if isinstance(task, abstasks.AbsTaskPairClassification):
            columns = str(task.input1_column_name), str(task.input2_column_name)
            return [str(_cell(data, column, number)) for column in columns], "match" if gold else "no match"
        if isinstance(task, abstasks.AbsTaskClustering):
            return [self._document(split, subset, number)], ""
        if isinstance(task, abstasks.AbsTaskBitextMining) and "sentence1" in getattr(data, "column_names", ()):
            return [str(data[number]["sentence1"])], str(data[int(gold or 0)]["sentence2"])
        return [f"{name} of {split}, {subset}"], ""

    def words(self, split: str, subset: str, said: Sequence[float], statistic: str) -> str:
        """What a side made of a sample: the label it mostly predicted, a similarity, the sentence that it took."""
        from mteb import abstasks

        if statistic in ("mean", "lrap", "v_measure"):
            return ""
        if isinstance(self._task, abstasks.AbsTaskBitextMining):
            data = self._data(split, subset)
            known = "sentence2" in getattr(data, "column_names", ())
            return str(data[int(said[0])]["sentence2"]) if known else f"{said[0]:g}"
        if isinstance(self._task, abstasks.AbsTaskClassification):
            (label, times), *_ = Counter(said).most_common(1)
            return self._label(split, subset, label) + (f", {times} of {len(said)}" if len(said) > 1 else "")
        return f"similarity {said[0]:.3f}"

    def ranking(self, split: str, subset: str, query: str, found: RankedDocuments) -> list[Found]:
        """A query's ranking with the documents' texts and judgements."""
        if not found:
            return []
        data = self._data(split, subset)
        places = self._places(split, subset, "corpus")
        judged = data["relevant_docs"].get(query, {})
        shown = []
        for place, (document, similarity) in enumerate(found, 1):
            row = data["corpus"][places[document]]
            title, text = str(row.get("title") or ""), str(row.get("text") or "")
            whole = f"{title}: {text}" if title else text
            shown.append(Found(place, document, whole, similarity, int(judged.get(document, 0))))
        return shown

    def _data(self, split: str, subset: str) -> Any:  # noqa: ANN401 - whatever the task keeps for a split
        return self._task.dataset.get(subset, self._task.dataset).get(split)

    def _query(self, split: str, subset: str, name: str) -> str:
        row = self._data(split, subset)["queries"][self._places(split, subset, "queries")[name]]
        instruction = row.get("instruction")
        return f"{row['text']} ({instruction})" if instruction else str(row["text"])

    def _places(self, split: str, subset: str, part: str) -> dict[str, int]:
        known = (split, subset, part)
        if known not in self._positions:
            names = self._data(split, subset)[part]["id"]
            self._positions[known] = {str(name): place for place, name in enumerate(names)}
        return self._positions[known]

    def _label(self, split: str, subset: str, code: float | None) -> str:
        """The label of a code, which counts all labels of a subset in their order."""
        if subset not in self._labels:
            names: dict[Any, Any] = {}
            for part in (self._task.train_split, split):
                data = self._data(part, subset)
                labels = data[self._task.label_column_name][:]
                known = data["label_text"][:] if "label_text" in data.column_names else labels
                names |= dict(zip(labels, known, strict=True))
            self._labels[subset] = [str(names[label]) for label in sorted(names)]
        known = self._labels[subset]
        return known[int(code)] if code is not None and int(code) < len(known) else f"{code:g}"

    def _document(self, split: str, subset: str, number: int) -> str:
        """A document of those that a clustering task drew, which are the ones it asked embeddings of, in their order."""
        if (split, subset) not in self._clustered:
            listed = encode_requests.read(self._folder, freezing.read_manifest(self._folder))
            texts = listed.texts["text"].to_pylist()
            (rows,) = [one.rows for one in listed.requests if (one.split, one.subset) == (split, subset)]
            self._clustered[split, subset] = [texts[row] for row in rows]
        return self._clustered[split, subset][number]


def _cell(data: Any, column: str, number: int) -> Any:  # noqa: ANN401
    """A cell of a table, or of the single row of columns that older tasks keep."""
    return data[0][column][number] if isinstance(data, list) else data[number][column]
