"""Whether a published score is the one in mteb's result file, and the one that its per-sample scores give."""

from __future__ import annotations

from pathlib import Path

from embrepro.errors import KitError
from embrepro.results.summary import Summary
from embrepro.statistics import estimates
from embrepro.statistics.resampling import StatisticsError
from embrepro.tasks import main_scores, samples
from embrepro.tasks.samples import Samples

TOLERANCE = 1.1e-5
"""How far a score may lie from what its samples give: mteb rounds the scores of retrieval to five digits."""


def expect_agreement(score: float, found: Samples, what: str) -> None:
    """Compare a score with what its per-sample scores give; where they define none, there is nothing to compare.

    Args:
        score: main score, 0-1.
        found: per-sample scores.
        what: whose score it is and where it stands, for the message.

    Raises:
        KitError: they differ.
    """
    if not found.statistic or found.frame.is_empty():
        return
    try:
        recomputed = estimates.point(found.frame, found.statistic)
    except StatisticsError:
        return
    if not abs(score - recomputed) <= TOLERANCE:
        raise KitError(
            f"{what} is {score:.5f}, but its per-sample scores give {recomputed:.5f}: one of the two was changed after it "
            "was computed. Run: dvc repro --force"
        )


def expect_published(summary: Summary, root: Path) -> None:
    """Compare every score of a summary with its result file and its samples, as far as these are here.

    Args:
        summary: what a run found.
        root: the project's folder.

    Raises:
        KitError: a score differs.
    """
    for key, card in summary.models.items():
        folder = root / "results" / card.name.replace("/", "__") / card.revision
        for row in summary.tasks:
            score = row.cells[key].score
            if score is not None:
                expect_score(score, folder, row.name, key)


def expect_score(score: float, folder: Path, task: str, key: str) -> None:
    """Compare one published score of a model with its result file and its samples in a folder of results, if there.

    Raises:
        KitError: it differs, or a file is damaged.
    """
    path = main_scores.path_of(folder, task)
    what = f"the published score of {key} on {task}"
    if path.is_file() and (written := main_scores.read_main_score(path)) != score:
        raise KitError(f"{what} is {score:.5f}, but {path} says {written:.5f}. Run: dvc repro --force aggregate")
    if (kept := samples.path_of(folder, task)).is_file():
        expect_agreement(score, samples.read(kept), what)
