"""How numbers are written in every table, chart and sentence."""

from __future__ import annotations

from collections.abc import Sequence

from embrepro.results.summary import Interval

DASH = "\u2013"


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
