"""What several test modules share: a tiny static model on disk, a project folder, the kit as a library."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.pop("EMBREPRO_MIRROR", None)

from embrepro import console

console.quieten()

REPOSITORY = Path(__file__).parents[1]
WORDS = ["the", "a", "of", "and", "to", "in", "is", "it", "that", "for", "on", "with", "as", "this", "not", "one", "two"]


def build_static_model(folder: Path, *, dtype: str = "float16", dimensions: int = 32, seed: int = 7) -> Path:
    """A Model2Vec model over byte-level tokens with random vectors: small, and different for every text."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordPiece

    letters = [chr(code) for code in range(33, 127)]
    vocabulary = ["[UNK]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=1000))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(seed).standard_normal((len(vocabulary), dimensions)).astype(dtype)
    StaticModel(vectors, tokenizer, normalize=True).save_pretrained(str(folder))
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


@pytest.fixture(scope="session")
def static_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A half-precision static model."""
    return build_static_model(tmp_path_factory.mktemp("model") / "static")
