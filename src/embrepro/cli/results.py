"""Commands that look at results: claims, published scores, and what is wrong with a folder of results."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Annotated, get_args

import typer

from embrepro.cli.program import CANNOT_JUDGE, STYLE, ends_with_2, read_offline, read_pinned, show
from embrepro.errors import ConfigError
from embrepro.layout import Layout
from embrepro.progress import console
from embrepro.results.summary import ClaimVerdict


def claims(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Claims files; those of the configuration by default.")
    ] = None,
    only: Annotated[ClaimVerdict | None, typer.Option("--only", help="Show claims of this verdict alone.")] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Print how many claims have which verdict.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Print those that the run does not decide, too.")] = False,
) -> None:
    """Hold claims against the last run: claimed, measured, published, verdict."""
    config = read_offline()
    from embrepro.claims.pages import claims_page
    from embrepro.files import dump_json
    from embrepro.pipeline import report as stage
    from embrepro.rendering import render_terminal

    chosen = files or config.claim_files
    if not chosen:
        raise ConfigError(
            "The configuration names no claims. Give their files, such as conf/documents/claims/analysis.yaml, or run a preset "
            "that names them: dvc exp run -S +experiment=analysis"
        )
    judged = stage.verdicts(*stage.read(Layout()), chosen, stage.read_cases(Layout()))
    found = [verdict for verdict in judged if not only or verdict.verdict == only]
    if summary:
        counts = Counter(verdict.verdict for verdict in found)
        typer.echo("\n".join(f"{counts[outcome]:5} {outcome}" for outcome in get_args(ClaimVerdict) if counts[outcome]))
    elif as_json:
        typer.echo(dump_json([verdict.model_dump() for verdict in found]), nl=False)
    else:
        render_terminal.show(claims_page([verdict.row() for verdict in found]), unfold=every or only is not None)


def doctor(
    folder: Annotated[Path, typer.Argument(help="A folder of results of mteb 1.x or 2.x, or of the kit.")],
) -> None:
    """Examine results for lost and impossible scores, and name the likely cause."""
    console.go_offline()
    from embrepro.doctor import examination
    from embrepro.doctor.pages import findings_page
    from embrepro.rendering import render_terminal
    from embrepro.tasks import registry

    found = examination.examine(folder, lookup=registry.find)
    render_terminal.show(findings_page(found))
    if any(finding.severity == "error" for finding in found):
        raise typer.Exit(1)


def variants(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Key of a model of the last run.")],
    dimensions: Annotated[str, typer.Option(help="Cut embeddings to these lengths, such as 256,128.")] = "",
    precision: Annotated[str, typer.Option(help="Quantise them: any of int8,uint8,binary.")] = "",
    rescore_multiplier: Annotated[
        int, typer.Option(min=1, help="Rescoring ranks this many times as many documents as are asked for.")
    ] = 2,
    style: STYLE = "table",
) -> None:
    """Score a model's stored embeddings cut or quantised, each against the full model; writes reports/variants/MODEL.json."""
    config = read_pinned()
    from embrepro.pipeline import variants as scoring
    from embrepro.variants import definition
    from embrepro.variants.pages import variants_page

    asked = definition.read_lengths(dimensions), definition.read_precisions(precision)
    show(
        variants_page(scoring.run(config, Layout(), model.rpartition("@")[2], *asked, rescore_multiplier)), None, style
    )


def verify(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files of expected scores; default: conf/expected/*.yaml.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write this Markdown page, and what was measured as JSON beside it.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="A line for each number that was not run, too.")] = False,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Instead: hash, score and summarize everything again, and embed a random part."),
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="With --deep: which part; default: another each day.")] = None,
) -> None:
    """Hold the last run against published scores: exit 0, 1 where one is a FAIL, 2 where nothing could be judged."""
    if deep:
        _verify_deep(seed)
        return
    with ends_with_2():
        from embrepro.files import write_json, write_text
        from embrepro.regression import published, reproduced
        from embrepro.rendering import render_markdown, render_terminal

        expectations = published.load(files or [])
        measured = reproduced.last_run(Layout())
        judged = reproduced.judge(expectations, measured)
        if write:
            write_text(write, render_markdown.render(reproduced.reproduced_page(expectations, judged, measured)))
            write_json(write.with_suffix(".json"), measured.model_dump())
        render_terminal.show(reproduced.published_page(expectations, judged, measured, every=every))
    if any(each.verdict == "FAIL" for each in judged):
        raise typer.Exit(1)


def _verify_deep(seed: int | None) -> None:
    with ends_with_2():
        config = read_pinned()
        from embrepro.pipeline import deep
        from embrepro.regression.recomputed import recomputed_page
        from embrepro.rendering import render_terminal

        found = deep.verify(config, Layout(), seed if seed is not None else date.today().toordinal())
        render_terminal.show(recomputed_page(found))
    if any(each.verdict == "FAIL" for each in found):
        raise typer.Exit(1)
    if any(each.verdict == "not judged" for each in found):
        raise typer.Exit(CANNOT_JUDGE)
