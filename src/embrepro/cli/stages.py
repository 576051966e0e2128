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


def case(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="languages (mteb 1.39.7, en against eng); or its stage, case@languages."),
    ],
    again: Annotated[
        bool, typer.Option("--again", help="Run every model, so that mteb's own result files lie there.")
    ] = False,
) -> None:
    """Run a documented fault of another version of mteb in its own environment, and record it for the claims about it."""
    # By hand it may fetch the data it needs; among the stages there is no network.
    config = read_offline() if "@" in name else read_params()
    from embrepro.cases import languages, records
    from embrepro.pipeline import case as stage
    from embrepro.rendering.formats import DASH

    layout = Layout()
    record = stage.run(config, layout, _key(name), again=again)
    for each in record.runs:
        score = DASH if each.score is None else f"{each.score:.4f}"
        seconds = DASH if each.seconds is None else f"{each.seconds:.3g} s"
        typer.echo(f"mteb {record.mteb}  {each.language:4} {each.model} {each.task}: {score} in {seconds}")
    typer.echo(
        f"record: {records.record_file(layout)}; examine: embrepro doctor {languages.results_folder(layout) / 'en'}"
    )


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
