"""Whether a change may pass: no real regression, no lost task, no data that changed behind its pin; and its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embrepro.config.messages import suggest
from embrepro.config.yaml_files import Strict, read_document
from embrepro.regression import diff
from embrepro.regression.diff import (
    NOT_REQUESTED,
    NOTED,
    OTHER_DATA,
    ComparedMeasure,
    MeasureChange,
    RevisionComparison,
    ScoreChange,
)
from embrepro.regression.diff_page import (
    changes_table,
    comparison_page,
    difference_figures,
    means_table,
    measures_table,
    scores_table,
)
from embrepro.regression.revisions import Side
from embrepro.rendering.formats import fraction, signed_fraction, signed_fraction_interval
from embrepro.rendering.model import Document, Section, Table, Tone, Value, columns_of, filled

# mteb's types of text tasks; asking mteb itself would cost seconds on every call.
TASK_TYPES = (
    "BitextMining",
    "Classification",
    "Clustering",
    "InstructionReranking",
    "InstructionRetrieval",
    "MultilabelClassification",
    "PairClassification",
    "Reranking",
    "Retrieval",
    "STS",
    "Summarization",
)

MARKER = "embrepro gate"
"""What the comment on a pull request is found by."""
Tolerance = Annotated[float, Field(ge=0, lt=1)]
GateFinding = Literal[
    "regression",
    "task gone",
    "score lost",
    "model gone",
    "data changed",
    "not comparable",
    "within noise",
    "not tested",
    "improvement",
    "new task",
    "data pin changed",
    "candidate replaced",
    "larger or slower",
]


class GateTolerances(Strict):
    """The largest fall that always passes; a task's goes before its metric's, then its type's."""

    default: Tolerance
    tasks: dict[str, Tolerance] = Field(default_factory=dict)
    metrics: dict[str, Tolerance] = Field(default_factory=dict)
    types: dict[str, Tolerance] = Field(default_factory=dict, description="by mteb's task type, such as Clustering")

    def of(self, row: ScoreChange) -> float:
        """The tolerance in force for a score."""
        for known, name in ((self.tasks, row.task), (self.metrics, row.metric), (self.types, row.type)):
            if name in known:
                return known[name]
        return self.default


class MeasureTolerances(Strict):
    """The share by which a measure may get worse and still pass; null: a note says so, and it never fails."""

    size_mb: Annotated[float, Field(ge=0)] | None = None
    peak_memory_mb: Annotated[float, Field(ge=0)] | None = None
    throughput_ratio: Tolerance | None = None
    latency_ratio: Tolerance | None = None

    def of(self, measure: ComparedMeasure) -> float | None:
        """The tolerance of a measure, if it has one."""
        found: float | None = getattr(self, measure)
        return found


class GateRules(Strict):
    """A file of `conf/gate/`."""

    alpha: float = Field(default=0.05, gt=0, lt=1, description="one minus the level of the paired intervals")
    tolerance: GateTolerances
    measures: MeasureTolerances = Field(
        default_factory=MeasureTolerances,
        description="size, memory and speed: the largest share of worsening that passes",
    )
    noise: Literal["interval", "corrected", "never"] = Field(
        default="interval",
        description="a fall is noise if its interval holds 0, or its corrected p is not below alpha",
    )
    without_samples: Literal["fail", "note"] = Field(default="fail", description="a fall that cannot be tested")
    changed_pin: Literal["fail", "note"] = Field(default="note", description="a task whose data has another pin")

    @model_validator(mode="after")
    def _types_exist(self) -> GateRules:
        for name in self.tolerance.types:
            if name not in TASK_TYPES:
                raise ValueError(f"tolerance.types: no task type '{name}'{suggest(name, TASK_TYPES)}")
        return self


class Note(BaseModel):
    """One thing that the gate found."""

    model_config = ConfigDict(frozen=True)

    finding: GateFinding
    fails: bool
    model: str
    task: str
    words: str


