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


def fraction(value: float | None) -> str:
    """A 0-1 score as it stands in result files, with four digits; a dash where there is none."""
    return DASH if value is None else f"{value:.4f}"


def signed_fraction(value: float, digits: int = 4) -> str:
    """A difference of 0-1 scores with its sign; none where it rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]


def fraction_interval(interval: Interval | None) -> str:
    """An interval of 0-1 scores."""
    return f"[{interval.low:.4f}, {interval.high:.4f}]" if interval else ""


def signed_fraction_interval(interval: Interval | None) -> str:
    """An interval of a difference of 0-1 scores; a dash where there is none."""
    return f"[{signed_fraction(interval.low)}, {signed_fraction(interval.high)}]" if interval else DASH


def short_interval(interval: Interval | None) -> str:
    """An interval of a quantity with four significant digits."""
    return f"[{interval.low:.4g}, {interval.high:.4g}]" if interval else ""


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


def shorten(text: str, length: int) -> str:
    """Text of at most `length` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


def yes_no(value: bool | None) -> str:
    """A truth value in words; a dash where it is not known."""
    return DASH if value is None else ("yes" if value else "no")


def names(values: Sequence[str]) -> str:
    """A list in a cell; a dash where it is empty."""
    return ", ".join(values) or DASH
