"""A static model by itself gives the bytes that sentence-transformers gives, and whatever needs more is left to that."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

from conftest import REPOSITORY, build_static_model, build_tokenizer
from embrepro import models
from embrepro.config.schema import Device, ModelConfig
from embrepro.errors import SourceError
from embrepro.models.static import TokenVectors

DEVICE = Device(name="cpu", numerics="portable", batch_tokens=256)


def config(**changes: object) -> ModelConfig:
    return ModelConfig.model_validate({"org": "t", "name": "a", "family": "static", "folder": "x"} | changes)


def as_saved(folder: Path) -> None:
    pass


def without_modules(folder: Path) -> None:
    """As most of Model2Vec's older models lie on the hub."""
    (folder / "modules.json").unlink()


def not_normalised(folder: Path) -> None:
    without_modules(folder)
    (folder / "config.json").write_text(json.dumps({"normalize": False}))


def one_module(folder: Path) -> None:
    """As sentence-transformers saves a `StaticEmbedding` alone, without weights of its own name."""
    known = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(known[:1]))


def by_sentence_transformers(folder: Path) -> None:
    """With settings that say nothing, and each module in a folder of its own."""
    loaded = models.load(folder, config(), DEVICE)
    shutil.rmtree(folder)
    loaded.save(str(folder))
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "0_StaticEmbedding").mkdir(exist_ok=True)
    for name in ("model.safetensors", "tokenizer.json"):
        if (folder / name).exists():
            shutil.move(folder / name, folder / "0_StaticEmbedding" / name)
    modules[0]["path"] = "0_StaticEmbedding"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert (folder / "config_sentence_transformers.json").exists()


@pytest.mark.parametrize("layout", [as_saved, without_modules, not_normalised, one_module, by_sentence_transformers])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_bytes_and_properties_are_those_of_sentence_transformers(
    layout: Callable[[Path], None], dtype: str, tmp_path: Path
) -> None:
    folder = build_static_model(tmp_path / "model", dtype=dtype)
    layout(folder)
    alone, loaded = models.load_encoder(folder, config(), DEVICE, "1"), models.load(folder, config(), DEVICE)
    assert isinstance(alone, TokenVectors)
    assert models.describe(alone) == models.describe(loaded)
    texts = ["", "a", "one two", "", " \n", "é ü 漢字 🙂", "word " * 3000, "the same", "the same", ""]
    for batch in (texts, texts[::-1], texts[:1], texts[3:4]):
        theirs = loaded.encode(batch, batch_size=len(batch))
        ours = alone.encode(batch)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()


@pytest.fixture(scope="module")
def both(static_folder: Path) -> tuple[TokenVectors, object]:
    alone = models.load_encoder(static_folder, config(), DEVICE, "1")
    assert isinstance(alone, TokenVectors)
    return alone, models.load(static_folder, config(), DEVICE)


@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_batch_has_the_bytes_of_sentence_transformers(both: tuple[TokenVectors, object], texts: list[str]) -> None:
    alone, loaded = both
    assert alone.encode(texts).tobytes() == loaded.encode(texts, batch_size=len(texts)).tobytes()  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_configured_dtype_is_taken(dtype: str, static_folder: Path) -> None:
    wanted = config(dtype=dtype)
    alone, loaded = models.load_encoder(static_folder, wanted, DEVICE, "1"), models.load(static_folder, wanted, DEVICE)
    assert isinstance(alone, TokenVectors)
    assert models.describe(alone) == models.describe(loaded)
    assert alone.encode(["a b", "c"]).tobytes() == np.asarray(loaded.encode(["a b", "c"], batch_size=2)).tobytes()


def with_prompt_settings(folder: Path) -> None:
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "find: "}}')


def with_further_module(folder: Path) -> None:
    known = json.loads((folder / "modules.json").read_text())
    known.append({**known[1], "idx": 2, "name": "2"})
    (folder / "modules.json").write_text(json.dumps(known))


def with_settings_of_a_module(folder: Path) -> None:
    (folder / "1_Normalize").mkdir(exist_ok=True)
    (folder / "1_Normalize" / "config.json").write_text('{"module_output_name": "other"}')


