"""The one typed reading of the configuration: `params.yaml`, or what `conf/` composes to.

An unknown key, model, task set or value is refused here, before any work, with the nearest known ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from embrepro.config.documents import Strict, complaints, known_keys, suggest
from embrepro.errors import ConfigError

Family = Literal["static", "dense", "sparse", "cross-encoder"]
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class Package(Strict):
    """A Python package that carries a model's files."""

    distribution: str = Field(description="name in the package index")
    version: str
    folder: str = Field(description="folder of the files, relative to site-packages")


class Weights(Strict):
    """Where a published model's bytes come from: mirror, package or hub, always this revision."""

    org: str
    name: str
    revision: str = Field(description="commit of the hub repository, 40 hexadecimal digits")
    package: Package | None = None
    sha256: dict[str, str] = Field(default_factory=dict, description="file -> SHA-256, checked whoever served it")

    @field_validator("revision")
    @classmethod
    def _pinned(cls, value: str) -> str:
        if not COMMIT.fullmatch(value):
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

    org: str = Field(pattern=r"^[\w.-]+$")
    name: str = Field(pattern=r"^[\w.-]+$")
    family: Family
    weights: Weights | None = None
    folder: str | None = Field(default=None, description="a local folder in sentence-transformers or Model2Vec layout")
    distill: Distillation | None = None
    batch_size: int = Field(default=32, gt=0, description="texts encoded at once")
    dtype: Literal["float32", "float16", "bfloat16"] | None = Field(
        default=None, description="dtype the weights are cast to; null keeps the stored one"
    )
    max_seq_length: int | None = Field(default=None, gt=0, description="tokens; null keeps the model's own")
    prompts: dict[str, str] = Field(
        default_factory=dict,
        description="mteb's prompt keys (task name, task type, query, document) -> text put in front",
    )

    @model_validator(mode="after")
    def _one_source(self) -> ModelConfig:
        given = [key for key in ("weights", "folder", "distill") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of weights, folder, distill says where the model comes from; got {given or 'none'}"
            )
        return self

    @model_validator(mode="after")
    def _prompts_of_pairs(self) -> ModelConfig:
        if self.scores_pairs and (unknown := sorted(self.prompts.keys() - {"query", "document"})):
            raise ValueError(f"prompts: a cross-encoder has but query and document; got {', '.join(unknown)}")
        return self

    @property
    def scores_pairs(self) -> bool:
        """Whether the model scores a query and a document together, and has no embeddings."""
        return self.family == "cross-encoder"

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

    names: list[str] = Field(default_factory=list, description="tasks by mteb's names, or the custom suite's")
    benchmark: str | None = Field(default=None, description="a benchmark by mteb's name, such as MTEB(eng, v2)")
    languages: list[str] | None = Field(default=None, description="ISO 639-3 codes, such as eng or eng-Latn")
    subsets: dict[str, list[str]] = Field(default_factory=dict, description="task -> subsets to keep")
    rerank: int | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="documents of BM25's ranking that a cross-encoder ranks anew in a retrieval task",
    )
    allow_missing: bool = Field(default=False, description="end well although a requested task has no score")

    @model_validator(mode="after")
    def _something_asked(self) -> Tasks:
        if bool(self.names) == bool(self.benchmark):
            raise ValueError(
                "give either names (a list of tasks) or benchmark (one of mteb's), not both and not neither"
            )
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"asked for twice: {', '.join(twice)}")
        return self


class Device(Strict):
    """What the encode and benchmark stages run on."""

    name: Literal["cpu", "cuda"]
    threads: int | None = Field(default=None, gt=0, description="CPU threads; null takes the machine's cores")
    batch_size: int | None = Field(default=None, gt=0, description="texts encoded at once; null keeps the model's own")


class Benchmark(Strict):
    """How long and how often the benchmark stage measures."""

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

    cpu: str = Field(default="embrepro:cpu", min_length=1)
    cuda: str = Field(default="embrepro:cuda", min_length=1)


class Runtime(Strict):
    """Where the stages run, and what a container may use. No stage depends on it."""

    name: Literal["host", "docker"]
    engine: Literal["auto", "docker", "podman"] = Field(default="auto", description="auto: the first that answers")
    image: Images = Field(default_factory=Images)
    memory: str | None = Field(default=None, pattern=r"^[1-9]\d*[kmg]$", description="limit, such as 8g; null for none")
    cpus: float | None = Field(default=None, gt=0, description="limit, such as 1.5; null for none")
    network: str | None = Field(
        default=None, description="of the download stage alone; null takes the engine's default"
    )


