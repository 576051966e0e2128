"""Which of several choices no other one beats."""

from __future__ import annotations

from collections.abc import Sequence


def undominated(points: Sequence[Sequence[float | None]]) -> list[bool]:
    """Whether each point lies on the Pareto front: none is at least as good in everything and better in something.

    Args:
        points: of one length; in each place more is better. A point with a None neither beats another nor is beaten.
    """
    return [not any(_dominates(other, point) for other in points) for point in points]


def _dominates(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    pairs = [(ours, theirs) for ours, theirs in zip(one, other, strict=True) if ours is not None and theirs is not None]
    whole = len(pairs) == len(one)
    return whole and all(ours >= theirs for ours, theirs in pairs) and any(ours > theirs for ours, theirs in pairs)
