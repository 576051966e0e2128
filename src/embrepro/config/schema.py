"""The configuration's sections, keys and values, each with its type.

An unknown key, model, task set or value is refused here, before any work, with the nearest known ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from embrepro import kit
from embrepro.config.messages import complaints, suggest
from embrepro.config.names import (
    DistributionName,
    DocumentName,
    FolderPath,
    HubName,
    ImageName,
    ModelKey,
    NetworkName,
    PackageVersion,
    RelativePath,
    TaskName,
)
from embrepro.config.nanobeir import NanoBeir
from embrepro.config.yaml_files import Strict
from embrepro.errors import ConfigError
from embrepro.numerics import Numerics

PairTask = Literal["STS", "PairClassification"]
Family = Literal["static", "dense", "sparse", "cross-encoder"]
ModelKind = Literal["dense", "sparse", "cross-encoder"]
"""What mteb and sentence-transformers tell apart among models."""
KINDS: dict[Family, ModelKind] = {"sparse": "sparse", "cross-encoder": "cross-encoder"}
"""The kind of each family that does not give dense embeddings."""
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
DOCUMENTS = kit.CONF / "documents"
"""Files that a key of the configuration names. A folder of `conf/` itself that is called like a key would be a Hydra group."""


class Package(Strict):
    """A Python package that carries a model's files."""

    distribution: DistributionName = Field(description="name in the package index")
    version: PackageVersion
    folder: RelativePath = Field(description="folder of the files, relative to site-packages")
    files: dict[RelativePath, RelativePath] = Field(
        default_factory=dict,
        description="a model's file -> its path in the folder, where the package has its own layout",
    )


class Weights(Strict):
    """Where a published model's bytes come from: mirror, package or hub, always this revision."""

    org: HubName
    name: HubName
    revision: str | None = Field(
        description="commit of the hub repository, 40 hexadecimal digits; null is unpinned, and refused until "
        "`embrepro pin` has looked it up, unless a package carries the files and their SHA-256 is given"
    )
    package: Package | None = None
    sha256: dict[RelativePath, str] = Field(
        default_factory=dict, description="file -> SHA-256, checked for every source"
    )

    @field_validator("revision")
    @classmethod
    def _pinned(cls, value: str | None) -> str | None:
        if value is not None and not COMMIT.fullmatch(value):
            raise ValueError("a commit of 40 hexadecimal digits is needed, not a branch or tag that can move")
        return value

    @field_validator("sha256")
    @classmethod
    def _hexadecimal(cls, value: dict[str, str]) -> dict[str, str]:
        for file, digest in value.items():
            if not SHA256.fullmatch(digest):
                raise ValueError(f"the SHA-256 of {file} must be 64 hexadecimal digits")
        return value

    @property
    def pinned(self) -> bool:
        """Whether the files are known, by commit or by content."""
        return self.revision is not None or bool(self.package and self.sha256)

    @property
    def repository(self) -> str:
        """Hub repository, organisation/name."""
        return f"{self.org}/{self.name}"


class Distillation(Strict):
    """A Model2Vec distillation recipe (`model2vec.distill.distill`)."""

    teacher: Weights
    pca_dims: int = Field(gt=0)
    sif_coefficient: float = Field(default=1e-4, gt=0)
    quantize_to: Literal["float16", "float32"] = "float16"


