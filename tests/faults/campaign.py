"""Many injections from one seed, each sorted into what became of it, and the table of them."""

from __future__ import annotations

import itertools
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from faults import hostile, injections, project, under_dvc, zygote
from faults.injections import Injection
from faults.project import Good

SAME, CLEAR, FAILURE = "the same bytes", "a clear error or reason", "failures"
Kind = Callable[[Good, random.Random, Path], Injection | None]
KINDS: tuple[tuple[int, Kind], ...] = (
    (28, lambda good, draw, folder: injections.damaged(good, draw, folder, whole=False)),
    (7, lambda good, draw, folder: injections.damaged(good, draw, folder, whole=True)),
    (13, injections.stopped),
    (2, injections.damaged_shards),
    (9, injections.no_room),
    (5, injections.full_disk),
    (5, injections.two_at_once),
    (6, injections.bad_hub),
    (18, hostile.hostile_configuration),
    (7, hostile.hostile_mirror),
)
"""Every kind of injection, and how often it comes among a hundred."""
UNDER_DVC = 100
"""Each injection whose number this divides is one under DVC, whose runs take ten times as long."""


@dataclass
class Outcome:
    """What became of an injection."""

    group: str
    what: str
    sort: str
    why: str = ""


@dataclass
class Campaign:
    """Injections under one seed."""

    seed: int
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> list[Outcome]:
        """What must not be."""
        return [outcome for outcome in self.outcomes.values() if outcome.sort == FAILURE]

    def table(self) -> str:
        """Groups and sorts of outcomes, as a table in Markdown."""
        counts: dict[str, Counter[str]] = {}
        for outcome in self.outcomes.values():
            counts.setdefault(outcome.group, Counter())[outcome.sort] += 1
        lines = [f"| fault | injections | {SAME} | {CLEAR} | {FAILURE} |", "|---|---:|---:|---:|---:|"]
        total: Counter[str] = Counter()
        for group in sorted(counts):
            total += counts[group]
            lines.append(_row(group, counts[group]))
        return "\n".join([*lines, _row("**all**", total)])


def _row(name: str, count: Counter[str]) -> str:
    return f"| {name} | {count.total()} | {count[SAME]} | {count[CLEAR]} | {count[FAILURE]} |"


def run(
    seed: int,
    count: int,
    say: Callable[[str], None],
    seconds: float = float("inf"),
    only: Sequence[int] = (),
    record: Path | None = None,
) -> Campaign:
    """Inject faults; the same seed draws the same ones.

    Args:
        seed: of the generator.
        count: how many.
        say: takes a line on a failure, and on the state now and then.
        seconds: no new injection begins after these.
        only: the numbers of the injections to make, where not all.
        record: holds outcomes, one a line: those it has are not injected again, but for failures; new ones are added.
    """
    campaign = Campaign(seed, _read(record) if record else {})
    kinds = [kind for weight, kind in KINDS for _ in range(weight)]
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        root = Path(scratch)
        good = project.build(root)
        _measure(good)
        for number in only or itertools.count(1):
            if (len(campaign.outcomes) >= count and not only) or time.monotonic() >= until:
                break
            if number in campaign.outcomes and campaign.outcomes[number].sort != FAILURE:
                continue
            draw = random.Random(f"{seed} {number}")
            kind = kinds[(number * 37) % len(kinds)] if number <= len(kinds) else draw.choice(kinds)
            if number % UNDER_DVC == 0:
                kind = under_dvc.fault
            folder = project.copy(good, f"project-{number}")
            with injections.clean(folder):
                injection = kind(good, draw, folder)
                if injection is None:
                    campaign.skipped[getattr(kind, "__name__", "damaged")] += 1
                    continue
                outcome = judge(injection.good or good, injection)
            campaign.outcomes[number] = outcome
            if record:
                with record.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps([number, asdict(outcome)]) + "\n")
            if only:
                say(f"{number}: {outcome.group}: {outcome.what}: {outcome.sort}")
            if outcome.sort == FAILURE:
                say(f"FAILURE --seed {seed} --only {number}: {outcome.group}: {outcome.what}: {outcome.why}")
            if len(campaign.outcomes) % 25 == 0:
                say(f"{len(campaign.outcomes)} of {count}, {len(campaign.failures)} failures")
    return campaign