class GateOutcome(BaseModel):
    """The gate's decision and what it rests on."""

    model_config = ConfigDict(frozen=True)

    comparison: RevisionComparison
    notes: list[Note]

    @property
    def passes(self) -> bool:
        """Whether nothing found fails the change."""
        return not any(note.fails for note in self.notes)

    @property
    def failures(self) -> list[Note]:
        """What fails the change."""
        return [note for note in self.notes if note.fails]

    @property
    def remarks(self) -> list[Note]:
        """What is worth knowing and fails nothing."""
        return [note for note in self.notes if not note.fails]


def rules(path: Path) -> GateRules:
    """Read rules; raises ConfigError naming the key that is wrong and the nearest known ones."""
    return read_document(path, GateRules, "a gate's rules", "docs/gate.md")


def judge(old: Side, new: Side, rules: GateRules) -> GateOutcome:
    """Hold a state of the project against an older one."""
    comparison = diff.compare(old, new, alpha=rules.alpha)
    notes = [*_models(old, new), *_data(old, new, rules)]
    for row in comparison.rows:
        notes += _score(row, rules, pin_changed=_pin_changed(old, new, row.task))
    for measured in comparison.measures:
        notes += _measure(measured, rules.measures.of(measured.measure))
    return GateOutcome(comparison=comparison, notes=notes)


def _measure(found: MeasureChange, tolerance: float | None) -> Iterator[Note]:
    """A repeated measure is worse where the intervals are apart, too; a single reading by its size alone."""
    if not found.certain or found.worse <= (NOTED if tolerance is None else tolerance):
        return
    words = f"{found.measure} {found.old:.4g} before, {found.new:.4g} now: {100 * found.worse:.0f} % worse"
    fails = tolerance is not None
    allowed = f"; {100 * tolerance:.0f} % pass" if tolerance is not None else ""
    yield _note("larger or slower", found.model, "", words + allowed, fails=fails)


def _models(old: Side, new: Side) -> Iterator[Note]:
    before, after = old.run.candidate, new.run.candidate
    replaced = before not in new.run.models and after not in old.run.models
    if replaced:
        yield _note(
            "candidate replaced",
            f"{before} → {after}",
            "",
            f"{after} takes the place of {before} and is held to its scores",
        )
    for key in old.run.models:
        if key not in new.run.models and not (replaced and key == before):
            yield _note("model gone", key, "", "every score of this model is gone", fails=True)


def _data(old: Side, new: Side, rules: GateRules) -> Iterator[Note]:
    for name, before in old.tasks.items():
        after = new.tasks.get(name)
        if after is None or before.data_hash == after.data_hash or None in (before.data_hash, after.data_hash):
            continue
        hashes = f"data hash {str(before.data_hash)[:8]} before, {str(after.data_hash)[:8]} now"
        if _pin_changed(old, new, name):
            words = f"revision {before.revision} before, {after.revision} now: scores are not comparable"
            yield _note("data pin changed", "", name, words, fails=rules.changed_pin == "fail")
        else:
            yield _note(
                "data changed",
                "",
                name,
                f"{hashes}, though the pinned revision is the same ({after.revision})",
                fails=True,
            )


def _pin_changed(old: Side, new: Side, task: str) -> bool:
    before, after = old.tasks.get(task), new.tasks.get(task)
    return before is not None and after is not None and before.revision != after.revision


def _score(row: ScoreChange, rules: GateRules, *, pin_changed: bool) -> Iterator[Note]:
    if row.old is not None and row.new is None:
        if row.new_status == NOT_REQUESTED:
            yield _of(row, "task gone", f"scored {row.old:.4f} before, not requested now", fails=True)
        else:
            yield _of(row, "score lost", f"scored {row.old:.4f} before, now: {row.new_status}", fails=True)
    elif row.old is None and row.new is not None:
        yield _of(row, "new task", f"{row.new:.4f}; before: {row.old_status}")
    elif row.old is None and row.old_status != NOT_REQUESTED and row.new_status == NOT_REQUESTED:
        yield _of(row, "task gone", f"not requested now; before: {row.old_status}", fails=True)
    elif row.difference is not None and row.incomparable:
        if row.incomparable != OTHER_DATA:
            yield _of(row, "not comparable", row.incomparable, fails=not pin_changed or rules.changed_pin == "fail")
    elif row.difference is not None:
        yield from _difference(row, rules, rules.tolerance.of(row))


