"""The process that `against_mteb` times: `mteb.evaluate` on the kit's frozen data with the kit's model object."""

from __future__ import annotations

import json
import sys
import time

from embrepro.cli.program import read_offline
from embrepro.progress import console


def main(key: str) -> None:
    """Print score and seconds of each task as JSON."""
    console.silence_libraries()
    config = read_offline()
    import mteb

    import embrepro.models
    from embrepro.layout import Layout
    from embrepro.sources import models as model_sources
    from embrepro.tasks import freezing, registry

    layout = Layout()
    manifest, snapshot = model_sources.read(layout.models / key)
    loaded = embrepro.models.load(snapshot, config.models[key], config.device)
    encoder = embrepro.models.wrap(loaded, config.models[key], manifest.revision, embrepro.models.describe(loaded))
    found = {}
    for request in registry.resolve(config.tasks):
        for leaf in request.leaves():
            started = time.perf_counter()
            task = freezing.load_frozen(leaf, layout.tasks / leaf.name)
            results = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)
            found[leaf.name] = [float(results.task_results[0].main_score), time.perf_counter() - started]
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main(sys.argv[1])
