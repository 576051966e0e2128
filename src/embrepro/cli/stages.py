"""Commands of the pipeline: one for each kind of stage in `dvc.yaml`."""

from __future__ import annotations

from typing import Annotated

import typer

from embrepro import numerics
from embrepro.cli.program import read_offline, read_pinned
from embrepro.config.params import read_params
from embrepro.layout import Layout

ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Key of a model in params.yaml, such as minilm; or its stage, encode@minilm."),
]


def download() -> None:
    """Fetch, check and freeze models and tasks. The only stage that uses a network."""
    config = read_params()
    numerics.pin(config.device.numerics)
    from embrepro.pipeline import download as stage

    stage.run(config, Layout())


def encode(
    model: ModelName,
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Encode every n-th shard, from the i-th on; merge nothing.")
    ] = None,
) -> None:
    """Embed every task's distinct texts with a model."""
    config = read_pinned()
    from embrepro.pipeline import encode as stage

    stage.run(config, Layout(), _key(model), stage.parse_part(shard) if shard else (1, 1))


def evaluate(model: ModelName) -> None:
    """Score a model by mteb's own task code over its stored embeddings."""
    config = read_pinned()
    from embrepro.pipeline import evaluate as stage

    stage.run(config, Layout(), _key(model))


def benchmark(model: ModelName) -> None:
    """Measure a model's speed, memory and size in turn with the baseline's."""
    # Speed is measured as users have it: with every instruction and thread that the libraries choose.
    config = read_offline()
    from embrepro.pipeline import benchmark as stage

    stage.run(config, Layout(), _key(model))


def aggregate() -> None:
    """Compare the models and write the metrics."""
    config = read_pinned()
    from embrepro.pipeline import aggregate as stage

    stage.run(config, Layout())


def report() -> None:
    """Write report.md and report.html."""
    config = read_pinned()
    from embrepro.pipeline import report as stage

    stage.run(config, Layout())


def check() -> None:
    """Fail where a requested task has no score, naming each with its reason."""
    config = read_pinned()
    from embrepro.pipeline import check as stage

    stage.run(config, Layout())


def _key(model: str) -> str:
    """The key in the name of a stage: `dvc.yaml` passes DVC_STAGE, which no shell reads as anything but one word."""
    return model.rpartition("@")[2]