def _difference(row: ScoreChange, rules: GateRules, tolerance: float) -> Iterator[Note]:
    assert row.difference is not None
    # The last bits of binary fractions do not decide.
    if abs(row.difference) <= tolerance + 1e-12:
        return
    change = f"{row.difference:+.4f}{_interval(row)}"
    if row.interval is None:
        if row.difference > 0:
            yield _of(row, "not tested", f"higher by more than {tolerance}: {change}; {row.why_no_interval}")
        elif rules.without_samples == "note":
            yield _of(row, "not tested", f"fell by more than {tolerance}: {change}; {row.why_no_interval}")
        else:
            words = f"fell by more than {tolerance}: {change}; no interval: {row.why_no_interval}"
            yield _of(row, "regression", words, fails=True)
    elif _is_noise(row, rules):
        yield _of(row, "within noise", f"{change}, more than {tolerance}, but not distinguishable from no change")
    elif row.difference < 0:
        yield _of(row, "regression", f"fell by more than {tolerance}: {change}", fails=True)
    else:
        yield _of(row, "improvement", change)


def _is_noise(row: ScoreChange, rules: GateRules) -> bool:
    assert row.interval is not None and row.p_adjusted is not None
    if rules.noise == "corrected":
        return row.p_adjusted >= rules.alpha
    return rules.noise == "interval" and row.interval.low <= 0 <= row.interval.high


def _interval(row: ScoreChange) -> str:
    return f" [{row.interval.low:+.4f}, {row.interval.high:+.4f}]" if row.interval else ""


def _of(row: ScoreChange, finding: GateFinding, words: str, *, fails: bool = False) -> Note:
    return _note(finding, row.model, row.task, words, fails=fails)


def _note(finding: GateFinding, model: str, task: str, words: str, *, fails: bool = False) -> Note:
    return Note(finding=finding, fails=fails, model=model, task=task, words=words)


def gate_page(outcome: GateOutcome) -> Document:
    """The gate's decision with its reasons, every score, and what else is different."""
    comparison, failures = outcome.comparison, len(outcome.failures)
    verdict = "passes" if outcome.passes else f"fails for {failures} {'reason' if failures == 1 else 'reasons'}"
    compared = comparison_page(comparison)
    changed = [row for row in comparison.rows if row.is_changed]
    same = [row for row in comparison.rows if not row.is_changed]
    reasons = [_findings_table("failures", "Why it fails", outcome.failures, "bad"), means_table(comparison)]
    tables = [
        scores_table(comparison, changed, "changed", "Main scores that changed"),
        _findings_table("remarks", "Worth knowing", outcome.remarks, ""),
        measures_table(comparison, folded=True),
        changes_table(comparison),
        scores_table(comparison, same, "unchanged", "Main scores that did not change", folded=True),
    ]
    return Document(
        title=f"Regression gate: {verdict}",
        verdict=f"The change {verdict}: {comparison.new} held against {comparison.old}. {_mean_words(comparison)}".rstrip(),
        tone="good" if outcome.passes else "bad",
        sections=[
            Section("gate", lead=[compared.verdict, *compared.sections[0].lead], tables=filled(reasons)),
            Section("scores", figures=difference_figures(comparison), tables=filled(tables), notes=comparison.notes),
        ],
    )


def _mean_words(comparison: RevisionComparison) -> str:
    """What became of the means, in a sentence a model whose mean moved."""
    said = []
    for mean in comparison.means:
        if mean.difference is None:
            said.append(f"{mean.model} has no mean to compare: {mean.why}.")
        elif mean.difference:
            certain = f" {signed_fraction_interval(mean.interval)}" if mean.interval else ""
            said.append(
                f"{mean.model}: mean {fraction(mean.old)} to {fraction(mean.new)}, {signed_fraction(mean.difference)}{certain}."
            )
    return " ".join(said) or ("No mean changed." if comparison.means else "")


def _findings_table(name: str, caption: str, notes: Sequence[Note], tone: Tone) -> Table:
    columns = columns_of(("finding", "model", "task", "what was found"), (), {"what was found"})
    rows = [[Value(note.finding, tone=tone), *map(Value, (note.model, note.task, note.words))] for note in notes]
    return Table(name, caption, columns, rows, restack=True)
