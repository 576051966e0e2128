"""One adapter for each model family; all of them give mteb an encoder and say what the model is.

A family is a module with `load(folder, model, device)`, entered in `LOADERS`; what it loads goes into mteb's own wrapper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embrepro import numerics
from embrepro.config.schema import Device, ModelConfig
from embrepro.errors import ConfigError, SourceError
from embrepro.models import cross_encoder, dense, sparse, static
from embrepro.models.static import TokenVectors

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta
    from mteb.models.sentence_transformer_wrapper import (
        CrossEncoderWrapper,
        SentenceTransformerEncoderWrapper,
        SparseEncoderWrapper,
    )
    from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder

    Loaded = SentenceTransformer | SparseEncoder | CrossEncoder
    Encoder = SentenceTransformerEncoderWrapper | SparseEncoderWrapper

TOKENIZED_AT_ONCE = 4096
Inputs: TypeAlias = Sequence[str] | Sequence[tuple[str, str]]
"""What a model takes at once: texts, or a cross-encoder's pairs of a query and a text."""
LOADERS: dict[str, Callable[[Path, ModelConfig, str], Loaded]] = {
    "cross-encoder": cross_encoder.load,
    "dense": dense.load,
    "sparse": sparse.load,
    "static": static.load,
}


@dataclass(frozen=True)
class ModelProperties:
    """What a loaded model is; a cross-encoder has neither dimensions nor a similarity."""

    dimensions: int | None
    parameters: int
    max_seq_length: int | None
    dtype: str
    normalised: bool
    similarity: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def load(folder: Path, model: ModelConfig, device: Device, name: str | None = None) -> Loaded:
    """Load a model from its snapshot folder, never by a hub name.

    Args:
        folder: the snapshot.
        model: its configuration.
        device: what the configuration says to run on.
        name: one of several devices, such as cuda:1.

    Raises:
        ConfigError: CUDA is asked for and not there.
        SourceError: the folder does not hold a model of this family.
    """
    expect_device(device)
    try:
        loaded = LOADERS[model.family](folder, model, name or device.name)
    except Exception as error:
        # Libraries say what is wrong with a file by any class; that of tokenizers by Exception itself
        raise SourceError(
            f"{folder} does not load as a {model.family} model: {type(error).__name__}: {error}"
        ) from error
    if model.dtype:
        import torch

        loaded = loaded.to(getattr(torch, model.dtype))
    if model.max_seq_length:
        loaded.max_seq_length = model.max_seq_length
    return loaded.eval()


def expect_device(device: Device) -> None:
    """Raise ConfigError where CUDA is asked for and there is no GPU that PyTorch can use."""
    if device.name == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        built = f"PyTorch {torch.__version__}, built {'for CUDA ' + torch.version.cuda if torch.version.cuda else 'without CUDA'}"
        raise ConfigError(
            f"device=cuda, but there is no GPU to use ({built}). Use device=cpu, or run where `nvidia-smi` lists one."
        )


def describe(loaded: Loaded | TokenVectors) -> ModelProperties:
    """Dimensions, size, limits and similarity of a loaded model."""
    if isinstance(loaded, TokenVectors):
        tokens, dimensions = loaded.weights.shape
        dtype = str(loaded.weights.dtype).removeprefix("torch.")
        return ModelProperties(dimensions, tokens * dimensions, None, dtype, loaded.normalised, "cosine")
    from sentence_transformers.sentence_transformer.modules import Normalize

    limit = loaded.max_seq_length
    return ModelProperties(
        dimensions=_dimensions(loaded),
        parameters=sum(parameter.numel() for parameter in loaded.parameters()),
        max_seq_length=int(limit) if limit is not None and limit < 10**9 else None,
        dtype=str(next(loaded.parameters()).dtype).removeprefix("torch."),
        normalised=any(isinstance(module, Normalize) for module in loaded),
        similarity=str(loaded.similarity_fn_name) if hasattr(loaded, "similarity_fn_name") else None,
    )


def _dimensions(loaded: Loaded) -> int | None:
    from sentence_transformers import CrossEncoder, SparseEncoder

    if isinstance(loaded, CrossEncoder):
        return None
    # What its own method says is the width of its transformer
    if isinstance(loaded, SparseEncoder):
        return int(loaded.encode(["a"]).shape[1])
    encoder: Any = loaded
    return int(encoder.get_embedding_dimension() or 0)


def wrap(loaded: Loaded, model: ModelConfig, revision: str, known: ModelProperties) -> Encoder | CrossEncoderWrapper:
    """Mteb's own wrapper around a loaded model, named as its results will be; what `mteb.evaluate` gets."""
    from mteb.models import sentence_transformer_wrapper as wrappers

    # The model's family says which of the classes was loaded.
    inner: Any = loaded
    encoder: Encoder | CrossEncoderWrapper
    if model.scores_pairs:
        prefixes = (model.prompts.get(part, "") for part in ("query", "document"))
        encoder = wrappers.CrossEncoderWrapper(inner, None, None, *prefixes)
    else:
        sparse_or_not = (
            wrappers.SparseEncoderWrapper if model.kind == "sparse" else wrappers.SentenceTransformerEncoderWrapper
        )
        encoder = sparse_or_not(inner, model_prompts=dict(model.prompts) or None)
    encoder.mteb_model_meta = meta(model, revision, known)
    return encoder


