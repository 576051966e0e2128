"""The process that `encode_rate` times: evenly chosen shards of a task, by as many workers as it is told."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import measuring
from embrepro import numerics

PRODUCT_SECONDS = 2.0


def main(key: str, name: str, workers: int, seconds: float) -> None:
    """Print texts, tokens, operations, seconds, and operations a second in the machine's products, as JSON."""
    numerics.pin("portable")
    import numpy as np

    import embrepro.models
    from embrepro.config.params import read_params
    from embrepro.embeddings import encoding
    from embrepro.embeddings.plan import batch_rule
    from embrepro.layout import Layout
    from embrepro.pipeline import encode
    from embrepro.tasks import encode_requests, freezing, registry, tables

    config, layout = read_params(), Layout()
    model = config.models[key]
    encoder = encode.load_here(layout, key, config, "0" * 40)
    listed = encode_requests.read(layout.tasks / name, freezing.read_manifest(layout.tasks / name))
    plan, lengths = encoding.plan_task(listed.texts, batch_rule(model, config.device), encoder.model, pairs=False)
    metadata = next(registry.create(each).metadata for each in registry.resolve(config.tasks) if each.name == name)
    folder = Path("shards")

    def encode_some(every: int) -> tuple[float, list[int]]:
        """Encode one shard of so many, from an empty folder; returns the time and the shards."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        work = encoding.TaskShards(name, metadata, listed.texts, False, "key", folder, plan, lengths)
        started = time.perf_counter()
        done = encoding.encode_shards(encoder, [work], encoding.Workers(workers), part=(1, every))
        indices = [index for _, index, error in done if not error]
        return time.perf_counter() - started, indices

    # First a few, to warm up and to see how many fit the time.
    few = max(1, plan.shards // (2 * workers))
    taken, indices = encode_some(few)
    every = max(1, round(plan.shards / max(len(indices) * seconds / taken, 2 * workers)))
    # A machine's speed drifts within a minute, so what it is compared with is measured right before and right after.
    before = measuring.product_rate(workers, PRODUCT_SECONDS)
    taken, indices = encode_some(every)
    products = (before + measuring.product_rate(workers, PRODUCT_SECONDS)) / 2
    rows = np.concatenate([plan.shard(index).rows for index in indices])
    counted = embrepro.models.token_counts(encoder.model, tables.take(listed.texts["text"], rows)).tolist()
    shutil.rmtree(folder)
    found = {"texts": len(rows), "tokens": sum(counted), "operations": operations(encoder, counted), "seconds": taken}
    found["products"] = products
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def operations(encoder: Any, lengths: list[int]) -> int:  # noqa: ANN401 - mteb's wrapper of a model
    """Floating-point operations of the matrix products of a BERT-like model on texts of so many tokens, no padding counted.

    Zero for a model without layers, such as a static one. A layer takes 2 (4 h^2 + 2 h i) for each token and 4 h L^2 for
    each text of L tokens, with width h and inner width i.
    """
    if not hasattr(encoder.model[0], "auto_model"):
        return 0
    config = encoder.model[0].auto_model.config
    layers, width, inner = config.num_hidden_layers, config.hidden_size, config.intermediate_size
    each = 2 * layers * (4 * width**2 + 2 * width * inner)
    return sum(each * length + layers * 4 * width * length**2 for length in lengths)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
