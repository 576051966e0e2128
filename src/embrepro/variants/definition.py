"""Which variants of stored embeddings there are, and what a vector of each takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from embrepro.config.messages import suggest
from embrepro.errors import ConfigError

Precision = Literal["int8", "uint8", "binary"]
"""Of sentence-transformers' `quantize_embeddings`; its `ubinary` has the bits of `binary`, and so its scores."""
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True)
class Variant:
    """Embeddings cut to their first dimensions, then quantised; `rescored` says that searches rank the best of it again."""

    dimensions: int
    precision: Precision | None = None
    rescored: bool = False
    multiplier: int = 2

    @property
    def label(self) -> str:
        """Such as `256 int8, rescored`."""
        kind = f" {self.precision}" if self.precision else ""
        return f"{self.dimensions}{kind}{', rescored' if self.rescored else ''}"

    def bytes_per_vector(self, itemsize: int) -> int:
        """Bytes that a document takes in an index; `itemsize` is that of a number of the full embeddings."""
        if self.precision == "binary":
            return (self.dimensions + 7) // 8
        return self.dimensions * (itemsize if self.precision is None else 1)


def variants(
    full: int, dimensions: Sequence[int], precisions: Sequence[Precision], multiplier: int = 2
) -> list[Variant]:
    """Every combination of a length and a precision but the full embeddings, quantised ones with and without rescoring.

    Args:
        full: length of the full embeddings.
        dimensions: lengths to cut to; the full one is always among them.
        precisions: what to quantise to.
        multiplier: how many times as many documents as are asked for a search ranks again.

    Raises:
        ConfigError: a length that is none, or nothing is asked for.
    """
    for length in dimensions:
        if not 0 < length < full:
            raise ConfigError(
                f"--dimensions: the model has {full} dimensions, so cut to 1 to {full - 1}, not to {length}"
            )
    if not dimensions and not precisions:
        raise ConfigError(f"Say what to make: --dimensions 256,128 or --precision {','.join(PRECISIONS)}, or both.")
    found = []
    for length in [full, *sorted(set(dimensions), reverse=True)]:
        found += [Variant(length)] if length < full else []
        for precision in dict.fromkeys(precisions):
            found += [Variant(length, precision, rescored, multiplier) for rescored in (False, True)]
    return found


def read_lengths(words: str) -> list[int]:
    """Lengths from words such as `256,128`; raises ConfigError at any other."""
    parts = [word.strip() for word in words.split(",") if word.strip()]
    if wrong := [part for part in parts if not part.isdigit()]:
        raise ConfigError(f"--dimensions: '{wrong[0]}' is no number of dimensions; say such as 256,128")
    return [int(part) for part in parts]


def read_precisions(words: str) -> list[Precision]:
    """Precisions from words such as `int8,binary`; raises ConfigError at any other."""
    parts = [word.strip() for word in words.split(",") if word.strip()]
    if wrong := [part for part in parts if part not in PRECISIONS]:
        raise ConfigError(f"--precision: there is no '{wrong[0]}'{suggest(wrong[0], PRECISIONS)}")
    return [cast(Precision, part) for part in parts]
