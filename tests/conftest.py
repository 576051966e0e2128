"""What several test modules share: a tiny static model on disk, a project folder, the kit as a library."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from embrepro import numerics

# Before numeric libraries are loaded: processes side by side, each with a thread for every core, fight for them.
os.environ.update(numerics.ONE_THREAD)

import numpy as np
import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from checkout import Checkout

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.pop("EMBREPRO_MIRROR", None)

from embrepro.progress import console, processes

processes.collect_rarely()
console.silence_libraries()

REPOSITORY = Path(__file__).parents[1]
WORDS = [
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "is",
    "it",
    "that",
    "for",
    "on",
    "with",
    "as",
    "this",
    "not",
    "one",
    "two",
]


def build_tokenizer(*special: str) -> Tokenizer:
    """Words, letters and the special tokens given."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordPiece

    letters = [chr(code) for code in range(33, 127)]
    tokens = dict.fromkeys(["[UNK]", *special, *WORDS, *letters, *(f"##{letter}" for letter in letters)])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=1000))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def build_static_model(folder: Path, *, dtype: str = "float16", dimensions: int = 32, seed: int = 7) -> Path:
    """A Model2Vec model over byte-level tokens with random vectors: small, and different for every text."""
    from model2vec import StaticModel

    tokenizer = build_tokenizer()
    vocabulary = tokenizer.get_vocab()
    vectors = np.random.default_rng(seed).standard_normal((len(vocabulary), dimensions)).astype(dtype)
    StaticModel(vectors, tokenizer, normalize=True).save_pretrained(str(folder))
    return folder


def build_sources(root: Path) -> Path:
    """A mirror, and two tiny static models, `big` and `small`, in a folder."""
    import tiny_mirror

    tiny_mirror.build(root / "mirror")
    build_static_model(root / "big", dimensions=32, seed=1)
    build_static_model(root / "small", dimensions=8, seed=2)
    return root


def _tiny_bert(folder: Path, kind: str, **settings: object) -> Path:
    """A transformer of one narrow layer with random weights, as transformers saves it."""
    import torch
    import transformers

    special = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    words = build_tokenizer(*special.values())
    tokenizer = transformers.BertTokenizerFast(vocab=words.get_vocab(), do_lower_case=True, **special)
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.4,
        **settings,
    )
    model = getattr(transformers, kind)(config).eval()
    if kind == "BertForMaskedLM":
        torch.nn.init.constant_(model.cls.predictions.bias, -3.0)  # so that most weights are zero
    model.save_pretrained(folder)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return folder


def build_dense_model(folder: Path) -> Path:
    """A dense model of one narrow layer with random weights, in sentence-transformers' layout."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    transformer = Transformer(str(_tiny_bert(folder.with_name("bert"), "BertModel")))
    pooling = Pooling(transformer.get_embedding_dimension(), "mean")
    SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save_pretrained(str(folder))
    return folder


def build_sparse_model(folder: Path) -> Path:
    """A SPLADE model of one narrow layer with random weights, in sentence-transformers' layout."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

    transformer = MLMTransformer(str(_tiny_bert(folder.with_name("mlm"), "BertForMaskedLM")))
    SparseEncoder(modules=[transformer, SpladePooling()], device="cpu").save_pretrained(str(folder))
    return folder


def build_cross_encoder(folder: Path) -> Path:
    """A cross-encoder of one narrow layer with random weights, in sentence-transformers' layout."""
    from sentence_transformers import CrossEncoder

    transformer = _tiny_bert(folder.with_name("classifier"), "BertForSequenceClassification", num_labels=1)
    CrossEncoder(str(transformer), device="cpu").save_pretrained(str(folder))
    return folder


def copy_repository(target: Path) -> None:
    """This working tree without what git ignores, what a run made and what it recorded."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source = REPOSITORY / name
        if source.is_file() and name != "dvc.lock" and not name.startswith("reports/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def build_cpu_image(**environment: str) -> subprocess.CompletedProcess[str]:
    """Build the CPU image of this working tree where it is not there, on the base that EMBREPRO_TEST_BASE names."""
    words = ["make", "images", "IMAGES=cpu", f"BASE={os.environ.get('EMBREPRO_TEST_BASE', '')}"]
    # Two modules need it, and may run side by side.
    with FileLock(Path(tempfile.gettempdir()) / "embrepro-test-image.lock"):
        return subprocess.run(
            words, cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def preloaded_workers() -> Iterator[None]:
    """Processes that multiprocessing spawns are forks that have the libraries already."""
    import preloaded

    with preloaded.lent_to_workers():
        yield


LONGEST = (
    *("pipeline", "workflows", "numerics", "statistics", "ray", "experiments", "parity", "sources", "containers"),
    *("own_repository", "encoding", "benchmark", "explain", "stages_program", "hub", "faults", "cases", "benchmarks"),
)
"""Modules that take longest, in the order in which they start; the image that some need is built meanwhile."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that take longest first: xdist's workers take whole modules, and should end together."""
    cost: Counter[Path] = Counter()
    for item in items:
        cost[item.path] += 20 if item.get_closest_marker("slow") else 1
    names = {f"test_{name}": 1000 * place for place, name in enumerate(reversed(LONGEST), 1)}
    items.sort(key=lambda item: -cost[item.path] - names.get(item.path.stem, 0))
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0" and any(map(needs_image, items)):
        Thread(target=build_cpu_image).start()


def needs_image(item: pytest.Item) -> bool:
    """Whether a test runs in the CPU image."""
    return item.get_closest_marker("docker") is not None


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is made once for all of xdist's workers. What is in it is there to be read, or copied."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    made = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def project_that_ran(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A small project that ran once, its results committed. A test changes a copy of it."""
    from checkout import Checkout, small_project

    def make(folder: Path) -> None:
        made = small_project(folder / "kit with a space")
        made.run("dvc", "repro")
        made.commit("Results")

    return Checkout(made_once(tmp_path_factory, "project that ran", make) / "kit with a space")


@pytest.fixture(scope="session")
def static_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A half-precision static model."""
    return build_static_model(tmp_path_factory.mktemp("model") / "static")


@pytest.fixture(scope="session")
def cross_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder."""
    return build_cross_encoder(tmp_path_factory.mktemp("model") / "cross_encoder")


@pytest.fixture(scope="session")
def sparse_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse model."""
    return build_sparse_model(tmp_path_factory.mktemp("model") / "sparse")
