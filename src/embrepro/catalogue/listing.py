"""Which models there are, by what is published of them and what the last run measured; filters and orders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import eq, ge, gt, le, lt
from pathlib import Path
from typing import Any

from embrepro import kit
from embrepro.benchmarking.speed import SpeedReport
from embrepro.config.messages import suggest
from embrepro.config.model_files import FIGURES, ModelFile, PublishedFigure, read_model_files
from embrepro.errors import ConfigError
from embrepro.files import read_model
from embrepro.results.quantities import QUANTITIES, Measurements, Reading, read_quantity
from embrepro.results.summary import Summary

PROPERTIES = ("dimensions", "parameters", "max_seq_length", "normalised", "score_functions", "size_mb", "licence")
WORDS = ("model", "name", "family", "pinned")
MEASURED = "measured."
"""What the name of a measured value starts with, in filters and orders."""
MEAN = "mean_task"

_CONDITION = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=|==|=|<|>)\s*(\S.*?)\s*")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {"<=": le, ">=": ge, "<": lt, ">": gt}


@dataclass(frozen=True)
class CatalogueEntry:
    """One model: its file, and what the last run measured of it, by name; a mean score is times 100."""

    file: ModelFile
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, PublishedFigure]:
        """The published figures, by name."""
        return dict(self.file.published.figures) if self.file.published else {}

    def value(self, name: str) -> Any:  # noqa: ANN401 - a number, a word or a list of words
        """A property, a published figure or a measured value; None where it is not known."""
        model, published = self.file.model, self.file.published
        if name in WORDS:
            words = {"model": self.file.key, "name": model.full_name, "family": model.family}
            return words.get(name, self.file.pinned)
        if name.startswith(MEASURED):
            return self.measured.get(name.removeprefix(MEASURED))
        if name in FIGURES:
            return figure.value if (figure := self.figures.get(name)) else None
        return getattr(published, name) if published else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: published and measured ones apart."""
        published = self.file.published
        return {
            **{name: self.value(name) for name in WORDS},
            "published": published.model_dump(exclude_none=True) if published else None,
            "measured": self.measured or None,
        }


def catalogue(conf: Path = kit.CONF, reports: Path = Path("reports")) -> list[CatalogueEntry]:
    """All models by key, with what the last run in `reports` measured.

    Raises:
        ConfigError: a model's file is faulty.
    """
    summary_file, speed_file = reports / "summary.json", reports / "speed.json"
    summary = read_model(summary_file, Summary) if summary_file.is_file() else None
    speed = read_model(speed_file, SpeedReport) if speed_file.is_file() else None
    return [CatalogueEntry(file, _measured(file, summary, speed)) for file in read_model_files(conf).values()]


def _measured(file: ModelFile, summary: Summary | None, speed: SpeedReport | None) -> dict[str, float]:
    """Every quantity and the mean score of a model that is in the run under its key and its name."""
    card = summary.models.get(file.key) if summary else None
    if summary is None or card is None or card.name != file.model.full_name:
        return {}
    known = Measurements(card, speed.models.get(file.key) if speed else None)
    readings = {name: read_quantity(name, file.key, known) for name in QUANTITIES}
    found = {name: one.value for name, one in readings.items() if isinstance(one, Reading)}
    mean = summary.means[file.key].mean_task
    return found if mean is None else {MEAN: 100 * mean, **found}


def names() -> list[str]:
    """Every name that filters and orders know."""
    measured = (MEAN, *QUANTITIES)
    return [*WORDS, *PROPERTIES, *FIGURES, *(f"{MEASURED}{name}" for name in measured)]


def keep(entries: Iterable[CatalogueEntry], conditions: Sequence[str]) -> list[CatalogueEntry]:
    """Those that meet every condition, such as `dimensions<=384`, `family=sparse`, `measured.latency_p50_ms<5`.

    A model of which a value is not known meets no condition on it.

    Raises:
        ConfigError: a condition that cannot be read, or an unknown name, with the nearest known ones.
    """
    parsed = [_parsed(condition) for condition in conditions]
    return [entry for entry in entries if all(meets(entry) for meets in parsed)]


def _parsed(condition: str) -> Callable[[CatalogueEntry], bool]:
    found = _CONDITION.fullmatch(condition)
    if not found:
        raise ConfigError(f"--where: expected a name, one of <= >= < > =, and a value; got {condition!r}")
    name, sign, text = found.groups()
    expect_name(name, "--where")
    if sign in _COMPARE:
        try:
            wanted = float(text)
        except ValueError:
            raise ConfigError(f"--where: {name}{sign} takes a number; got {text!r}") from None
        return lambda entry: isinstance(value := entry.value(name), int | float) and _COMPARE[sign](value, wanted)
    return lambda entry: _equals(entry.value(name), text)


def _equals(value: Any, text: str) -> bool:  # noqa: ANN401
    if isinstance(value, bool):
        return text.lower() in (("yes", "true") if value else ("no", "false"))
    if isinstance(value, int | float):
        return str(value) == text or f"{value:g}" == text
    words = value if isinstance(value, list) else [value]
    return any(eq(str(word).casefold(), text.casefold()) for word in words if word is not None)


def order(entries: Iterable[CatalogueEntry], by: str, *, reverse: bool = False) -> list[CatalogueEntry]:
    """By a value: figures and scores from the highest, all else from the lowest; unknown ones come last.

    Raises:
        ConfigError: an unknown name, with the nearest known ones.
    """
    expect_name(by, "--sort")
    plain = by.removeprefix(MEASURED)
    falling = by in FIGURES or plain == MEAN or (plain != by and QUANTITIES[plain].better == "higher")
    listed = list(entries)
    known = [entry for entry in listed if entry.value(by) is not None]
    found = sorted(known, key=lambda entry: _sortable(entry.value(by)), reverse=falling != reverse)
    return found + [entry for entry in listed if entry.value(by) is None]


def _sortable(value: Any) -> Any:  # noqa: ANN401
    return ", ".join(value) if isinstance(value, list) else value


def expect_name(name: str, option: str) -> None:
    """Raise ConfigError unless filters and orders know the name."""
    if name not in names():
        raise ConfigError(f"{option}: no property, figure or measured value is called '{name}'{suggest(name, names())}")