class SourceConfig(Strict):
    """Where bytes come from, beside the hub and packages."""

    mirror: str | None = Field(default=None, description="folder of a mirror; EMBREPRO_MIRROR wins over it")


class Config(Strict):
    """The whole configuration of a run."""

    baseline: str
    candidate: str
    models: dict[str, ModelConfig]
    tasks: Tasks
    device: Device
    runtime: Runtime
    source: SourceConfig
    benchmark: Benchmark
    claims: list[str] = Field(description="files of conf/claims to judge in the report")
    recommendation: str | None = Field(description="file of conf/recommendation that decides each use case")
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _roles_exist(self) -> Config:
        for role in ("baseline", "candidate"):
            key = getattr(self, role)
            if key not in self.models:
                raise ValueError(f"{role}: no model '{key}' under models{suggest(key, self.models)}")
        names = [model.result_folder for model in self.models.values()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"two models share the name {twice[0].replace('__', '/')}; their results would overwrite each other"
            )
        return self

    def model(self, key: str) -> ModelConfig:
        """The model under `key`; raises ConfigError that names the nearest known ones."""
        if key not in self.models:
            raise ConfigError(f"No model '{key}' in this configuration{suggest(key, self.models)}")
        return self.models[key]

    @property
    def claim_files(self) -> list[Path]:
        """The claims files in force; raises ConfigError where one does not exist."""
        return [_conf_file("claims", name) for name in self.claims]

    @property
    def rules_file(self) -> Path | None:
        """The file of recommendation rules, if any; raises ConfigError where it does not exist."""
        return _conf_file("recommendation", self.recommendation) if self.recommendation else None

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


def _conf_file(folder: str, name: str) -> Path:
    path = Path("conf") / folder / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in path.parent.glob("*.yaml")]
        raise ConfigError(f"{folder}: there is no {path}{suggest(name, known)}")
    return path


def load(path: Path | str = "params.yaml") -> Config:
    """Read and check a parameter file.

    Raises:
        ConfigError: the file is absent, is no YAML, or holds an unknown key or a wrong value.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} is missing. Write it from conf/ with: embrepro compose --write")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    return check(values, str(path))


def check(values: object, origin: str) -> Config:
    """Turn plain values into a `Config`; `origin` names them in errors."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{origin} holds no mapping of keys to values.")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin} is not a valid configuration:\n{complaints(error, Config, values)}") from None


def compose(overrides: Sequence[str] = (), conf: Path | str = "conf") -> dict[str, Any]:
    """What `conf/` composes to under Hydra overrides such as `model=qwen25`, as plain values.

    Raises:
        ConfigError: an override names an unknown group, option or key.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(Path(conf).resolve()), version_base="1.3"):
            composed = hydra_compose("config", overrides=list(overrides))
        return OmegaConf.to_container(composed, resolve=True)  # type: ignore[return-value]
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_hydra_message(str(error), Path(conf))) from None


def _hydra_message(message: str, conf: Path) -> str:
    """Hydra's complaint about an override in one line, with the nearest known words in place of its advice to append."""
    if missing := re.search(r"Could not find '(\w+)/([^']+)'", message):
        group, option = missing.groups()
        known = sorted(file.stem for file in (conf / group).glob("*.yaml"))
        hint = f"{suggest(option, known)} (all: {', '.join(known)})"
        return f"{group}={option}: there is no {conf.name}/{group}/{option}.yaml{hint}"
    if refused := re.search(r"Could not override '([^']+)'", message):
        return _unknown_override(refused[1].split("."), conf)
    return " ".join(message.split())


def _unknown_override(path: list[str], conf: Path) -> str:
    models = [file.stem for file in (conf / "model").glob("*.yaml")]
    for depth, key in enumerate(path):
        known = models if path[:depth] == ["models"] else known_keys(Config, path[:depth])
        if depth == 0:
            known = [*known, *(folder.name for folder in conf.iterdir() if folder.is_dir())]
        if known and key not in known:
            return f"{'.'.join(path[: depth + 1])}: unknown key{suggest(key, known)}"
    name = ".".join(path)
    return f"{name}: the chosen files of {conf.name}/ do not hold this key; add it with +{name}=..."


def dump(values: Mapping[str, Any]) -> str:
    """YAML of composed values, keys in the order of `conf/`, as `params.yaml` holds them."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)
