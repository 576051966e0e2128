"""Which of two models to take for a use case, by rules over measured values with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from embrepro.config.yaml_files import Strict, read_document
from embrepro.recommendation.evidence import (
    Estimate,
    Evidence,
    Measure,
    QualityComparison,
    QualityMeasure,
    more_is_better,
    unit_of,
)
from embrepro.results.summary import Recommendation, Role

_SIDES: tuple[Role, Role] = ("candidate", "baseline")


class Requirement(Strict):
    """What a model must reach to be considered: a limit, or a share of the better model's value."""

    measure: str
    at_least: float | None = None
    at_most: float | None = None
    share_of_best: Annotated[float | None, Field(gt=0, le=1)] = None

    @model_validator(mode="after")
    def _one_limit(self) -> Requirement:
        if sum(limit is not None for limit in (self.at_least, self.at_most, self.share_of_best)) != 1:
            raise ValueError("a requirement has exactly one of at_least, at_most, share_of_best")
        return self


class Preference(Strict):
    """What makes one of several fitting models the better choice."""

    measure: str
    minimum: float = Field(default=0.0, ge=0, description="least difference that counts, for qualities")
    minimum_ratio: float = Field(default=1.0, ge=1, description="least ratio that counts, for everything else")


class UseCase(Strict):
    """One row of the recommendation."""

    id: str
    title: str
    require: list[Requirement] = Field(default_factory=list)
    prefer: Annotated[list[Preference], Field(min_length=1)]
    mention: list[str] = Field(default_factory=list, description="measures that the reason adds as the price paid")
    claimed: str | None = Field(default=None, description="the model that a document names as the winner")


class RecommendationRules(Strict):
    """Measures, and the use cases that are decided by them."""

    measures: dict[str, Measure]
    use_cases: list[UseCase]
    compared: list[str] = Field(
        default_factory=list,
        description="the models of the document that claims winners; a claim stands in a run of two of them",
    )

    @model_validator(mode="after")
    def _measures_exist(self) -> RecommendationRules:
        for case in self.use_cases:
            named = {*_measures_of(case), *case.mention}
            if unknown := sorted(named - self.measures.keys()):
                raise ValueError(f"{case.id}: no measure {', '.join(unknown)} (there: {', '.join(self.measures)})")
            if case.claimed is not None and case.claimed not in self.compared:
                raise ValueError(f"{case.id}: claimed names {case.claimed}, which is none of compared: {self.compared}")
        return self


def read_rules(path: Path) -> RecommendationRules:
    """Read the rules of a recommendation.

    Raises:
        ConfigError: no such file, not YAML, or not rules.
    """
    return read_document(path, RecommendationRules, "recommendation rules", "docs/recommendation.md")


def recommend(rules: RecommendationRules, evidence: Evidence) -> list[Recommendation]:
    """Decide every use case, in the order of the rules.

    The outcome is "candidate", "baseline", "tie" (nothing tells two fitting models apart), "neither" (no
    model reaches what the use case needs) or "not measured". An interval that straddles a limit counts as
    not reaching it.
    """
    found = {name: evidence.compare(measure) for name, measure in rules.measures.items()}
    decided = [_decide(case, found, evidence) for case in rules.use_cases]
    run = {evidence.candidate, evidence.baseline}
    if run <= set(rules.compared):
        return [each if each.claimed in run else each.model_copy(update={"claimed": None}) for each in decided]
    return [each.model_copy(update={"claimed": None}) for each in decided]


def _decide(case: UseCase, found: dict[str, QualityComparison], evidence: Evidence) -> Recommendation:
    needed = [found[name] for name in _measures_of(case)]
    if missing := list(dict.fromkeys(part.missing for part in needed if part.missing)):
        return _recommendation(case, evidence, "not measured", missing)
    fitting: list[Role] = [
        side for side in _SIDES if all(_meets(need, found[need.measure], side) for need in case.require)
    ]
    reasons = [_requirement_text(need, found[need.measure], evidence) for need in case.require]
    if not fitting:
        return _recommendation(case, evidence, "neither", reasons)
    required = {need.measure for need in case.require}
    if len(fitting) == 2:
        winner, named = _preferred(case.prefer, found)
    else:
        winner, named = fitting[0], [part.measure for part in case.prefer if part.measure not in required]
    named += [name for name in case.mention if name not in required and name not in named]
    reasons += [_change_text(found[name], winner or "candidate") for name in named]
    return _recommendation(case, evidence, winner or "tie", reasons)


def _measures_of(case: UseCase) -> list[str]:
    """The measures without which a use case cannot be decided."""
    return [need.measure for need in case.require] + [part.measure for part in case.prefer]


