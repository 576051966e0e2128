"""Static models (Model2Vec): one vector a token, averaged.

They run through sentence-transformers' `StaticEmbedding`, which is how mteb's own registry loads them, so that scores
can be set beside published ones. Unlike `model2vec.StaticModel.encode` it cuts no text at 512 tokens.

Encode, whose work on such a model takes less time than importing sentence-transformers and mteb, uses `TokenVectors`
where a model is no more than vectors and a tokenizer: the same calls of torch on the same numbers, so the same bytes.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embrepro.config.schema import Distillation, ModelConfig
from embrepro.errors import SourceError
from embrepro.files import scratch_folder
from embrepro.progress import processes

if TYPE_CHECKING:
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

PART = 2048
"""Tokens of the vocabulary that one worker embeds at once, whatever the number of workers."""


def load(folder: Path, model: ModelConfig, device: str) -> SentenceTransformer:
    """Load a static model from a folder in Model2Vec's layout or sentence-transformers', or of vectors and tokenizer alone."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    if (folder / "modules.json").is_file():
        return SentenceTransformer(str(folder), device=device, local_files_only=True)
    modules: list[torch.nn.Module] = [StaticEmbedding.load(str(folder), local_files_only=True)]
    if _says_normalize(folder):
        modules.append(Normalize())
    return SentenceTransformer(modules=modules, device=device)


def _says_normalize(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("normalize"))


class TokenVectors:
    """A static model by itself: the mean of a text's token vectors, made a unit vector where the model says so.

    Args:
        weights: (tokens, dimensions), row by row the vector of a token.
        tokenizer: of the model.
        normalised: whether embeddings are made unit vectors.
    """

    def __init__(self, weights: torch.Tensor, tokenizer: Tokenizer, *, normalised: bool) -> None:
        from torch import nn

        self.normalised = normalised
        # As sentence-transformers has it, down to whether a gradient is kept, on which torch's choice of code depends.
        self._mean = nn.EmbeddingBag.from_pretrained(weights, freeze=False)
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.max_seq_length = None

    @property
    def weights(self) -> torch.Tensor:
        """(tokens, dimensions)."""
        return self._mean.weight

    def encode(self, texts: list[str]) -> np.ndarray:
        """Embeddings of texts, (texts, dimensions)."""
        import torch
        from torch.nn import functional

        device = self.weights.device
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        starts = torch.tensor([0, *map(len, ids[:-1])]).cumsum(0)
        tokens = torch.tensor([token for each in ids for token in each], dtype=torch.long)
        with torch.inference_mode():
            vectors = self._mean(tokens.to(device), starts.to(device))
            if self.normalised:
                vectors = functional.normalize(vectors, p=2, dim=-1)
        found: np.ndarray = (vectors.float() if vectors.dtype == torch.bfloat16 else vectors).cpu().numpy()
        return found


def load_alone(folder: Path, model: ModelConfig, device: str) -> TokenVectors | None:
    """A static model from a folder that holds no more than vectors and a tokenizer, else None.

    A model with prompts, further modules or settings is for `load`.
    """
    if model.prompts or model.max_seq_length or not _has_no_settings(folder / "config_sentence_transformers.json"):
        return None
    place, normalised = folder, _says_normalize(folder)
    if (folder / "modules.json").is_file():
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        if [_library_class(module) for module in modules] not in (
            ["StaticEmbedding"],
            ["StaticEmbedding", "Normalize"],
        ):
            return None
        if not all(_has_no_settings(folder / module["path"] / "config.json") for module in modules[1:]):
            return None
        place, normalised = folder / modules[0]["path"], len(modules) == 2
    if not all((place / name).is_file() for name in ("model.safetensors", "tokenizer.json")):
        return None
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    tensors = load_file(place / "model.safetensors")
    if tensors.keys() not in ({"embedding.weight"}, {"embeddings"}):
        return None
    weights = next(iter(tensors.values()))
    if model.dtype:
        weights = weights.to(getattr(torch, model.dtype))
    tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    return TokenVectors(weights.to(device), tokenizer, normalised=normalised)


def _library_class(module: dict[str, str]) -> str | None:
    library, _, name = module["type"].rpartition(".")
    return name if library.split(".")[0] == "sentence_transformers" else None


def _has_no_settings(path: Path) -> bool:
    """Whether a file of sentence-transformers' settings is absent, or says what holds without it."""
    if not path.is_file():
        return True
    values = json.loads(path.read_text(encoding="utf-8"))
    prompts = values.pop("prompts", None) or {}
    default = {
        "similarity_fn_name": "cosine",
        "module_input_name": "sentence_embedding",
        "module_output_name": "sentence_embedding",
    }
    told = {"__version__", "model_type"}
    others = {name: value for name, value in values.items() if name not in told and value is not None}
    return not any(prompts.values()) and others.items() <= default.items()


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
    import numpy as np

    if workers == 1:
        return [embed(tokenized=part) for part in parts]
    forking = multiprocessing.get_context("fork")
    with scratch_folder() as folder:
        _SHARED.append(_Work(embed, parts, folder))
        try:
            # Through pipes go numbers alone: when workers are killed, a pool waits for ever for one that is full.
            with ProcessPoolExecutor(workers, mp_context=forking, initializer=_start_worker) as pool:
                running = [pool.submit(_embed, number) for number in range(len(parts))]
                return [np.load(future.result()) for future in running]
        except BrokenProcessPool:
            raise SourceError(
                "A process that distilled was killed, most often because the machine ran out of memory. Run again with a"
                " smaller device.threads."
            ) from None
        finally:
            _SHARED.clear()


@dataclass(frozen=True)
class _Work:
    """What forked workers share: the function that embeds, with the teacher, the parts, and where embeddings are put."""

    embed: Callable[..., np.ndarray]
    parts: list[list[list[int]]]
    folder: Path


_SHARED: list[_Work] = []


def _start_worker() -> None:
    import torch

    processes.start_worker()
    # The threads of the process that this one was forked from are not here.
    torch.set_num_threads(1)


def _embed(number: int) -> Path:
    import numpy as np

    (work,) = _SHARED
    path = work.folder / f"{number}.npy"
    np.save(path, work.embed(tokenized=work.parts[number]))
    return path