class ModelConfig(Strict):
    """One model: its name, and exactly one source of its bytes."""

    SOURCES: ClassVar = ("weights", "folder", "distill")

    org: HubName
    name: HubName
    family: Family
    weights: Weights | None = None
    folder: FolderPath | None = Field(
        default=None, description="a local folder in sentence-transformers or Model2Vec layout"
    )
    distill: Distillation | None = None
    batch_size: int | None = Field(
        default=None, gt=0, description="texts encoded at once; null fills the device's budget of tokens"
    )
    dtype: Literal["float32", "float16", "bfloat16"] | None = Field(
        default=None, description="dtype the weights are cast to; null keeps the stored one"
    )
    max_seq_length: int | None = Field(default=None, gt=0, description="tokens; null keeps the model's own")
    max_active_dims: int | None = Field(
        default=None, gt=0, description="of a sparse model: how many of its largest weights a text keeps; null for all"
    )
    pair_tasks: list[PairTask] = Field(
        default_factory=list,
        description="of a cross-encoder: types of tasks whose pairs its scores are made for, beside documents to rank",
    )
    prompts: dict[str, str] = Field(
        default_factory=dict,
        description="mteb's prompt keys (task name, task type, query, document) -> text put in front",
    )

    @model_validator(mode="after")
    def _one_source(self) -> ModelConfig:
        given = [key for key in self.SOURCES if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of {', '.join(self.SOURCES)} says where the model comes from; got {given or 'none'}"
            )
        return self

    @model_validator(mode="after")
    def _prompts_of_pairs(self) -> ModelConfig:
        if self.scores_pairs and (unknown := sorted(self.prompts.keys() - {"query", "document"})):
            raise ValueError(f"prompts: a cross-encoder has but query and document; got {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _keys_of_its_family(self) -> ModelConfig:
        if self.max_active_dims and self.kind != "sparse":
            raise ValueError(f"max_active_dims belongs to a sparse model; this one is {self.family}")
        if self.pair_tasks and not self.scores_pairs:
            raise ValueError(f"pair_tasks belong to a cross-encoder; this model is {self.family}")
        return self

    @property
    def kind(self) -> ModelKind:
        """What the model gives: embeddings, dense unless its family says otherwise, or scores of pairs."""
        return KINDS.get(self.family, "dense")

    @property
    def scores_pairs(self) -> bool:
        """Whether the model scores a query and a document together, and has no embeddings."""
        return self.kind == "cross-encoder"

    @property
    def published_weights(self) -> Weights | None:
        """The published model that its bytes are, or are distilled from."""
        return self.distill.teacher if self.distill else self.weights

    @property
    def full_name(self) -> str:
        """Name in mteb's results, organisation/name."""
        return f"{self.org}/{self.name}"

    @property
    def result_folder(self) -> str:
        """Folder in mteb's result layout."""
        return f"{self.org}__{self.name}"


class Tasks(Strict):
    """Which tasks are asked for."""

    names: list[TaskName] = Field(default_factory=list, description="tasks by mteb's names, or the custom suite's")
    benchmark: str | None = Field(default=None, description="a benchmark by mteb's name, such as MTEB(eng, v2)")
    languages: list[str] | None = Field(default=None, description="ISO 639-3 codes, such as eng or eng-Latn")
    subsets: dict[TaskName, list[str]] = Field(default_factory=dict, description="task -> subsets to keep")
    rerank: int | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="documents of BM25's ranking that a cross-encoder reranks in a retrieval task",
    )
    nanobeir: NanoBeir | None = Field(
        default=None, description="NanoBEIR's data sets, scored by sentence-transformers' own evaluators as well"
    )
    allow_missing: bool = Field(default=False, description="end well although a requested task has no score")

    @model_validator(mode="after")
    def _something_asked(self) -> Tasks:
        if bool(self.names) == bool(self.benchmark) and (self.names or not self.nanobeir):
            raise ValueError(
                "give either names (a list of tasks) or benchmark (one of mteb's), not both and not neither"
            )
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"asked for twice: {', '.join(twice)}")
        return self


class Device(Strict):
    """What the stages run on."""

    name: Literal["cpu", "cuda"]
    numerics: Numerics = Field(
        description="portable: the same bytes on any x86-64 processor with AVX2; native: whatever the libraries choose"
    )
    threads: int | None = Field(
        default=None,
        gt=0,
        description="CPU cores to use, null for all: worker processes where numerics are portable, else threads of one",
    )
    batch_tokens: int = Field(gt=0, description="tokens encoded at once, padding included, unless a batch_size is set")
    batch_size: int | None = Field(
        default=None, gt=0, description="texts encoded at once, in place of the models' own; null keeps those"
    )


class Benchmark(Strict):
    """How long and how often the benchmark stage measures."""

    measure: bool = Field(default=True, description="whether speed is measured; without it the report shows none")
    repeats: int = Field(ge=6, description="of each setting; a median of fewer than six has no 95 % interval")
    batch_sizes: list[int] = Field(min_length=1, description="texts encoded at once")
    seconds: float = Field(gt=0, description="least time of one measurement; sets how many texts it takes")
    longest_batch: float = Field(gt=0, description="seconds; what batch would take a model longer is left out for it")
    queries: int = Field(gt=0, description="single queries in each repeat")

    @field_validator("batch_sizes")
    @classmethod
    def _ascending(cls, value: list[int]) -> list[int]:
        if any(size < 1 for size in value) or value != sorted(set(value)):
            raise ValueError(f"each size once, from the smallest to the largest, at least 1; got {value}")
        return value


class Images(Strict):
    """The image for each device."""

    cpu: ImageName = "embrepro:cpu"
    cuda: ImageName = "embrepro:cuda"


class Runtime(Strict):
    """Where the stages run, and what a container may use. No stage depends on it."""

    name: Literal["host", "docker"]
    engine: Literal["auto", "docker", "podman"] = Field(default="auto", description="auto: the first that answers")
    image: Images = Field(default_factory=Images)
    memory: str | None = Field(default=None, pattern=r"^[1-9]\d*[kmg]$", description="limit, such as 8g; null for none")
    cpus: float | None = Field(default=None, gt=0, description="limit, such as 1.5; null for none")
    network: NetworkName | None = Field(
        default=None, description="of the download stage alone; null takes the engine's default"
    )


