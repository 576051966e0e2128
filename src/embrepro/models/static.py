"""Static models (Model2Vec): one vector a token, averaged.

They run through sentence-transformers' `StaticEmbedding`, which is how mteb's own registry loads them, so that scores
can be set beside published ones. Unlike `model2vec.StaticModel.encode` it cuts no text at 512 tokens.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embrepro.config.schema import Distillation, ModelConfig
from embrepro.errors import SourceError
from embrepro.progress import processes

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

PART = 2048
"""Tokens of the vocabulary that one worker embeds at once, whatever the number of workers."""


def load(folder: Path, model: ModelConfig, device: str) -> SentenceTransformer:
    """Load a static model from a folder in Model2Vec's layout or sentence-transformers', or of vectors and tokenizer alone."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    if (folder / "modules.json").is_file():
        return SentenceTransformer(str(folder), device=device, local_files_only=True)
    modules: list[torch.nn.Module] = [StaticEmbedding.load(str(folder), local_files_only=True)]
    config = folder / "config.json"
    if config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("normalize"):
        modules.append(Normalize())
    return SentenceTransformer(modules=modules, device=device)


def distill(teacher: Path, recipe: Distillation, folder: Path, workers: int = 1) -> None:
    """Distil a teacher's snapshot into a Model2Vec model in `folder`.

    The same teacher and recipe give the same bytes, whatever the number of processes that embed the vocabulary.

    Raises:
        SourceError: a worker process was killed.
    """
    import torch
    from model2vec.distill import distill

    torch.manual_seed(0)
    with _embedding_in(workers):
        student = distill(
            str(teacher),
            device="cpu",
            pca_dims=recipe.pca_dims,
            sif_coefficient=recipe.sif_coefficient,
            quantize_to=recipe.quantize_to,
        )
    student.base_model_name = recipe.teacher.repository
    # Else it names the folder that the teacher lay in, another each time.
    student.config["tokenizer_name"] = recipe.teacher.repository
    student.save_pretrained(str(folder))


@contextmanager
def _embedding_in(workers: int) -> Iterator[None]:
    """Have Model2Vec's own function embed the vocabulary part by part, the parts side by side in forked processes."""
    from model2vec.distill import distillation

    module: Any = distillation
    theirs = module.create_embeddings

    def create_embeddings(tokenized: list[list[int]], **settings: object) -> np.ndarray:
        import numpy as np

        # As they sort, so that texts of one length are together and none is padded in vain.
        order = np.argsort([len(ids) for ids in tokenized], kind="stable")
        parts = [[tokenized[row] for row in order[start : start + PART]] for start in range(0, len(order), PART)]
        found = np.concatenate(_map(partial(theirs, **settings), parts, workers))
        return found[np.argsort(order)]

    module.create_embeddings = create_embeddings
    try:
        yield
    finally:
        module.create_embeddings = theirs


def _map(embed: Callable[..., np.ndarray], parts: list[list[list[int]]], workers: int) -> list[np.ndarray]:
    if workers == 1:
        return [embed(tokenized=part) for part in parts]
    forking = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=forking, initializer=_start_worker, initargs=(embed,)) as pool:
        try:
            return list(pool.map(_embed, parts))
        except BrokenProcessPool:
            raise SourceError(
                "A process that distilled was killed, most often because the machine ran out of memory. Run again with a"
                " smaller device.threads."
            ) from None


_STATE: dict[str, Callable[..., np.ndarray]] = {}
"""What forked workers share: the function that embeds, with the teacher."""


def _start_worker(embed: Callable[..., np.ndarray]) -> None:
    import torch

    processes.start_worker()
    # The threads of the process that this one was forked from are not here.
    torch.set_num_threads(1)
    _STATE["embed"] = embed


def _embed(part: list[list[int]]) -> np.ndarray:
    return _STATE["embed"](tokenized=part)
