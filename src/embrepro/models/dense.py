"""Dense models: a transformer and a pooling, in sentence-transformers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embrepro.config.schema import ModelConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def load(folder: Path, model: ModelConfig, device: str) -> SentenceTransformer:
    """Load a dense model from a folder."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device=device, local_files_only=True)
