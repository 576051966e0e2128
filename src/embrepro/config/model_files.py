"""The files of `conf/model`: a model, and what others say of it, with sources.

No run depends on the part `published`: `config.conf_files` leaves it out of what `conf/` composes to, so that a corrected
figure makes no stage run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from embrepro import kit
from embrepro.config.messages import complaints, suggest
from embrepro.config.names import PUBLISHED
from embrepro.config.nanobeir import Similarity
from embrepro.config.schema import ModelConfig
from embrepro.config.yaml_files import Strict, read_yaml
from embrepro.errors import ConfigError


@dataclass(frozen=True)
class FigureKind:
    """A kind of published figure; higher is better in all of them."""

    unit: str
    kind: Literal["quality", "speed"]
    title: str
    description: str


FIGURES = {
    "sentence_performance": FigureKind(
        "points", "quality", "Sentence performance", "mean over 14 tasks of sentence embeddings, of mixed metrics"
    ),
    "semantic_search": FigureKind(
        "points", "quality", "Semantic search", "mean over 6 retrieval data sets whose names were not published"
    ),
    "msmarco_dev_mrr_at_10": FigureKind("points", "quality", "MS MARCO", "MRR@10 on the dev set of MS MARCO passages"),
    "trec_dl_2019_ndcg_at_10": FigureKind("points", "quality", "TREC DL 2019", "nDCG@10, reranking"),
    "trec_dl_2020_ndcg_at_10": FigureKind("points", "quality", "TREC DL 2020", "nDCG@10, reranking"),
    "beir_13_ndcg_at_10": FigureKind("points", "quality", "BEIR-13", "mean nDCG@10 over 13 data sets of BEIR"),
    "nanobeir_mean_ndcg_at_10": FigureKind("points", "quality", "NanoBEIR", "mean nDCG@10 over its 13 data sets"),
    "stsbenchmark_test": FigureKind("points", "quality", "STSbenchmark", "correlation on the test set"),
    **{
        f"mteb_{kind}": FigureKind(
            "points", "quality", f"MTEB {kind.replace('_', ' ')}", "mean over MTEB's English tasks of this type"
        )
        for kind in ("classification", "clustering", "pair_classification", "reranking", "sts")
    },
    "sentences_per_second_v100": FigureKind("per second", "speed", "Sentences/s, V100", "on a V100 GPU"),
    "queries_per_second_gpu": FigureKind("per second", "speed", "Queries/s, GPU", "queries of MS MARCO on a V100 GPU"),
    "queries_per_second_cpu": FigureKind("per second", "speed", "Queries/s, CPU", "queries of MS MARCO on 8 CPU cores"),
    "documents_per_second_gpu": FigureKind("per second", "speed", "Passages/s, GPU", "MS MARCO passages on a V100 GPU"),
    "documents_per_second_cpu": FigureKind(
        "per second", "speed", "Passages/s, CPU", "MS MARCO passages on 8 CPU cores"
    ),
    "pairs_per_second_v100": FigureKind(
        "per second", "speed", "Pairs/s, V100", "documents that a cross-encoder reranks on a V100 GPU"
    ),
    "sentences_per_second_i7_13700k": FigureKind("per second", "speed", "Sentences/s, i7", "on an Intel i7-13700K"),
    "sentences_per_second_rtx_3090": FigureKind("per second", "speed", "Sentences/s, 3090", "on an RTX 3090"),
}


def _known(name: str) -> str:
    if name not in FIGURES:
        raise ValueError(f"no published figure is called '{name}'{suggest(name, FIGURES)}")
    return name


class PublishedFigure(Strict):
    """One figure, and who published it."""

    value: float
    source: str = Field(min_length=3)


class PublishedModel(Strict):
    """What documents and registries say of a model."""

    source: str = Field(min_length=3, description="where the properties below come from")
    says: str | None = Field(default=None, description="what the document recommends it for, or says it is")
    dimensions: int | None = Field(default=None, gt=0)
    parameters: int | None = Field(default=None, gt=0)
    max_seq_length: int | None = Field(default=None, gt=0, description="tokens")
    normalised: bool | None = None
    score_functions: list[Similarity] = Field(default_factory=list)
    size_mb: float | None = Field(default=None, gt=0)
    licence: str | None = Field(default=None, description="SPDX identifier, as the hub has it")
    figures: dict[Annotated[str, AfterValidator(_known)], PublishedFigure] = Field(default_factory=dict)


PROPERTIES = ("dimensions", "max_seq_length", "size_mb")
"""What is published of a model beside its figures, and is a number."""


@dataclass(frozen=True)
class PublishedValue:
    """One published number of one model."""

    model: str
    figure: str
    value: float
    source: str


@dataclass(frozen=True)
class ModelFile:
    """A file of `conf/model`."""

    key: str
    model: ModelConfig
    published: PublishedModel | None

    @property
    def pinned(self) -> bool:
        """Whether a run may use the model, or it must be looked up first."""
        weights = self.model.published_weights
        return weights is None or weights.pinned


def read_model_file(path: Path) -> ModelFile:
    """Read a file of `conf/model`; raises ConfigError where it is not one."""
    content = read_yaml(path)
    try:
        values = dict(content["models"][path.stem])
    except (KeyError, TypeError):
        raise ConfigError(f"{path}: expected the model under 'models.{path.stem}', as the file is called.") from None
    published = values.pop(PUBLISHED, None)
    try:
        return ModelFile(
            path.stem,
            ModelConfig.model_validate(values),
            PublishedModel.model_validate(published) if published is not None else None,
        )
    except ValidationError as error:
        kind = PublishedModel if error.title == PublishedModel.__name__ else ModelConfig
        shown = published if kind is PublishedModel else values
        raise ConfigError(f"{path} is not a valid model:\n{complaints(error, kind, shown)}") from None


def read_model_files(conf: Path = kit.CONF) -> dict[str, ModelFile]:
    """All files of `conf/model`, the kit's included, by key."""
    files = kit.documents(conf / "model", kit.CONF / "model")
    return {key: read_model_file(path) for key, path in files.items()}


def published_values(files: Mapping[str, ModelFile]) -> list[PublishedValue]:
    """Every published figure and property of the models, with its source."""
    found = []
    for key, file in files.items():
        if (published := file.published) is None:
            continue
        found += [PublishedValue(key, name, each.value, each.source) for name, each in published.figures.items()]
        properties = ((name, getattr(published, name)) for name in PROPERTIES)
        found += [PublishedValue(key, name, float(value), published.source) for name, value in properties if value]
    return found
