"""Static models (Model2Vec): one vector a token, averaged.

They run through sentence-transformers' `StaticEmbedding`, which is how mteb's own registry loads them, so that scores
can be set beside published ones. Unlike `model2vec.StaticModel.encode` it cuts no text at 512 tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from embrepro.config.schema import Distillation, ModelConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


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


def distill(teacher: Path, recipe: Distillation, folder: Path) -> None:
    """Distil a teacher's snapshot into a Model2Vec model in `folder`; the same teacher and recipe give the same bytes."""
    import torch
    from model2vec.distill import distill

    torch.manual_seed(0)
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
