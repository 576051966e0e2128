"""What the report was made from: code, machine, data, packages, commands, and the file of every score."""

from __future__ import annotations

from embrepro.rendering.formats import DASH
from embrepro.rendering.model import Column, Section, Table, Value
from embrepro.report.cells import model_keys, task_name
from embrepro.report.origins import Origins
from embrepro.results.provenance import Provenance
from embrepro.results.result_files import result_file
from embrepro.results.summary import Summary


def section(summary: Summary, found: Provenance, origins: Origins) -> Section:
    """All tables of provenance."""
    parts = [provenance_table(found, summary), data_table(summary), files_table(summary, origins)]
    parts.append(packages_table(found, summary))
    if found.commands:
        parts.append(commands_table(found))
    notes = []
    if found.not_portable:
        notes.append(
            f"Numerics are not portable on this machine, as {found.not_portable}: scores may differ in their last digits "
            "from those of another one."
        )
    return Section("provenance", "Provenance", tables=parts, notes=notes)


def provenance_table(found: Provenance, summary: Summary) -> Table:
    """What produced this report."""
    dirty = {True: "with uncommitted changes", False: "clean", None: ""}[found.dirty]
    pairs = [
        ("Commit", found.commit or "not in a git repository", dirty, bool(found.commit)),
        ("Branch", found.branch, "", True),
        ("Date", found.date, "", False),
        ("SHA-256 of params.yaml", found.config_hash, "", True),
        (
            "Custom suite",
            f"version {summary.suite.version}" if summary.suite else None,
            summary.suite.content_hash if summary.suite else "",
            False,
        ),
        ("Python", found.python, "", False),
        ("Platform", found.platform, "", False),
        ("Processor", found.processor, f"{found.cores} cores", False),
        ("Device", found.device, found.gpu or "", False),
        ("Threads", found.threads, "", False),
        ("Numerics", found.numerics, found.not_portable and f"not on this machine: {found.not_portable}", False),
        ("Seed of intervals and tests", summary.seed, "", False),
        ("Container image", found.image or "none: on the host", "", bool(found.image)),
        *[(f"Recipe: {name}", value, "", False) for name, value in sorted(summary.recipe.items())],
    ]
    rows = [
        [Value(title), Value(str(value), note=note, code=code)]
        for title, value, note, code in pairs
        if value is not None
    ]
    return Table(
        "provenance",
        "What produced this report",
        [Column("Property"), Column("Value", wide=True)],
        rows,
        plain=True,
    )


def packages_table(found: Provenance, summary: Summary) -> Table:
    """Versions of the packages; those a score depends on come from the run that computed it."""
    versions = found.packages | summary.packages
    rows = [[Value(name), Value(version, code=True)] for name, version in sorted(versions.items())]
    return Table("packages", "Package versions", [Column("Package"), Column("Version")], rows, folded=True)


def commands_table(found: Provenance) -> Table:
    """The command of every stage."""
    rows = [[Value(name, code=True), Value(command, code=True)] for name, command in found.commands.items()]
    return Table(
        "commands",
        "Commands of the stages",
        [Column("Stage"), Column("Command", wide=True)],
        rows,
        folded=True,
    )


def files_table(summary: Summary, origins: Origins) -> Table:
    """Every score in full precision, with the command that computes it and the file that holds it."""
    columns = [
        Column("Task"),
        Column("Model"),
        Column("Score", numeric=True),
        Column("Command"),
        Column("File"),
    ]
    rows = []
    for task in summary.tasks:
        for key in model_keys(summary):
            value = cell.score if (cell := task.cells.get(key)) else None
            if value is not None:
                number = Value(repr(value), sort=value, origin=origins.of_score(task, key))
                file = Value(result_file(summary.models[key], task.name), code=True)
                rows.append([task_name(task), Value(key), number, Value(f"dvc repro evaluate@{key}", code=True), file])
    return Table("files", "Every score, its command and its file", columns, rows, restack=True, folded=True)


def data_table(summary: Summary) -> Table:
    """The data behind each task: enough to fetch and check it."""
    columns = [
        Column("Task"),
        Column("Data"),
        Column("Revision"),
        Column("SHA-256"),
        Column("Pinned"),
        Column("Served by"),
        Column("Licence"),
    ]
    rows = [
        [
            task_name(task),
            Value(task.repository or DASH, code=bool(task.repository)),
            Value(task.revision or DASH, code=bool(task.revision)),
            Value(task.data_hash or DASH, code=bool(task.data_hash)),
            Value(DASH if task.pinned is None else "yes" if task.pinned else "NO"),
            Value(task.source or DASH),
            Value(task.licence or "not stated"),
        ]
        for task in summary.tasks
    ]
    return Table("data", "Data behind each task", columns, rows, restack=True)
