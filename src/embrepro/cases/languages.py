"""The case of the language code: mteb 1.39.7 asked for `en` scores nothing and says nothing; asked for `eng` it scores.

It runs that version on frozen data, for the models of the configuration, and keeps what became of each task as a record
that claims can be bound to (`metric: {kind: case_tasks, ...}`). mteb's own result files stay for `embrepro doctor`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from embrepro.cases import environment, mteb1
from embrepro.cases.records import CaseRecord, CaseRun, read_record, record_file
from embrepro.config.schema import Config
from embrepro.errors import KitError, SourceError
from embrepro.files import keep_only, make_folder, read_json, write_json
from embrepro.layout import Layout
from embrepro.progress import console
from embrepro.sources import models as model_sources
from embrepro.tasks import freezing, pins
from embrepro.tasks.registry import Request

NAME = "languages"
CODES = ("en", "eng")
TASKS = ("SICK-R", "STSBenchmark")
"""Of the analysis's four tasks without a score those that mteb 1.39.7 scores by its base class and that are small."""
SECONDS = 3600
_FAMILIES = ("static", "dense")


def results_folder(layout: Layout) -> Path:
    """Where mteb's own result files of the case lie: <code>/<model>/..."""
    return layout.root / ".embrepro" / "cases" / "languages" / "results"


def run(config: Config, layout: Layout, *, again: bool = False) -> CaseRecord:
    """Run the case for the configuration's static and dense models, and write its record.

    Args:
        config: the configuration.
        layout: the project's folders.
        again: run every model, also one of which the record holds runs on the same files and data.

    Raises:
        KitError: the environment cannot be made, no model or no data is there, or the program fails.
    """
    python = environment.make(layout.root)
    models, hashes = _models(config, layout)
    data, data_hashes = _data(config, layout)
    results = results_folder(layout)
    before = None if again else read_record(layout)
    kept = _kept(before, hashes, data_hashes)
    missing = {key: folder for key, folder in models.items() if key not in kept}
    for code in CODES:
        make_folder(results / code)
        keep_only(results / code, set(kept))
    if missing:
        job = {"languages": CODES, "models": missing, "tasks": data, "results": str(results.resolve())}
        write_json(results.parent / "job.json", job)
        console.say(f"case languages: {', '.join(data)} with {', '.join(missing)}, asked for as {' and '.join(CODES)}")
        _start(python, results.parent / "job.json")
    found = [
        _read(results, model, code, task) for model in models if model in missing for code in CODES for task in data
    ]
    runs = [each for model in models for each in (kept.get(model) or found) if each.model == model]
    files = [path for model in missing for path in results.glob(f"*/{model}/**/*.json") if path.stem in data]
    versions = {read_json(path)["mteb_version"] for path in files} | ({before.mteb} if before and kept else set())
    if len(versions) != 1:
        raise KitError(f"expected results of one version of mteb under {results}, found {sorted(versions) or 'none'}")
    record = CaseRecord(mteb=versions.pop(), models=hashes, data=data_hashes, runs=runs)
    write_json(record_file(layout), record.model_dump(exclude_defaults=True))
    return record


def _kept(before: CaseRecord | None, models: dict[str, str], data: dict[str, str]) -> dict[str, list[CaseRun]]:
    """The recorded runs of the models whose files are the same, if they were on the same data."""
    if before is None or before.data != data:
        return {}
    same = {key for key, content in models.items() if before.models.get(key) == content}
    return {key: [each for each in before.runs if each.model == key] for key in same}


def _models(config: Config, layout: Layout) -> tuple[dict[str, str], dict[str, str]]:
    folders, hashes = {}, {}
    for key, model in config.models.items():
        if model.family not in _FAMILIES or not (layout.models / key).is_dir():
            continue
        if why := model_sources.why_unavailable(layout.models / key):
            console.say_error(f"case languages: {key} is left out: {why}")
            continue
        manifest, snapshot = model_sources.read(layout.models / key)
        folders[key], hashes[key] = str(snapshot.resolve()), manifest.content_hash
    if not folders:
        raise KitError("no static or dense model lies under data/models. Run: embrepro download")
    return folders, hashes


def _data(config: Config, layout: Layout) -> tuple[dict[str, str], dict[str, str]]:
    files, hashes = {}, {}
    for name in TASKS:
        folder = layout.tasks / name
        try:
            if not (folder / "manifest.json").is_file():
                folder = results_folder(layout).parent / "data" / name
                freezing.freeze(Request(name, ("default",), ("test",)), folder, config.mirror, pins.read_pin(name))
            manifest = freezing.read_manifest(folder)
            freezing.verify(folder, manifest.files)
        except SourceError as error:
            console.say_error(f"case languages: {name} is left out: {error}")
            continue
        table = next(file for file in manifest.files if file.endswith("test.parquet"))
        files[name], hashes[name] = str((folder / table).resolve()), manifest.data_hash
    if not files:
        raise KitError(f"neither of {', '.join(TASKS)} can be had. Connect to the hub, or set EMBREPRO_MIRROR.")
    return files, hashes


def _start(python: Path, job: Path) -> None:
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    command = [str(python), str(Path(mteb1.__file__)), str(job)]
    try:
        subprocess.run(command, env=settings, capture_output=True, text=True, check=True, timeout=SECONDS)
    except subprocess.CalledProcessError as error:
        raise KitError(f"mteb's older version failed: {error.stderr.strip()[-2000:]}") from None
    except subprocess.TimeoutExpired:
        raise KitError(f"mteb's older version did not finish within {SECONDS} s") from None


def _read(results: Path, model: str, code: str, task: str) -> CaseRun:
    folder = results / code / model
    said = folder / "error.txt"
    error = said.read_text(encoding="utf-8").strip().splitlines()[-1] if said.is_file() else None
    files = list(folder.rglob(f"{task}.json"))
    if not files:
        return CaseRun(model=model, language=code, task=task, score=None, seconds=None, error=error)
    content = json.loads(files[0].read_text(encoding="utf-8"))
    scores = [entry["main_score"] for entries in content["scores"].values() for entry in entries]
    return CaseRun(
        model=model,
        language=code,
        task=task,
        score=scores[0] if scores else None,
        seconds=content["evaluation_time"],
        error=error,
    )
