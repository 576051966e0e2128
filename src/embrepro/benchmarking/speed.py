"""Speed and size of a model as the benchmark stage measures them, and as the report reads them (`reports/speed.json`)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RepeatedMeasure(_Document):
    """A repeated measurement: its median and a 95 % interval of the median."""

    median: float
    low: float
    high: float
    repeats: int


class Throughput(_Document):
    """Texts of one length class at one batch size; of a cross-encoder, pairs of a query and such a text."""

    length: str = Field(description="short, medium or long")
    tokens_per_text: float
    batch_size: int
    texts_per_second: RepeatedMeasure
    tokens_per_second: RepeatedMeasure


class Latency(_Document):
    """Time of a single query, in milliseconds."""

    p50: float
    p95: float
    p99: float
    samples: list[float] = Field(description="milliseconds, in the order measured")


class ModelSpeed(_Document):
    """One model, measured in turn with the baseline in the same process."""

    model: str
    load_seconds: RepeatedMeasure
    peak_memory_mb: float = Field(description="resident set at its peak, 1 MB = 10^6 bytes")
    throughput: list[Throughput]
    latency: Latency
    size_mb: float
    dimensions: int | None
    parameters: int
    max_seq_length: int | None
    normalised: bool
    pairs: bool = Field(default=False, description="whether a text is a pair of a query and a text: of a cross-encoder")


class Machine(_Document):
    """Where the times were taken."""

    processor: str
    cores: int
    threads: int
    device: str
    memory_gb: float
    system: str
    busy: float | None = Field(
        default=None,
        description="share of the cores' time, 0 to 1, that other processes took while a model was measured, the most of all "
        "models; None where it is not known",
    )


class SpeedReport(_Document):
    """All models of a run; `ratio[candidate key]` is candidate over baseline of the same run."""

    baseline: str
    machine: Machine
    models: dict[str, ModelSpeed]
    throughput_ratio: dict[str, RepeatedMeasure] = Field(
        description="texts per second, model over baseline, over the settings both have"
    )
    latency_ratio: dict[str, RepeatedMeasure] = Field(
        description="baseline p50 over model p50: above 1 the model is faster"
    )
