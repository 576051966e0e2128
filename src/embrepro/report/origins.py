"""Where a number comes from: the data, the model and the command behind it, for one click to open."""

from __future__ import annotations

from embrepro.benchmarking.speed import SpeedReport
from embrepro.rendering.formats import DASH, names, score, signed
from embrepro.rendering.model import Fact, Origin
from embrepro.results.provenance import Provenance
from embrepro.results.result_files import result_file
from embrepro.results.summary import LegacyScore, ModelCard, ScoreDifference, Summary, TaskRow


class Origins:
    """Origins by number, counted in the order of asking, so that no name ends up in an identifier."""

    def __init__(self, summary: Summary, provenance: Provenance, speed: SpeedReport | None = None) -> None:
        """Start with none; `of_*` add what they describe."""
        self._speed = speed
        self._summary = summary
        self._provenance = provenance
        self._found: dict[tuple[str, ...], Origin] = {}

    @property
    def all(self) -> list[Origin]:
        """Every origin that a table refers to."""
        return list(self._found.values())

    def of_score(self, task: TaskRow, model: str) -> str:
        """The origin of the main score of `model` on `task`."""
        card, cell = self._summary.models[model], task.cells[model]
        number = f"{task.metric} = {cell.score!r}" if cell.score is not None else cell.status
        facts = [*_data_facts(task), *_model_facts(card), *self._score_facts(task, card)]
        return self._add(("score", task.name, model), f"{task.name}, {model}", number, facts)

    def of_mean(self, kind: str, model: str, value: float) -> str:
        """The origin of a mean over tasks or over types."""
        number = f"{kind} = {value!r}"
        over = "all requested tasks" if kind == "mean_task" else "the means of all task types"
        scores = "; ".join(
            f"{task.name} {score(cell.score)}"
            for task in self._summary.tasks
            if (cell := task.cells.get(model)) is not None and cell.score is not None
        )
        facts = [
            Fact("computed as", f"unweighted mean over {over}"),
            Fact("from", scores),
            *_model_facts(self._summary.models[model]),
            *self._command_facts("aggregate"),
            Fact("file", f"reports/metrics.json, models.{model}.{kind}", code=True),
        ]
        return self._add((kind, model), f"{_MEANS[kind]}, {model}", number, facts)

    def of_mean_difference(self, kind: str, difference: ScoreDifference) -> str:
        """The origin of the difference of the two models' means, over tasks, over types, or over those of one type."""
        before, after = self._summary.baseline, self._summary.candidate
        tasks = [task for task in self._summary.tasks if kind in (*_MEANS, task.type)]
        of_tasks = "; ".join(f"{t.name} {signed(t.difference.estimate)}" for t in tasks if t.difference)
        facts = [
            Fact("in words", difference.sentence),
            Fact(
                "computed as",
                "weighted mean of the tasks' paired differences, their standard errors combined as those of independent"
                " samples; the interval holds the uncertainty of the samples, not that of the choice of tasks",
            ),
            Fact("from", of_tasks),
            *([] if difference.p_value is None else [Fact("p-value", f"{difference.p_value:.4g}")]),
            *self._command_facts("aggregate"),
        ]
        title = f"{_MEANS.get(kind, f'Mean over {kind}')}, {after} minus {before}"
        return self._add(("mean difference", kind), title, f"difference = {difference.estimate!r}", facts)

    def of_type(self, name: str, model: str, value: float) -> str:
        """The origin of the mean over the tasks of one type."""
        found = [task for task in self._summary.tasks if task.type == name]
        scores = "; ".join(
            f"{t.name} {score(c.score)}" for t in found if (c := t.cells.get(model)) and c.score is not None
        )
        facts = [
            Fact("computed as", f"unweighted mean over the {len(found)} requested tasks of type {name}"),
            Fact("from", scores),
            *_model_facts(self._summary.models[model]),
            *self._command_facts("aggregate"),
        ]
        return self._add(("type", name, model), f"Mean over {name}, {model}", f"mean = {value!r}", facts)

    def of_difference(self, task: TaskRow, difference: ScoreDifference) -> str:
        """The origin of the difference of the two models on `task`."""
        before, after = self._summary.baseline, self._summary.candidate
        scores = {key: task.cells[key].score for key in (before, after)}
        figures = {
            "p-value": difference.p_value,
            "p-value, corrected for the number of tasks": difference.p_adjusted,
            "effect size": difference.effect_size,
        }
        facts = [
            Fact("in words", difference.sentence),
            Fact(
                "computed as",
                f"{after} {scores[after]!r} minus {before} {scores[before]!r}, paired by sample",
            ),
            *[Fact(label, f"{value:.4g}") for label, value in figures.items() if value is not None],
            *_data_facts(task),
            *self._command_facts("aggregate"),
            *[
                Fact("result file", result_file(self._summary.models[key], task.name), code=True)
                for key in (before, after)
            ],
        ]
        title = f"{task.name}, {after} minus {before}"
        return self._add(("difference", task.name), title, f"difference = {difference.estimate!r}", facts)

    def of_speed(self, model: str) -> str:
        """The origin of everything measured about the speed of `model`."""
        card = self._summary.models.get(model)
        stages = (f"benchmark@{model}", f"benchmark@{self._summary.candidate}", "benchmark")
        stage = next((name for name in stages if name in self._provenance.commands), "")
        facts = [
            *(_model_facts(card) if card else []),
            *self._command_facts(stage or "benchmark"),
            Fact("file", f"reports/speed.json, models.{model}", code=True),
            *self._machine_facts(),
        ]
        return self._add(
            ("speed", model), f"Speed, {model}", "measured in turn with the other models, in one run", facts
        )

    def of_legacy(self, line: LegacyScore, definition: str, value: float) -> str:
        """The origin of a category's score by one definition; `definition` is trusted, first or second."""
        task = next((task for task in self._summary.tasks if task.name == line.task), None)
        card = self._summary.models.get(line.model)
        facts = [
            Fact("computed as", _DEFINITIONS[definition]),
            *(_data_facts(task) if task else []),
            *(_model_facts(card) if card else []),
            *self._command_facts(f"evaluate@{line.model}"),
            *self._command_facts("aggregate"),
        ]
        title = f"{line.category}, {line.model}"
        return self._add(("legacy", line.category, line.model, definition), title, f"{value!r}", facts)

    def _machine_facts(self) -> list[Fact]:
        if self._speed is None:
            return []
        found = self._speed.machine
        words = f"{found.processor}, {found.device}, {found.threads} threads of {found.cores} cores"
        return [Fact("machine", f"{words}, {found.memory_gb:.0f} GB, {found.system}")]

    def _score_facts(self, task: TaskRow, card: ModelCard) -> list[Fact]:
        return [
            *self._command_facts(f"evaluate@{card.key}"),
            Fact("result file", result_file(card, task.name), code=True),
        ]

    def _command_facts(self, stage: str) -> list[Fact]:
        facts = [Fact("command", f"dvc repro {stage}", code=True)]
        if command := self._provenance.commands.get(stage):
            facts.append(Fact("which runs", command, code=True))
        return facts

    def _add(self, key: tuple[str, ...], title: str, number: str, facts: list[Fact]) -> str:
        if key not in self._found:
            self._found[key] = Origin(f"origin-{len(self._found) + 1}", title, number, facts)
        return self._found[key].id


_DEFINITIONS = {
    "trusted": "the score that deserves trust: separation of positives from hard negatives",
    "first": "as the analysis defined it first, on this suite's pairs",
    "second": "as the analysis defined it the second time, on this suite's pairs",
}
_MEANS = {"mean_task": "Mean over tasks", "mean_type": "Mean over task types"}


_PINNED = {True: "yes", False: "no, its content was not compared", None: "not recorded"}


def _data_facts(task: TaskRow) -> list[Fact]:
    return [
        Fact("data", task.repository or "not recorded", code=bool(task.repository)),
        Fact("data revision", task.revision or "not recorded", code=bool(task.revision)),
        Fact("data SHA-256", task.data_hash or "not recorded", code=bool(task.data_hash)),
        Fact("data pinned", _PINNED[task.pinned]),
        Fact("served by", task.source or "not recorded"),
        Fact("licence", task.licence or "not stated"),
        Fact("splits", names(task.splits)),
        Fact("subsets", names(task.subsets)),
    ]


def _model_facts(card: ModelCard) -> list[Fact]:
    return [
        Fact("model", card.name, code=True),
        Fact("model revision", card.revision or DASH, code=True),
        Fact("model SHA-256", card.content_hash or DASH, code=True),
    ]
