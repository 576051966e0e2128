"""A small run through all stages in one process, as a program: prints the SHA-256 of everything that numbers come from.

Every kind of arithmetic of the real models and tasks is in it: a transformer, a distillation with its PCA, a static
model, products with the best k, logistic regression, k-means, rank correlation, resampling. It is run on emulated
processors, too, where a program that is started would run on the real one; so evaluate scores in this process.

    python tests/portable_run.py build FOLDER             models and data, made once
    python tests/portable_run.py run FOLDER WORKERS       the stages, in FOLDER/run-WORKERS-...
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
REVISION = "0123456789abcdef0123456789abcdef01234567"
CLUSTERING = "EmbreproTopicClustering"
IN_THIS_PROCESS = "here"


def build(folder: Path) -> None:
    """Write a teacher, a static model and a mirror of small data sets."""
    import tiny_mirror
    from conftest import build_dense_model, build_static_model

    folder.mkdir(parents=True, exist_ok=True)
    tiny_mirror.build(folder / "mirror")
    build_dense_model(folder / "dense")
    build_static_model(folder / "static")
    teacher = folder / "mirror" / "models" / "tiny" / "teacher" / REVISION
    teacher.parent.mkdir(parents=True)
    (folder / "bert").rename(teacher)


def values(folder: Path, workers: int) -> dict[str, Any]:
    """The configuration of the run."""
    import tiny_mirror
    from embrepro.config.compose import compose_values

    composed = compose_values([f"device.threads={workers}", "device.batch_tokens=64"], REPOSITORY / "conf")
    teacher = {"org": "tiny", "name": "teacher", "revision": REVISION}
    sources = {
        "dense": {"family": "dense", "folder": str(folder / "dense")},
        "static": {"family": "static", "folder": str(folder / "static")},
        "distilled": {"family": "static", "distill": {"pca_dims": 12, "teacher": teacher}},
    }
    composed["models"] = {name: {"org": "test", "name": name, **source} for name, source in sources.items()}
    names = [tiny_mirror.STS, tiny_mirror.CLASSIFICATION, tiny_mirror.RETRIEVAL, CLUSTERING]
    return composed | {
        "candidate": "distilled",
        "baseline": "dense",
        "benchmarked": {},
        "tasks": {"names": names},
        "source": {"mirror": str(folder / "mirror")},
    }


def run(folder: Path, workers: int, where: str) -> dict[str, str]:
    """All stages up to the metrics; returns the hashes of models, embeddings, samples and reports by their paths."""
    from embrepro import numerics

    numerics.pin("portable")
    from embrepro.config.schema import parse_config
    from embrepro.files import sha256
    from embrepro.layout import Layout
    from embrepro.pipeline import aggregate, download, encode, evaluate, scoring
    from embrepro.progress import console

    console.silence_libraries()
    console.go_offline()
    if where == IN_THIS_PROCESS:
        scoring.score_all = lambda jobs, *_: ((job.request.name, scoring._timed(job)[0]) for job in jobs)  # type: ignore[assignment]
    config = parse_config(values(folder, workers), "this run")
    with tempfile.TemporaryDirectory(dir=folder) as root:
        layout = Layout(Path(root))
        download.run(config, layout)
        for key in config.models:
            encode.run(config, layout, key)
            evaluate.run(config, layout, key)
        aggregate.run(config, layout)
        metrics = json.loads((layout.reports / "metrics.json").read_text())
        lost = [name for each in metrics["status"].values() for name, status in each.items() if status != "scored"]
        assert not lost, metrics["status"]
        kinds = (
            "data/models/**/model.safetensors",
            "embeddings/**/*.safetensors",
            "results/**/*.parquet",
            "reports/*.json",
        )
        found = sorted({path for kind in kinds for path in layout.root.glob(kind)})
        return {str(path.relative_to(layout.root)): sha256(path) for path in found}


def main(what: str, folder: str, workers: str = "1", where: str = "") -> None:
    """Build, or run and print."""
    if what == "build":
        build(Path(folder).resolve())
    else:
        sys.stdout.write(f"\n{json.dumps(run(Path(folder).resolve(), int(workers), where))}\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(*sys.argv[1:])
