"""Cross-encoders: query and document are read together and given one score; there are no embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embrepro.config.schema import ModelConfig

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


def load(folder: Path, model: ModelConfig, device: str) -> CrossEncoder:
    """Load a cross-encoder from a folder in sentence-transformers' layout."""
    from sentence_transformers import CrossEncoder

    loaded: CrossEncoder = CrossEncoder(str(folder), device=device, local_files_only=True)
    return loaded
