"""Claims of a document, each bound to a metric; the verdict follows from values and tolerance alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from embrepro.claims.known_values import KnownValues
from embrepro.claims.metrics import MeasuredValue, Metric, ScoredTasksMetric
from embrepro.config.yaml_files import Strict, read_document
from embrepro.results import summary
from embrepro.results.summary import ClaimVerdict

Unit = Literal[
    "",
    "%",
    "points",
    "x",
    "ms",
    "s",
    "h",
    "MB",
    "tasks",
    "per second",
    "models",
    "dimensions",
    "tokens",
    "pairs",
]


class Claimed(Strict):
    """What a document claims: a value and the tolerance that still agrees, or a range open on either side."""

    value: float | None = None
    tolerance: Annotated[float | None, Field(ge=0)] = None
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Claimed:
        exact, ranged = self.value is not None, self.at_least is not None or self.at_most is not None
        if exact == ranged or exact != (self.tolerance is not None):
            raise ValueError("give either value and tolerance, or at_least and/or at_most")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is above at_most {self.at_most}")
        return self

    @property
    def low(self) -> float:
        """Least value for which the claim holds."""
        if self.value is not None:
            return self.value - (self.tolerance or 0.0)
        return -math.inf if self.at_least is None else self.at_least

    @property
    def high(self) -> float:
        """Greatest value for which the claim holds."""
        if self.value is not None:
            return self.value + (self.tolerance or 0.0)
        return math.inf if self.at_most is None else self.at_most

    def holds(self, value: float) -> bool:
        """Whether a value lies within the claim; the last bits of binary fractions do not decide."""
        slack = 1e-9 * max(1.0, abs(value))
        return self.low - slack <= value <= self.high + slack


class Published(Strict):
    """What somebody else reports for the same quantity, in the claim's unit."""

    value: float
    source: str


class Claim(Strict):
    """One number or checkable statement of a document."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    group: str | None = Field(default=None, description="claims that belong to one statement share a group")
    where: str = Field(description="section of the document")
    says: str = Field(description="the claim, in other words")
    unit: Unit = ""
    claimed: Claimed | None = Field(default=None, description="may be absent where the metric is undefined")
    metric: Metric
    published: Published | None = None
    known: str = Field(default="", description="what explains an agreement or a contradiction")

    @model_validator(mode="after")
    def _claims_something(self) -> Claim:
        if self.claimed is None and self.metric.kind != "undefined":
            raise ValueError("every claim needs `claimed`, except one whose metric is undefined")
        return self


class ClaimsFile(Strict):
    """All claims of one document."""

    title: str
    document: str = Field(description="what is judged: a report, a paper, a model card")
    claims: list[Claim]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> ClaimsFile:
        ids = [claim.id for claim in self.claims]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"each claim needs an id of its own; given more than once: {', '.join(twice)}")
        return self


class Verdict(Strict):
    """A claim beside what was measured and what is published."""

    id: str
    where: str
    says: str
    claimed: str
    measured: str = Field(description="value with unit, or why there is none")
    published: str
    verdict: ClaimVerdict
    explanation: str
    basis: Literal["measured", "recomputed", ""] = Field(description="what the verdict rests on; empty without one")
    measured_value: float | None = None
    published_value: float | None = None
    published_agrees: bool | None = None

    def row(self) -> summary.ClaimRow:
        """The verdict as the summary of a run holds it."""
        return summary.ClaimRow(**{name: getattr(self, name) for name in summary.ClaimRow.model_fields})


def read_claims(path: Path) -> ClaimsFile:
    """Read a claims file.

    Raises:
        ConfigError: no such file, not YAML, or not a claims file: names the claim, the key and the nearest
        known keys.
    """
    return read_document(path, ClaimsFile, "a claims file", "docs/claims.md")


def judge_claims(claims: Iterable[Claim], facts: KnownValues) -> list[Verdict]:
    """Judge every claim by what is known, in the order given."""
    return [_judge(claim, facts) for claim in claims]


def _judge(claim: Claim, facts: KnownValues) -> Verdict:
    found = _in_unit(claim, claim.metric.resolve(facts))
    published = _published(claim, facts)
    outcome = _outcome(claim, found)
    agrees = None
    if published is not None and claim.claimed is not None and outcome != "not defined":
        agrees = claim.claimed.holds(published.value)
    return Verdict(
        id=claim.id,
        where=claim.where,
        says=claim.says,
        claimed=_claimed_text(claim),
        measured=_measured_text(claim, found, outcome),
        published="" if published is None else f"{_text(published.value, claim.unit)} ({published.source})",
        verdict=outcome,
        explanation=_explanation(claim, found, outcome, agrees),
        basis=_basis(claim, outcome),
        measured_value=found.value if outcome in ("reproduced", "refuted") else None,
        published_value=None if published is None else published.value,
        published_agrees=agrees,
    )


def _in_unit(claim: Claim, found: MeasuredValue) -> MeasuredValue:
    if found.value is None or claim.unit not in ("%", "points") or not claim.metric.is_fraction:
        return found
    return MeasuredValue(100 * found.value, found.reason, found.lower_bound)


def _published(claim: Claim, facts: KnownValues) -> Published | None:
    """The claim's own published value, else the same metric over the published scores of `conf/expected`."""
    if claim.published is not None or claim.metric.stated_in is not None or isinstance(claim.metric, ScoredTasksMetric):
        return claim.published
    found = _in_unit(claim, claim.metric.resolve(facts.as_published()))
    return None if found.value is None else Published(value=found.value, source="published scores")


