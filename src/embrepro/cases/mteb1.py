"""The program that mteb 1.39.7 runs in its own environment, where this kit is not installed: `python mteb1.py JOB`.

JOB is a JSON file: `languages` (the codes to ask for), `models` (key -> folder of its files), `tasks` (name -> Parquet file
of its test split) and `results` (folder). It asks mteb for the tasks the way the analysis did, once for each code, and
leaves mteb's own result files at results/<code>/<model>/..., beside `error.txt` where mteb raised anything.
"""

import json
import sys
import traceback
from pathlib import Path
from typing import Any


def main(job: dict[str, Any]) -> None:
    """Evaluate every model once for each language code."""
    import mteb
    from datasets import Dataset

    old: Any = mteb
    data = {name: Dataset.from_parquet(path, keep_in_memory=True) for name, path in job["tasks"].items()}
    for key, folder in job["models"].items():
        model = load(Path(folder))
        for code in job["languages"]:
            target = Path(job["results"]) / code / key
            target.mkdir(parents=True)
            try:
                tasks = old.get_tasks(tasks=list(data), languages=[code])
                for task in tasks:
                    task.dataset = {"default": {"test": data[task.metadata.name]}}
                    task.data_loaded = True
                old.MTEB(tasks=tasks).run(
                    model, eval_splits=["test"], output_folder=str(target), overwrite_results=True, verbosity=0
                )
            # Whether mteb says anything at all is what the case is about.
            except Exception:
                (target / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")


def load(folder: Path) -> Any:  # noqa: ANN401 - a SentenceTransformer of that environment's version
    """A model from its files: sentence-transformers' layout, or a static model's vectors and tokenizer."""
    from safetensors.numpy import load_file
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding  # type: ignore[import-not-found]
    from tokenizers import Tokenizer

    if (folder / "modules.json").is_file():
        return SentenceTransformer(str(folder), device="cpu")
    (vectors,) = load_file(next(folder.glob("*.safetensors"))).values()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)], device="cpu")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
