"""A crew of Ray actors that works off jobs: what one holds in memory stays loaded, and what a lost one had is done again.

No folder is shared with the other machines. What a job needs travels in its call, what it gives comes back as its
result, and the files stay with the process that asks; so whoever is killed, a later run goes on from them.
"""

from __future__ import annotations

import importlib
import os
import platform
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Generic, Protocol, TypeVar

from embrepro import numerics
from embrepro.config.schema import Device, Executor
from embrepro.errors import ConfigError, KitError
from embrepro.progress import console, processes
from embrepro.source_code import code_hash

LOCK = "requirements/ray.lock"
JOBS_AT_ONCE = 2
"""Jobs that an actor has at hand, so that the next one's data travels while it works."""
ATTEMPTS = 3
LOOK_AGAIN_SECONDS = 2.0
PACKAGES = ("mteb", "numpy", "scipy", "scikit-learn", "sentence-transformers", "tokenizers", "torch", "transformers")

AnyJob = TypeVar("AnyJob")


class Worker(Protocol):
    """What an actor runs."""

    def start(self) -> None:
        """Get ready, such as by loading a model."""

    def work(self, order: Any) -> Any:  # noqa: ANN401 - whatever the job needs and gives
        """Do one job."""


@dataclass(frozen=True)
class Place:
    """What an actor takes of a machine, the module that it works by, and the variables that its process starts with."""

    module: str
    cpus: float = 1
    gpus: float = 0
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobAnswer(Generic[AnyJob]):
    """What became of a job: what it gave, or what went wrong."""

    job: AnyJob
    result: Any = None
    error: BaseException | None = None


def place_for(device: Device, module: str, *, needs_gpu: bool) -> Place:
    """One core, or one GPU where the work needs it and the device has one; the numerics of the configuration."""
    variables = console.QUIET | console.OFFLINE | numerics.variables(device.numerics)
    return Place(module, gpus=1 if needs_gpu and device.name == "cuda" else 0, variables=variables)


