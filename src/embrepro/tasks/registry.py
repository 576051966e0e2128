"""From what is asked for to tasks: names, a benchmark, languages and subsets, resolved and checked before any work.

Requested tasks and resolved tasks are the same set: a name that mteb does not know, a language no subset has, or a
filter that would leave a task empty is an error here, never a shorter list.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embrepro import suite
from embrepro.config.messages import suggest
from embrepro.config.schema import Tasks
from embrepro.errors import ConfigError
from embrepro.own_data import definition as own_files
from embrepro.tasks import first_stage

if TYPE_CHECKING:
    from mteb import AbsTask


@dataclass(frozen=True)
class Request:
    """One requested task, with the subsets and splits to score; `parts` are the members of an aggregate task.

    The others are what stages need to know of it without importing mteb: its type and main score as mteb names them, where
    its data comes from (mteb's `dataset`, as JSON), and whether it searches a corpus (`first_stage.is_searched`).
    """

    name: str
    subsets: tuple[str, ...]
    splits: tuple[str, ...]
    parts: tuple[Request, ...] = ()
    type: str = ""
    metric: str = ""
    dataset: str = "{}"
    searched: bool = False

    def leaves(self) -> tuple[Request, ...]:
        """The tasks that hold data: the parts of an aggregate, else the task itself."""
        return self.parts or (self,)


def resolve(tasks: Tasks) -> list[Request]:
    """The requests of a configuration, in its order.

    Raises:
        ConfigError: an unknown task, benchmark, language or subset, or a filter that leaves a task without data.
    """
    languages = [_language(code) for code in tasks.languages] if tasks.languages is not None else None
    if tasks.languages == []:
        raise ConfigError(
            "tasks.languages is an empty list, which would leave nothing to score; use null for all languages."
        )
    chosen = [find(name) for name in tasks.names] if tasks.names else _benchmark(tasks.benchmark)
    if tasks.nanobeir:
        there = {task.metadata.name for task in chosen}
        chosen += [find(name) for name in tasks.nanobeir.task_names if name not in there]
    for name in tasks.subsets:
        if name not in {task.metadata.name for task in chosen}:
            requested = [task.metadata.name for task in chosen]
            raise ConfigError(
                f"tasks.subsets names {name}, which is not among the requested tasks{suggest(name, requested)}"
            )
    return [_request(task, languages, tasks.subsets.get(task.metadata.name)) for task in chosen]


def request(name: str) -> Request:
    """A task by its name with all its subsets and splits; raises ConfigError where there is none."""
    return _request(find(name), None, None)


def create(request: Request) -> AbsTask:
    """A fresh mteb task with the request's subsets and splits; creating it seeds mteb's random generators.

    Raises:
        ConfigError: there is no such task.
    """
    task = find(request.name)
    task.hf_subsets = list(request.subsets)
    return task.filter_eval_splits(list(request.splits))


def add(task_class: type[AbsTask]) -> None:
    """Make a task of one's own known by its name, beside mteb's."""
    _ADDED[task_class.metadata.name] = task_class


def is_added(name: str) -> bool:
    """Whether it was `add` that made a task known: this process alone knows it."""
    return name in _ADDED


def is_own(task: AbsTask) -> bool:
    """Whether a task is none of mteb's, so that its data comes from its own code or from one's own files."""
    return task.metadata.name in _own_tasks() or own_files.exists(task.metadata.name)


def find(name: str) -> AbsTask:
    """A fresh task by its name, mteb's or one's own, as it is defined: all subsets and splits.

    Raises:
        ConfigError: there is no such task, with the nearest ones; or one's own is malformed, or called like another.
    """
    import mteb

    own = _own_tasks()
    if own_files.exists(name):
        return _from_files(name)
    if name in own:
        return own[name]()
    try:
        return mteb.get_task(name)
    except KeyError:
        known = [task.metadata.name for task in mteb.get_tasks(exclude_superseded=False)]
        hint = suggest(name, [*known, *own, *own_files.names()])
        raise ConfigError(f"tasks.names: there is no task '{name}'{hint}") from None


def _from_files(name: str) -> AbsTask:
    """A task of `own-data/`, whose name no other task has."""
    from mteb.get_tasks import _TASKS_REGISTRY

    from embrepro.own_data import tasks as own_tasks

    own_files.expect_name(name)
    if name in _own_tasks() or name in _TASKS_REGISTRY:
        raise ConfigError(
            f"{own_files.FOLDER / name} is called like a task that there is already, and its scores would be taken for that "
            "task's. Rename the folder."
        )
    return own_tasks.task_class(name)()


_ADDED: dict[str, type[AbsTask]] = {}


def _own_tasks() -> dict[str, type[AbsTask]]:
    from embrepro.suite import origin_tasks

    return {**suite.TASKS, **origin_tasks.TASKS, **_ADDED}


def _benchmark(name: str | None) -> list[AbsTask]:
    import mteb

    if name is None:
        return []
    known = [benchmark.name for benchmark in mteb.get_benchmarks()]
    if name not in known:
        raise ConfigError(f"tasks.benchmark: mteb has no benchmark '{name}'{suggest(name, known)}")
    return list(mteb.get_benchmark(name).tasks)


def _language(code: str) -> str:
    from mteb.languages.iso_mappings import ISO_TO_LANGUAGE, ISO_TO_SCRIPT

    language, _, script = code.partition("-")
    if language not in ISO_TO_LANGUAGE:
        raise ConfigError(f"tasks.languages: '{code}' is no ISO 639-3 code{_nearest_language(language)}")
    if script and script not in ISO_TO_SCRIPT:
        raise ConfigError(f"tasks.languages: '{code}' names no ISO 15924 script{suggest(script, ISO_TO_SCRIPT)}")
    return code


def _nearest_language(word: str) -> str:
    from mteb.languages.iso_mappings import ISO_TO_LANGUAGE, _get_iso1_to_iso3

    if three := _get_iso1_to_iso3().get(word.casefold()):
        return f"; did you mean {three}?"
    for code, language in ISO_TO_LANGUAGE.items():
        if language.casefold() == word.casefold():
            return f"; did you mean {code}?"
    return suggest(word, ISO_TO_LANGUAGE)


def _request(task: AbsTask, languages: list[str] | None, subsets: list[str] | None) -> Request:
    name = task.metadata.name
    _refuse_other_modalities(task)
    if task.is_aggregate:
        if subsets is not None:
            raise ConfigError(
                f"tasks.subsets: {name} is an aggregate; name subsets of its parts by asking for those instead."
            )
        metadata: Any = task.metadata
        parts = tuple(_request(part, languages, None) for part in metadata.tasks)
        return Request(name, (), tuple(task.eval_splits), parts, **_known(task))
    kept = list(task.hf_subsets)
    if subsets is not None:
        unknown = [subset for subset in subsets if subset not in task.metadata.hf_subsets]
        if unknown or not subsets:
            what = (
                f"no subset '{unknown[0]}'{suggest(unknown[0], task.metadata.hf_subsets)}"
                if unknown
                else "an empty list"
            )
            raise ConfigError(f"tasks.subsets.{name}: {what}")
        if twice := sorted({subset for subset in subsets if subsets.count(subset) > 1}):
            raise ConfigError(f"tasks.subsets.{name}: asked for twice: {', '.join(twice)}")
        kept = list(subsets)
    if languages is not None:
        kept = [subset for subset in kept if _speaks(task, subset, languages)]
    if not kept:
        spoken = sorted(
            {code.split("-")[0] for codes in task.metadata.hf_subsets_to_langscripts.values() for code in codes}
        )
        raise ConfigError(f"{name} has no subset in {', '.join(languages or [])}; its languages: {', '.join(spoken)}")
    return Request(name, tuple(kept), tuple(task.eval_splits), **_known(task))


def _known(task: AbsTask) -> dict[str, Any]:
    """What a request says of its task."""
    metadata = task.metadata
    return {
        "type": str(metadata.type),
        "metric": str(metadata.main_score),
        "dataset": json.dumps(dict(metadata.dataset), sort_keys=True),
        "searched": first_stage.is_searched(task),
    }


def _speaks(task: AbsTask, subset: str, languages: list[str]) -> bool:
    spoken = task.metadata.hf_subsets_to_langscripts[subset]
    return any(wanted in (code, code.split("-")[0]) for wanted in languages for code in spoken)


def _refuse_other_modalities(task: AbsTask) -> None:
    modalities = list(task.metadata.modalities)
    if modalities != ["text"]:
        raise ConfigError(
            f"{task.metadata.name} needs {' and '.join(modalities)}; text embeddings can only be scored on text."
        )
