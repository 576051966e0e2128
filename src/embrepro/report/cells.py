"""The pieces that tables are made of, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from embrepro.benchmarking.speed import RepeatedMeasure
from embrepro.results.summary import Interval, Summary

Tone = Literal["", "good", "bad", "even", "missing"]
OUTCOME_TONES: dict[str, Tone] = {
    "better": "good",
    "worse": "bad",
    "not distinguishable": "even",
    "not tested": "missing",
}
DASH = "\u2013"


@dataclass(frozen=True)
class Value:
    """What one cell of a table says."""

    text: str
    note: str = ""
    sort: float | str | None = None
    tone: Tone = ""
    origin: str | None = None
    code: bool = False


@dataclass(frozen=True)
class Column:
    """The head of a column; `note` is a second, smaller line, `aside` puts it last in a card on a phone."""

    title: str
    note: str = ""
    numeric: bool = False
    wide: bool = False
    aside: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under named columns; the first column names the row.

    `restack`: on a phone each row becomes a card. `collapsed`: folded away until asked for. `plain`: the
    order of the rows is their meaning, so they neither sort nor filter.
    """

    id: str
    caption: str
    columns: list[Column]
    rows: list[list[Value]]
    footer: list[list[Value]] = field(default_factory=list)
    restack: bool = False
    collapsed: bool = False
    plain: bool = False

    @property
    def sorts(self) -> bool:
        """Whether another order of the rows would mean something."""
        return len(self.rows) > 1 and not self.plain

    @property
    def filters(self) -> bool:
        """Whether the table is long enough to search in."""
        return len(self.rows) > 4 and not self.plain


def score(value: float) -> str:
    """A 0-1 score in points of 100."""
    return f"{100 * value:.2f}"


def signed(value: float) -> str:
    """A difference of 0-1 scores in points of 100, with its sign."""
    text = f"{100 * value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "\u2212")


def score_interval(interval: Interval | None) -> str:
    """An interval of scores in points of 100."""
    return "" if interval is None else f"[{score(interval.low)}, {score(interval.high)}]".replace("-", "\u2212")


def signed_interval(interval: Interval | None) -> str:
    """An interval of a difference in points of 100."""
    return "" if interval is None else f"[{signed(interval.low)}, {signed(interval.high)}]"


def quantity(value: float) -> str:
    """A positive quantity with three significant digits, in full notation."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


def measure(value: RepeatedMeasure, unit: str = "") -> Value:
    """A median with the interval of the median."""
    return Value(
        f"{quantity(value.median)}{unit}",
        note=f"[{quantity(value.low)}, {quantity(value.high)}]",
        sort=value.median,
    )


def probability(value: float | None) -> str:
    """A p-value as it is written in text."""
    if value is None:
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def yes_no(value: bool | None) -> str:
    """A truth value in words; a dash where it is not known."""
    return DASH if value is None else ("yes" if value else "no")


def names(values: Sequence[str]) -> str:
    """A list in a cell; a dash where it is empty."""
    return ", ".join(values) or DASH


def model_keys(summary: Summary) -> list[str]:
    """Keys of the models in the order of every table: baseline, candidate, the others by name."""
    first = [summary.baseline, summary.candidate]
    others = sorted(key for key in summary.models if key not in first)
    return list(dict.fromkeys(first + others))


def missing_tasks(summary: Summary, model: str) -> list[str]:
    """Names of the requested tasks on which `model` has no score."""
    return [task.name for task in summary.tasks if (cell := task.cells.get(model)) is None or cell.score is None]


def why_no_mean(summary: Summary, model: str) -> str:
    """The words in place of a mean that is not computed."""
    missing, asked = len(missing_tasks(summary, model)), len(summary.tasks)
    return f"not computed: {missing} of {asked} tasks missing" if missing else "not computed"