class Executor(Strict):
    """Who does the work of encode and evaluate. No stage depends on it."""

    name: Literal["local", "ray"] = Field(description="local: processes of this machine; ray: the actors of a cluster")
    address: str | None = Field(
        default=None,
        pattern=r"^[\w.:/\[\]-]+$",
        description="of a Ray cluster, such as 10.0.0.1:6379; null for what RAY_ADDRESS says, else Ray on this machine",
    )


class SourceConfig(Strict):
    """Where bytes come from, beside the hub and packages."""

    mirror: FolderPath | None = Field(default=None, description="folder of a mirror; EMBREPRO_MIRROR wins over it")


class Config(Strict):
    """The whole configuration of a run."""

    baseline: str
    candidate: str
    models: dict[ModelKey, ModelConfig]
    tasks: Tasks
    device: Device
    runtime: Runtime
    executor: Executor
    source: SourceConfig
    benchmark: Benchmark
    benchmarked: dict[ModelKey, Literal[True]] = Field(
        description="models that have a benchmark stage each, in which the baseline is measured in turn with them: all "
        "that were chosen otherwise than as the baseline"
    )
    claims: list[DocumentName] = Field(description="files of conf/documents/claims to judge in the report")
    cases: list[Literal["languages"]] = Field(
        description="documented faults of another version of mteb to run, whose records decide claims"
    )
    recommendation: DocumentName | None = Field(
        description="file of conf/documents/recommendation that decides each use case"
    )
    seed: int = Field(ge=0, lt=2**32)

    @model_validator(mode="after")
    def _roles_exist(self) -> Config:
        for role in ("baseline", "candidate"):
            key = getattr(self, role)
            if key not in self.models:
                raise ValueError(f"{role}: no model '{key}' under models{suggest(key, self.models)}")
        for key in self.benchmarked:
            if key not in self.models:
                raise ValueError(f"benchmarked: no model '{key}' under models{suggest(key, self.models)}")
        names = [model.result_folder for model in self.models.values()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"two models share the name {twice[0].replace('__', '/')}; their results would overwrite each other"
            )
        return self

    @model_validator(mode="after")
    def _models_are_pinned(self) -> Config:
        for key, model in self.models.items():
            weights = model.published_weights
            if weights and not weights.pinned:
                raise ValueError(
                    f"models.{key} is unpinned: the revision of {weights.repository} is not known. "
                    f"Run `embrepro pin {key}`, then compose again"
                )
        return self

    @model_validator(mode="after")
    def _prompts_of_nanobeir(self) -> Config:
        if prompts := self.tasks.nanobeir and self.tasks.nanobeir.prompts():
            for key, model in self.models.items():
                if not model.scores_pairs:
                    self.models[key] = model.model_copy(update={"prompts": model.prompts | prompts})
        return self

    def model(self, key: str) -> ModelConfig:
        """The model under `key`; raises ConfigError that names the nearest known ones."""
        if key not in self.models:
            raise ConfigError(f"No model '{key}' in this configuration{suggest(key, self.models)}")
        return self.models[key]

    @property
    def claim_files(self) -> list[Path]:
        """The claims files in force; raises ConfigError where one does not exist."""
        return [_document("claims", name) for name in self.claims]

    @property
    def rules_file(self) -> Path | None:
        """The file of recommendation rules, if any; raises ConfigError where it does not exist."""
        return _document("recommendation", self.recommendation) if self.recommendation else None

    @property
    def mirror(self) -> Path | None:
        """The mirror folder in force, if any; raises ConfigError where it does not exist."""
        chosen = os.environ.get("EMBREPRO_MIRROR") or self.source.mirror
        if not chosen:
            return None
        path = Path(chosen).expanduser()
        if not path.is_dir():
            said_by = "EMBREPRO_MIRROR" if os.environ.get("EMBREPRO_MIRROR") else "source.mirror"
            raise ConfigError(f"{said_by} names {path}, which is not a folder. Correct it, or unset it to use the hub.")
        return path


def _document(folder: str, name: str) -> Path:
    known = kit.documents(DOCUMENTS / folder, DOCUMENTS / folder)
    if name not in known:
        raise ConfigError(f"{folder}: there is no {DOCUMENTS / folder / name}.yaml{suggest(name, known)}")
    return known[name]


def parse_config(values: object, origin: str) -> Config:
    """Plain values as a `Config`; `origin` names them in errors.

    Raises:
        ConfigError: an unknown key or a wrong value, with the nearest known ones.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{origin} holds no mapping of keys to values.")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin} is not a valid configuration:\n{complaints(error, Config, values)}") from None
