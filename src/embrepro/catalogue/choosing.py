"""A document's decision tree: one question after the other, to the models that the document names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from embrepro import kit
from embrepro.config.messages import suggest
from embrepro.config.yaml_files import Strict, read_document
from embrepro.errors import ConfigError

FOLDER = kit.CONF / "documents" / "choice"


class Answer(Strict):
    """One answer: the next question, or the models that it leads to."""

    says: str
    question: str | None = Field(default=None, description="key of the next question")
    models: list[str] = Field(default_factory=list, description="files of conf/model, the first one first")
    because: str | None = Field(default=None, description="the document's reason")

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Answer:
        if bool(self.question) == bool(self.because):
            raise ValueError("an answer leads to a question, or ends with a reason (because), with or without models")
        return self


class Question(Strict):
    """One question and its answers, by a word that can be typed."""

    asks: str
    answers: Annotated[dict[str, Answer], Field(min_length=2)]


class DecisionTree(Strict):
    """A document's decision tree."""

    title: str
    document: str
    start: str
    questions: dict[str, Question]

    @model_validator(mode="after")
    def _is_a_tree(self) -> DecisionTree:
        reached = [self.start]
        for key in reached:
            if key not in self.questions:
                raise ValueError(f"no question '{key}'{suggest(key, self.questions)}")
            for answer in self.questions[key].answers.values():
                if answer.question in reached:
                    raise ValueError(f"question '{answer.question}' is reached in two ways, or by itself")
                reached += [answer.question] if answer.question else []
        if lost := [key for key in self.questions if key not in reached]:
            raise ValueError(f"no answer leads to question '{lost[0]}'")
        return self

    def models(self) -> Iterator[str]:
        """Every model that some answer leads to."""
        for question in self.questions.values():
            for answer in question.answers.values():
                yield from answer.models


@dataclass(frozen=True)
class Walk:
    """The questions that were answered, in order, each with its answer; and what is still to ask."""

    steps: list[tuple[Question, Answer]]
    open: Question | None

    @property
    def last(self) -> Answer:
        """The answer that was given last."""
        return self.steps[-1][1]


def read_tree(name: str, folder: Path = FOLDER) -> DecisionTree:
    """Read a decision tree of `conf/documents/choice`; raises ConfigError where it is faulty."""
    path = kit.find(folder / f"{name}.yaml", FOLDER / f"{name}.yaml")
    return read_document(path, DecisionTree, "a decision tree", "docs/choosing.md")


def walk(tree: DecisionTree, words: Sequence[str]) -> Walk:
    """Answer the questions of a tree in order.

    Args:
        tree: the tree.
        words: an answer to each question in turn; fewer than there are questions leave one open.

    Raises:
        ConfigError: a word is no answer to its question, or one is left over.
    """
    steps: list[tuple[Question, Answer]] = []
    question: Question | None = tree.questions[tree.start]
    for word in words:
        if question is None:
            raise ConfigError(f"'{word}' answers nothing: no question is left after '{words[len(steps) - 1]}'.")
        if word not in question.answers:
            raise ConfigError(f"{question.asks} '{word}' is no answer{suggest(word, question.answers)}")
        answer = question.answers[word]
        steps.append((question, answer))
        question = tree.questions[answer.question] if answer.question else None
    return Walk(steps, question)