def _recommendation(case: UseCase, evidence: Evidence, outcome: str, reasons: Sequence[str]) -> Recommendation:
    winner = {"candidate": evidence.candidate, "baseline": evidence.baseline}.get(outcome)
    reason = "; ".join(reason for reason in reasons if reason)
    return Recommendation(use_case=case.title, winner=winner, outcome=outcome, reason=reason, claimed=case.claimed)


def _of(comparison: QualityComparison, side: Role) -> Estimate:
    estimate = comparison.candidate if side == "candidate" else comparison.baseline
    # Comparisons with a missing side never get here
    assert estimate is not None
    return estimate


def _limit(need: Requirement, comparison: QualityComparison) -> tuple[float | None, float | None]:
    """Least and greatest value that meet a requirement."""
    if need.share_of_best is None:
        return need.at_least, need.at_most
    values = [_of(comparison, side).value for side in _SIDES]
    if more_is_better(comparison.measure):
        return need.share_of_best * max(values), None
    return None, min(values) / need.share_of_best


def _meets(need: Requirement, comparison: QualityComparison, side: Role) -> bool:
    least, greatest = _limit(need, comparison)
    estimate = _of(comparison, side)
    if need.share_of_best is not None:
        # The limit is an estimate too, whose uncertainty cancels against the value's: values are compared.
        return _within(estimate.value, least, greatest)
    return _within(estimate.low, least, None) and _within(estimate.high, None, greatest)


def _preferred(preferences: Sequence[Preference], found: dict[str, QualityComparison]) -> tuple[Role | None, list[str]]:
    """The side that the first decisive preference favours, and the measures that had to be looked at."""
    looked_at = []
    for preference in preferences:
        looked_at.append(preference.measure)
        if (side := _better(preference, found[preference.measure])) is not None:
            return side, looked_at
    return None, looked_at


def _better(preference: Preference, comparison: QualityComparison) -> Role | None:
    change = comparison.change
    if change is None:
        return None
    if isinstance(comparison.measure, QualityMeasure):
        neutral, matters = 0.0, abs(change.value) >= preference.minimum
    else:
        ratio = max(change.value, 1 / change.value) if change.value > 0 else float("inf")
        neutral, matters = 1.0, ratio >= preference.minimum_ratio
    if not (matters and comparison.distinct):
        return None
    return "candidate" if (change.value > neutral) == (more_is_better(comparison.measure)) else "baseline"


def _requirement_text(need: Requirement, comparison: QualityComparison, evidence: Evidence) -> str:
    least, greatest = _limit(need, comparison)
    limit, signs = (greatest, ("<=", ">")) if least is None else (least, (">=", "<"))
    measure = comparison.measure
    parts = []
    for side, name in zip(_SIDES, (evidence.candidate, evidence.baseline), strict=True):
        estimate = _of(comparison, side)
        text = f"{name} {_value(estimate.value, unit_of(measure))}"
        sign = signs[0] if _meets(need, comparison, side) else signs[1]
        if sign == signs[1] and _within(estimate.value, least, greatest):
            text += f" [{_number(estimate.low)}, {_number(estimate.high)}]"
            sign = f"not safely {signs[0]}"
        parts.append(f"{text} {sign} {_value(limit, unit_of(measure))}")
    share = f" ({need.share_of_best:.0%} of the better)" if need.share_of_best is not None else ""
    return f"{measure.label}: {', '.join(parts)}{share}"


def _within(value: float, least: float | None, greatest: float | None) -> bool:
    return (least is None or value >= least) and (greatest is None or value <= greatest)


def _change_text(comparison: QualityComparison, side: Role) -> str:
    """The change seen from one side: a difference of qualities, a ratio of everything else."""
    measure, change = comparison.measure, comparison.change
    if change is None:
        return comparison.missing
    if isinstance(measure, QualityMeasure):
        seen = change if side == "candidate" else Estimate(-change.value, -change.high, -change.low)
        return f"{measure.label} {_difference_text(seen, comparison.distinct)}"
    ours, theirs = _of(comparison, side), _of(comparison, _SIDES[1 - _SIDES.index(side)])
    ratio = change if side == "candidate" else Estimate(1 / change.value, 1 / change.high, 1 / change.low)
    bounds = "" if ratio.low == ratio.high else f" [{_number(ratio.low)}, {_number(ratio.high)}]"
    return (
        f"{measure.label} {_value(ours.value, unit_of(measure))} against {_value(theirs.value, unit_of(measure))}, "
        f"{_number(ratio.value)}x{bounds}"
    )


def _difference_text(change: Estimate, distinct: bool) -> str:
    if not distinct:
        return f"not distinguishable ({change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}])"
    if change.value > 0:
        return f"higher by {change.value:.3f} [{change.low:.3f}, {change.high:.3f}]"
    return f"lower by {-change.value:.3f} [{-change.high:.3f}, {-change.low:.3f}]"


def _value(value: float | None, unit: str) -> str:
    return f"{_number(value or 0.0)} {unit}".rstrip()


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"
