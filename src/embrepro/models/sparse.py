"""Sparse models (SPLADE and its kin): a weight for each token of a vocabulary, almost all of them zero."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embrepro.config.schema import ModelConfig

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder


def load(folder: Path, model: ModelConfig, device: str) -> SparseEncoder:
    """Load a sparse model from a folder in sentence-transformers' layout."""
    from sentence_transformers import SparseEncoder

    return SparseEncoder(str(folder), device=device, local_files_only=True, max_active_dims=model.max_active_dims)