def _outcome(claim: Claim, found: MeasuredValue) -> ClaimVerdict:
    if claim.claimed is None or not found.defined:
        return "not defined"
    if found.value is None:
        return "not measured"
    if found.lower_bound:
        return "refuted" if found.value > claim.claimed.high else "not measured"
    return "reproduced" if claim.claimed.holds(found.value) else "refuted"


def _basis(claim: Claim, outcome: ClaimVerdict) -> Literal["measured", "recomputed", ""]:
    if outcome not in ("reproduced", "refuted"):
        return ""
    return "measured" if claim.metric.stated_in is None else "recomputed"


def _claimed_text(claim: Claim) -> str:
    claimed = claim.claimed
    if claimed is None:
        return "no number"
    if claimed.value is not None:
        return _text(claimed.value, claim.unit)
    if claimed.at_least is None:
        return f"at most {_text(claimed.high, claim.unit)}"
    if claimed.at_most is None:
        return f"at least {_text(claimed.low, claim.unit)}"
    return f"{_number(claimed.low)} to {_text(claimed.high, claim.unit)}"


def _measured_text(claim: Claim, found: MeasuredValue, outcome: ClaimVerdict) -> str:
    if found.value is None or outcome in ("not measured", "not defined"):
        return outcome
    text = _text(found.value, claim.unit)
    if claim.metric.stated_in is not None:
        return f"{text}, recomputed"
    return f"at least {text}" if found.lower_bound else text


def _explanation(claim: Claim, found: MeasuredValue, outcome: ClaimVerdict, agrees: bool | None) -> str:
    parts = []
    if outcome in ("not measured", "not defined"):
        parts.append(f"{outcome.capitalize()}: {found.reason}")
    elif outcome == "refuted" and claim.claimed is not None and found.value is not None:
        parts.append(_miss(claim.claimed, found.value, claim.unit))
    if outcome == "not measured" and agrees is not None:
        parts.append(f"The published value {'agrees with' if agrees else 'contradicts'} the claim")
    if claim.metric.stated_in is not None:
        which = f" ({found.reason})" if found.reason else ""
        parts.append(f"Recomputed from {claim.metric.stated_in}{which}")
    return " ".join(part.rstrip(".") + "." for part in (*parts, claim.known) if part)


def _miss(claimed: Claimed, value: float, unit: str) -> str:
    side = "below" if value < claimed.low else "above"
    if claimed.value is None:
        return f"{_text(value, unit)}: {side} what is claimed"
    off = _text(abs(value - claimed.value), "points" if unit == "%" else unit)
    allowed = f", where {_number(claimed.tolerance)} would still agree" if claimed.tolerance else ""
    return f"{off} {side} the claim{allowed}"


def _text(value: float, unit: str) -> str:
    number = _number(value)
    if unit == "x":
        return f"{number}x"
    if unit == "tasks" and value == 1:
        return "1 task"
    return f"{number} {unit}".rstrip()


def _number(value: float) -> str:
    if not math.isfinite(value) or (value != 0 and abs(value) < 0.001):
        return f"{value:.3g}"
    return f"{value:,.{4 if abs(value) < 1 else 2}f}".rstrip("0").rstrip(".")