def with_shorter_embeddings(folder: Path) -> None:
    (folder / "config_sentence_transformers.json").write_text('{"truncate_dim": 4}')


def with_token_weights(folder: Path) -> None:
    from model2vec import StaticModel

    tokenizer = build_tokenizer()
    size = len(tokenizer.get_vocab())
    vectors = np.random.default_rng(0).standard_normal((size, 8)).astype(np.float32)
    StaticModel(vectors, tokenizer, normalize=True, weights=np.linspace(0.5, 1, size)).save_pretrained(str(folder))


@pytest.mark.parametrize(
    "change",
    [
        with_prompt_settings,
        with_further_module,
        with_settings_of_a_module,
        with_shorter_embeddings,
        with_token_weights,
    ],
)
def test_a_model_that_is_more_than_vectors_is_left_to_sentence_transformers(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = build_static_model(tmp_path / "model")
    change(folder)
    assert isinstance(models.load_encoder(folder, config(), DEVICE, "1"), SentenceTransformerEncoderWrapper)


def test_configured_prompts_are_left_to_mteb(static_folder: Path) -> None:
    encoder = models.load_encoder(static_folder, config(prompts={"query": "find: "}), DEVICE, "1")
    assert isinstance(encoder, SentenceTransformerEncoderWrapper)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "modules.json"])
def test_a_damaged_file_is_an_error_that_names_the_folder(name: str, tmp_path: Path) -> None:
    folder = build_static_model(tmp_path / "model")
    (folder / name).write_bytes((folder / name).read_bytes()[:20])
    with pytest.raises(SourceError, match="does not load as a static model"):
        models.load_encoder(folder, config(), DEVICE, "1")


def test_encoding_by_itself_imports_neither_sentence_transformers_nor_mteb(static_folder: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\nimport pyarrow as pa\n"
        "from embrepro import models\nfrom embrepro.config.schema import Device, ModelConfig\n"
        "from embrepro.embeddings import encoding\nfrom embrepro.embeddings.plan import BatchRule\n"
        "device = Device(name='cpu', numerics='portable', batch_tokens=256)\n"
        "model = ModelConfig(org='t', name='a', family='static', folder='x')\n"
        "encoding.fix_order_of_sums(device)\n"
        "encoder = models.load_encoder(Path(sys.argv[1]), model, device, '1')\n"
        "texts = pa.table({'prompt': ['', ''], 'text': ['a', 'b c']})\n"
        "plan, lengths = encoding.plan_task(texts, BatchRule(texts=8), models.model_in(encoder), pairs=False)\n"
        "work = encoding.TaskShards('T', None, texts, False, 'key', Path(sys.argv[2]), plan, lengths)\n"
        "print(encoding.encode_shard(encoder, work, plan.shard(0)).shape)\n"
        "slow = 'sentence_transformers', 'transformers', 'mteb', 'sklearn', 'torch._inductor'\n"
        "print([name for name in slow if name in sys.modules])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    command = [sys.executable, "-c", code, str(static_folder), str(static_folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(2, 32)", "[]"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.5, 2.5])
def test_a_signal_ends_distillation_in_workers(seconds: float, number: signal.Signals, tmp_path: Path) -> None:
    """Soon after the start workers import torch, later they embed."""
    code = (
        "import time\nimport numpy as np\nfrom embrepro.models import static\nfrom embrepro.progress import processes\n"
        "processes.end_on_signals()\n"
        "def embed(tokenized):\n    time.sleep(60)\n    return np.zeros((len(tokenized), 384), dtype=np.float32)\n"
        "parts = [[list(range(row, row + 30)) for row in range(static.PART)]] * 15\n"
        "print('begun', flush=True)\n"
        "static._map(embed, parts, 2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        time.sleep(seconds)
        assert process.poll() is None
        process.send_signal(number)
        try:
            assert process.wait(timeout=30) != 0
        finally:
            process.kill()
    assert not [*tmp_path.iterdir()]