def _read(record: Path) -> dict[int, Outcome]:
    """The outcomes that a record holds by number, the last one of each."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    return {number: Outcome(**outcome) for number, outcome in map(json.loads, lines)}


def _measure(good: Good) -> None:
    """How long each stage takes with its work before it."""
    folder = project.copy(good, "measured")
    for command in dict.fromkeys(injections.ALL):
        injections._clear_way(folder, command, random.Random(0))
        started = time.monotonic()
        zygote.run(folder, *command)
        injections.DURATIONS[command[0]] = time.monotonic() - started
    project.remove(folder)


TRACEBACK = re.compile(r"^(Traceback|Exception ignored|\s+File \")", re.MULTILINE)


def judge(good: Good, injection: Injection) -> Outcome:
    """Sort an injection by how its commands ended and by what lies in its project afterwards."""
    why = _wrong(good, injection)
    if why is None and injection.heal is not None:
        injection.heal()
        why = _not_healed(good, injection)
        if why is None:
            return Outcome(injection.group, injection.what, _sort(injection))
    if why is not None:
        return Outcome(injection.group, injection.what, FAILURE, why)
    return Outcome(injection.group, injection.what, _sort(injection))


def _sort(injection: Injection) -> str:
    if any(ended.code != 0 for ended in injection.during) or _reasons(injection):
        return CLEAR
    return SAME


def _reasons(injection: Injection) -> bool:
    """Whether a stage ended well and gave a reason for a task or model that it lost."""
    said = ("task ", "model ", "encode ", "evaluate ")
    return any(
        ended.code == 0 and any(line.startswith(said) and _is_loss(line) for line in ended.output.splitlines())
        for ended in injection.during
    )


def _is_loss(line: str) -> bool:
    return not re.search(
        r"\((kept|[\d.]+ (s|min)[^)]*)\)$|\bin [\d.]+ s$|since the start$|from \d+ parts$|\(kept\)$", line
    )


def _wrong(good: Good, injection: Injection) -> str | None:
    """What must not be after the fault, if anything."""
    for complaint in injection.complaints:
        return complaint
    for ended in injection.during:
        name = " ".join(ended.command)
        if ended.code is None:
            return f"{name} hangs: {ended.output[-300:]!r}"
        if ended.left:
            return f"{name} left processes"
        if TRACEBACK.search(ended.output):
            return f"{name}: traceback: {ended.output[-400:]!r}"
        if ended.code > 0 and ended.code < 128 and "embrepro:" not in ended.output and "rror" not in ended.output:
            return f"{name} ended with {ended.code} and no word: {ended.output[-200:]!r}"
        if ended.code == zygote.NO_END:
            return f"{name} did not end as a program does"
    now = project.content(injection.project)
    hostile_data = injection.group.startswith("a hostile")
    if "reports/metrics.json" not in injection.spoilt and not hostile_data:
        for place, score in project.scores(injection.project).items():
            if place in good.scores and score != good.scores[place]:
                return f"the score of {place} is {score}, was {good.scores[place]}"
    if hostile_data or injection.group == "hostile configuration":
        return None
    return _lost(good, injection, now)


KEPT = ("data/tasks/", "data/models/", "embeddings/", "results/")


def _lost(good: Good, injection: Injection, now: dict[str, bytes]) -> str | None:
    """A file that was good before the fault, and is gone or another one; records may say what happened."""
    if injection.heal is not None:
        return None  # it had work to do, and is judged by what comes out in the end
    for name, content in good.files.items():
        if name in injection.spoilt or not name.startswith(KEPT) or name.endswith(VOLATILE):
            continue
        if name not in now:
            return f"{name} is gone"
        if not _same(name, now[name], content):
            return f"{name} is another one"
    return None


RESULT = re.compile(r"results/.*(?<!meta)\.json")
TIMES = ("date", "evaluation_time", "evaluation_phases")


def _same(name: str, found: bytes, good: bytes) -> bool:
    """Whether a file is the good one: to the byte, but for the time at which a task was scored."""
    if found == good or not RESULT.fullmatch(name):
        return found == good
    values = [json.loads(content) for content in (found, good)]
    return values[0] | dict.fromkeys(TIMES) == values[1] | dict.fromkeys(TIMES)


VOLATILE = ("record.json", "manifest.json", "key.json", "model_meta.json")
"""Files in which a stage may say what happened."""


def _not_healed(good: Good, injection: Injection) -> str | None:
    """What a whole run after the fault does not bring back, if anything."""
    for command in injection.again:
        ended = zygote.run(
            injection.project, *command, environment=injection.environment, seconds=under_dvc.STAGES_SECONDS
        )
        if ended.code != 0 or TRACEBACK.search(ended.output):
            return f"afterwards {' '.join(command)} ends with {ended.code}: {ended.output[-400:]!r}"
    now = project.content(injection.project)
    for name, content in good.files.items():
        if injection.group.startswith("a hub") and name.endswith(("manifest.json", "summary.json")):
            continue  # they name the hub as the source, truly
        if _compared(name) and (name not in now or not _same(name, now[name], content)):
            return f"afterwards {name} is {'another one' if name in now else 'gone'}"
    more = [name for name in now if name not in good.files and not name.endswith("filler")]
    return f"afterwards there is also {', '.join(more)}" if more else None


def _compared(name: str) -> bool:
    """Whether a file's content follows from the inputs alone: times do not, nor do the pages that show them."""
    return not name.startswith(("reports/speed", "reports/report.", "reports/status/"))
