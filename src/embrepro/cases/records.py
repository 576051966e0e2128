"""What a case found, as it is kept for the claims about it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from embrepro import kit
from embrepro.files import read_model
from embrepro.layout import Layout

RECORD = kit.CONF / "cases" / "languages.json"


class CaseRun(BaseModel):
    """One task of one model, asked for by one language code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    language: str
    task: str
    score: float | None = Field(description="main score, 0-1; null where the result file holds none")
    seconds: float | None = Field(description="mteb's evaluation time; null where it left no result file")
    error: str | None = Field(description="what mteb raised; null where it said nothing")


class CaseRecord(BaseModel):
    """What one version of mteb made of each language code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mteb: str
    models: dict[str, str] = Field(description="model -> content hash of its files")
    data: dict[str, str] = Field(description="task -> hash of its frozen data")
    runs: list[CaseRun]
    problem: str | None = Field(default=None, description="why the case could not be run")


def record_file(layout: Layout) -> Path:
    """Where the record lies."""
    return layout.root / RECORD


def read_record(layout: Layout) -> CaseRecord | None:
    """The record of the last run of the case, if there is one."""
    path = kit.find(record_file(layout), RECORD)
    return read_model(path, CaseRecord) if path.is_file() else None
