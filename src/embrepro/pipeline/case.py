"""Case: what another version of mteb does with this run's models and data, as a record that claims are decided by."""

from __future__ import annotations

from embrepro.cases import languages, records
from embrepro.cases.records import CaseRecord
from embrepro.config.schema import Config
from embrepro.errors import ConfigError, KitError
from embrepro.files import write_json
from embrepro.layout import Layout
from embrepro.pipeline.records import reason
from embrepro.progress import console

STAGE = "case"


def run(config: Config, layout: Layout, name: str, *, again: bool = False) -> CaseRecord:
    """Run a case; one that cannot be run leaves its reason as the record, and stops nothing else.

    Args:
        config: the configuration.
        layout: the project's folders.
        name: the case's.
        again: run every model, also one of which the record holds runs on the same files and data.

    Raises:
        ConfigError: there is no such case.
    """
    if name != languages.NAME:
        raise ConfigError(f"No case '{name}'; there is {languages.NAME}.")
    try:
        return languages.run(config, layout, again=again)
    except KitError as error:
        console.say_error(f"case {name}: {reason(error)}")
        record = CaseRecord(mteb="", models={}, data={}, runs=[], problem=reason(error))
        write_json(records.record_file(layout), record.model_dump(exclude_defaults=True))
        return record