def load_encoder(
    folder: Path, model: ModelConfig, device: Device, revision: str, name: str | None = None
) -> Encoder | CrossEncoderWrapper | TokenVectors:
    """A model as encode uses it: in mteb's wrapper, or by itself where it is a static one that needs no more.

    Args:
        folder: the snapshot.
        model: its configuration.
        device: what the configuration says to run on.
        revision: the model's, as its results will name it.
        name: one of several devices, such as cuda:1.

    Raises:
        ConfigError: CUDA is asked for and not there.
        SourceError: the folder does not hold a model of this family.
    """
    expect_device(device)
    if model.family == "static":
        try:
            alone = static.load_alone(folder, model, name or device.name)
        except Exception:
            # What is wrong with a file is said by the library that reads all of them.
            alone = None
        if alone is not None:
            return alone
    loaded = load(folder, model, device, name)
    if device.name == "cpu":
        _transpose_weights(loaded)
    return wrap(loaded, model, revision, describe(loaded))


def _transpose_weights(loaded: Loaded) -> None:
    """Lay the weights of linear layers out as their products read them, which is 1 to 3 % faster and gives the same bytes.

    Products of three rows or fewer, thus of a single word alone, and of one or two columns come out otherwise in the last
    bit. A weight that is also a table of embeddings stays, as it is read by row there; so does one of half precision, whose
    products are a sixth as fast on transposed weights.
    """
    import torch

    looked_up = {id(module.weight) for module in loaded.modules() if isinstance(module, torch.nn.Embedding)}
    for module in loaded.modules():
        if isinstance(module, torch.nn.Linear) and id(module.weight) not in looked_up:
            weight = module.weight.data
            if weight.dtype == torch.float32:
                module.weight.data = weight.t().contiguous().t()


def model_in(encoder: Any) -> Loaded | TokenVectors:  # noqa: ANN401 - one of mteb's wrappers, which share no protocol
    """The model that `load_encoder` put into mteb's wrapper, or left by itself."""
    inner: Loaded | TokenVectors = encoder if isinstance(encoder, TokenVectors) else encoder.model
    return inner


def is_sparse(encoder: Encoder | CrossEncoderWrapper | TokenVectors) -> bool:
    """Whether an encoder's embeddings are mostly zeros, and kept as such."""
    if isinstance(encoder, TokenVectors):
        return False
    from mteb.models.sentence_transformer_wrapper import SparseEncoderWrapper

    return isinstance(encoder, SparseEncoderWrapper)


def takes_pairs(loaded: Loaded) -> bool:
    """Whether a loaded model is a cross-encoder, which takes a query and a text together."""
    from sentence_transformers import CrossEncoder

    return isinstance(loaded, CrossEncoder)


def process_inputs(loaded: Loaded, inputs: Inputs, batch_size: int) -> None:
    """Do what a model does with its inputs, for the clock: embed texts; or, of a cross-encoder, score pairs."""
    model: Any = loaded
    work = model.predict if takes_pairs(loaded) else model.encode
    work(inputs, batch_size=batch_size, show_progress_bar=False)


def count_tokens(loaded: Loaded, inputs: Inputs) -> int:
    """Tokens that `process_inputs` makes a model read: after cutting, special tokens included, padding not."""
    features = loaded.preprocess(inputs)
    mask = features.get("attention_mask")
    return int(mask.sum() if mask is not None else features["input_ids"].numel())


def token_counts(loaded: Loaded | TokenVectors, *columns: pa.ChunkedArray, threads: int = 1) -> np.ndarray:
    """Tokens of each text, or of each pair of a text and a second one, special tokens counted, as truncated, (texts,).

    A model without a fast tokenizer gives a quarter of the bytes, which sorts about as well.

    Args:
        loaded: the model.
        columns: texts, (texts,), and for pairs the second ones.
        threads: that count.
    """
    from tokenizers import Tokenizer

    # A static model has the fast tokenizer itself, a transformer wraps one.
    tokenizer: Any = loaded.tokenizer
    backend = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        counts = np.sum([pc.binary_length(column).to_numpy() for column in columns], axis=0) // 4
    else:
        # A copy: the model's own is set to pad and truncate while it works.
        counter = Tokenizer.from_str(backend.to_str())
        counter.no_padding()
        counter.no_truncation()
        blocks = [np.empty(0, dtype=np.int64)]
        with numerics.tokenizing_in(threads):
            for start in range(0, len(columns[0]), TOKENIZED_AT_ONCE):
                parts = [column[start : start + TOKENIZED_AT_ONCE].to_pylist() for column in columns]
                block = parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))
                blocks.append(np.asarray([len(each) for each in counter.encode_batch_fast(block)], dtype=np.int64))
        counts = np.concatenate(blocks)
    limit = loaded.max_seq_length
    found: np.ndarray = np.minimum(counts, limit) if limit is not None and limit < 10**9 else counts
    return found


def meta(model: ModelConfig, revision: str, known: ModelProperties) -> ModelMeta:
    """The model as mteb's results name it."""
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    similarity = {"cosine": ScoringFunction.COSINE, "dot": ScoringFunction.DOT_PRODUCT}.get(known.similarity or "")
    values = {
        "name": model.full_name,
        "revision": revision,
        "embed_dim": known.dimensions,
        "n_parameters": known.parameters,
        "max_tokens": known.max_seq_length,
        "similarity_fn_name": similarity,
        "open_weights": True,
        "model_type": [model.kind],
        "framework": ["Sentence Transformers", "PyTorch"],
    }
    return ModelMeta.create_empty(overwrites=values)