@contextmanager
def connected(executor: Executor) -> Iterator[Any]:
    """Ray, connected to the cluster at the configured address, else to one that is started here for the time being.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ModuleNotFoundError:
        raise ConfigError(
            "executor=ray, but Ray is not installed here. Install it on top of the environment, on every machine of the"
            f" cluster: .venv/bin/uv pip install --python .venv/bin/python --no-deps --require-hashes -r {LOCK}"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=executor.address, log_to_driver=False, logging_level="ERROR", include_dashboard=None)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"executor.address: no Ray cluster answers at {executor.address}. Start one (`ray start --head`, then `ray"
            f" start --address=...` on the others), or leave the address out to use Ray on this machine. ({error})"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def run(
    ray: Any,  # noqa: ANN401 - the module, which is loaded only on request
    worker: Callable[[], Worker],
    jobs: Sequence[AnyJob],
    order: Callable[[AnyJob], Any],
    place: Place,
    *,
    most: int | None = None,
    skip: Callable[[AnyJob], bool] = lambda job: False,
) -> Iterator[JobAnswer[AnyJob]]:
    """Work off jobs on as many actors as the cluster has room for; answers come as they are ready.

    Args:
        ray: the module, connected.
        worker: makes what an actor runs; it travels by pickle.
        jobs: what is to be done, in this order.
        order: what an actor is handed for a job; made only when one is free to take it.
        place: what an actor needs.
        most: actors at most; None for no limit.
        skip: asked before a job is handed out, so that what has become needless is left out.

    A job that cannot be ordered, such as for want of a file, ends with that error.

    Raises:
        KitError: actors cannot start, such as where a machine's environment is another.
    """
    crew = _Crew(ray, worker, order, place)
    waiting = deque(jobs)
    lost: Counter[int] = Counter()
    numbers = {id(job): number for number, job in enumerate(jobs)}
    try:
        while waiting or crew.busy:
            if waiting:
                crew.hire(min(crew.room(), most or len(jobs), len(waiting) + crew.busy))
            for job, found, error in crew.hear():
                if error is not None and crew.is_death(error):
                    lost[numbers[id(job)]] += 1
                    if lost[numbers[id(job)]] < ATTEMPTS:
                        waiting.appendleft(job)
                        continue
                    error = KitError(
                        f"the process that worked on it was lost {ATTEMPTS} times, most often for want of memory"
                    )
                yield JobAnswer(job, found, error)
            for actor in crew.free():
                while waiting and skip(waiting[0]):
                    waiting.popleft()
                if waiting:
                    job = waiting.popleft()
                    try:
                        crew.hand(actor, job)
                    except (KitError, OSError) as why:
                        yield JobAnswer(job, error=why)
    finally:
        crew.dismiss()


class _Crew:
    """Actors and what each of them has at hand."""

    def __init__(self, ray: Any, worker: Callable[[], Worker], order: Callable[[Any], Any], place: Place) -> None:  # noqa: ANN401
        self._ray, self._order, self._place = ray, order, place
        self._worker = ray.put(worker)
        self._expected = environment(place.module)
        self._hands: dict[Any, int] = {}
        self._starting: dict[Any, Any] = {}
        self._running: dict[Any, tuple[Any, Any]] = {}
        self._failed_starts = 0

    @property
    def busy(self) -> int:
        """Jobs that are handed out."""
        return len(self._running)

    def room(self) -> int:
        """Actors that the cluster has place for, as large as it is now; at least one, for it may be growing."""
        have = self._ray.cluster_resources()
        limit = have.get("GPU", 0) / self._place.gpus if self._place.gpus else have.get("CPU", 0) / self._place.cpus
        return max(1, int(limit))

    def hire(self, count: int) -> None:
        """Have so many actors, those that are starting included."""
        kind = self._ray.remote(_Member)
        for _ in range(count - len(self._hands) - len(self._starting)):
            actor = kind.options(
                num_cpus=self._place.cpus,
                num_gpus=self._place.gpus,
                runtime_env={"env_vars": dict(self._place.variables)},
            ).remote()
            self._starting[actor.start.remote(self._worker, self._place.module, self._expected)] = actor

    def free(self) -> list[Any]:
        """Actors that can take another job, one entry for each, the idle ones first."""
        return sorted((actor for actor, at_hand in self._hands.items() if at_hand < JOBS_AT_ONCE), key=self._at_hand)

    def _at_hand(self, actor: Any) -> int:  # noqa: ANN401
        return self._hands[actor]

    def hand(self, actor: Any, job: Any) -> None:  # noqa: ANN401
        """Hand a job to an actor."""
        self._running[actor.work.remote(self._order(job))] = (actor, job)
        self._hands[actor] += 1

    def hear(self) -> Iterator[tuple[Any, Any, BaseException | None]]:
        """Jobs that ended, each with what it gave or what went wrong; waits a while for the first."""
        references = [*self._starting, *self._running]
        if not references:
            return
        ready, _ = self._ray.wait(references, num_returns=1, timeout=LOOK_AGAIN_SECONDS)
        for reference in ready:
            found, error = self._get(reference)
            if reference in self._starting:
                self._started(self._starting.pop(reference), error)
                continue
            actor, job = self._running.pop(reference)
            if error is not None and self.is_death(error):
                self._hands.pop(actor, None)
            elif actor in self._hands:
                self._hands[actor] -= 1
            yield job, found, error

    def _started(self, actor: Any, error: BaseException | None) -> None:  # noqa: ANN401
        if error is None:
            self._hands[actor] = 0
            return
        self._failed_starts += 1
        if not self.is_death(error) or self._failed_starts >= ATTEMPTS * (1 + len(self._hands)):
            raise error if isinstance(error, KitError) else KitError(f"A worker of Ray could not start: {error}")

    def _get(self, reference: Any) -> tuple[Any, BaseException | None]:  # noqa: ANN401
        try:
            return self._ray.get(reference), None
        except self._ray.exceptions.RayTaskError as error:
            return None, error.cause or error
        except self._ray.exceptions.RayError as error:
            return None, error

    def is_death(self, error: BaseException) -> bool:
        """Whether an error says that a process or machine was lost, and nothing about the job."""
        return isinstance(error, self._ray.exceptions.RayError) and not isinstance(
            error, self._ray.exceptions.RayTaskError
        )

    def dismiss(self) -> None:
        """End all actors."""
        for actor in [*self._hands, *self._starting.values()]:
            self._ray.kill(actor)


def environment(module: str) -> dict[str, str]:
    """What must be the same on every machine for the bytes to be the same: code, interpreter, packages."""
    found = {"code": code_hash(__name__, module), "python": platform.python_version()}
    return found | {name: version(name) for name in PACKAGES}


class _Member:
    """The actor: refuses to work in another environment than the one that asks, then runs its worker."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def start(self, worker: Callable[[], Worker], module: str, expected: dict[str, str]) -> None:
        """Check the environment and make the worker."""
        processes.collect_rarely()
        console.silence_libraries()
        found = environment(module)
        other = [
            f"{name} {found[name][:12]} instead of {wanted[:12]}"
            for name, wanted in expected.items()
            if found[name] != wanted
        ]
        if other:
            raise KitError(
                f"Machine {platform.node()} of the Ray cluster has another environment: {', '.join(other)}. Install the"
                " same commit and locks there (make env), or take it out of the cluster."
            )
        numerics.follow()
        if numerics.pinned() and (why := numerics.why_not_portable()):
            raise KitError(f"Machine {platform.node()} of the Ray cluster cannot give the portable bytes: {why}.")
        self._worker = worker()
        self._worker.start()

    def work(self, order: Any) -> Any:  # noqa: ANN401
        """Do one job."""
        assert self._worker is not None
        return self._worker.work(order)
