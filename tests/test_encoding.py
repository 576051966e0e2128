"""Encoding by plan, shards and merge: the same bytes whoever encodes what, and little lost when a worker is killed."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import preloaded
import tiny_mirror
from conftest import build_cross_encoder, build_dense_model, build_sparse_model, build_static_model
from embrepro import models, numerics
from embrepro.config.compose import compose_values
from embrepro.config.schema import Device, ModelConfig
from embrepro.embeddings import encoding, store
from embrepro.embeddings.encoding import TaskShards
from embrepro.embeddings.plan import BATCHES_PER_SHARD, SHARDS_AT_THE_END, BatchRule, make_plan
from embrepro.errors import ConfigError, KitError
from embrepro.files import expect_room
from embrepro.models import ModelProperties
from embrepro.pipeline.encode import parse_part, room_needed

REPOSITORY = Path(__file__).parents[1]
FAMILIES = ("static", "dense", "sparse", "cross-encoder")

lengths = st.lists(st.integers(0, 600), min_size=1, max_size=300)


@given(lengths, st.integers(1, 2048))
def test_every_text_is_in_one_batch_and_no_batch_is_over_its_budget(found: list[int], budget: int) -> None:
    plan = make_plan(np.zeros(len(found), dtype=np.uint8), np.asarray(found), BatchRule(tokens=budget))
    assert sorted(plan.order.tolist()) == list(range(len(found)))
    batches = [batch for shard in plan for batch in shard.batches]
    assert np.array_equal(np.concatenate(batches), plan.order)
    for batch in batches:
        padded = len(batch) * max(found[row] for row in batch)
        assert padded <= budget or len(batch) == 1


@given(lengths, st.integers(1, 50))
def test_batches_of_a_fixed_number_of_texts(found: list[int], size: int) -> None:
    plan = make_plan(np.zeros(len(found), dtype=np.uint8), np.asarray(found), BatchRule(texts=size))
    sizes = [len(batch) for shard in plan for batch in shard.batches]
    assert sum(sizes) == len(found)
    assert all(each == size for each in sizes[:-1])


@given(st.integers(1, 3000))
def test_shards_get_smaller_towards_the_end(batches: int) -> None:
    plan = make_plan(np.zeros(batches, dtype=np.uint8), np.ones(batches, dtype=np.int64), BatchRule(texts=1))
    sizes = [len(shard.batches) for shard in plan]
    assert sum(sizes) == batches
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) <= BATCHES_PER_SHARD
    assert sizes[-1] == 1
    left = batches - np.cumsum([0, *sizes[:-1]])
    assert all(size == 1 or size * SHARDS_AT_THE_END <= rest for size, rest in zip(sizes, left, strict=True))


def test_batches_hold_one_prompt_kind_each_and_the_longest_texts_come_first() -> None:
    plan = make_plan(np.asarray([1, 0, 1, 0]), np.asarray([5, 6, 7, 8]), BatchRule(texts=10))
    assert [batch.tolist() for shard in plan for batch in shard.batches] == [[3, 1], [2, 0]]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/", "-1/2"])
def test_a_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected i/n"):
        parse_part(text)


def test_a_damaged_shard_is_no_shard(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float16)
    path = tmp_path / "shard.safetensors"
    store.write_shard(path, rows, "key")
    assert np.array_equal(store.read_shard(path, "key", 4), rows)
    assert store.read_shard(path, "other", 4) is None
    assert store.read_shard(path, "key", 5) is None
    whole = bytearray(path.read_bytes())
    whole[-3] ^= 1
    path.write_bytes(whole)
    assert store.read_shard(path, "key", 4) is None


def test_the_room_that_encoding_needs_is_what_it_writes(tmp_path: Path) -> None:
    """Shards of two tasks, and the merged file of the larger one, less what is stored; headers of files do not count."""
    known = ModelProperties(8, 1, None, "float16", normalised=True, similarity="cosine")
    tasks, written = [], 0
    for name, count in (("small", 30), ("large", 100)):
        texts = pa.table({"prompt": [""] * count, "text": [f"text {row}" for row in range(count)]})
        plan = make_plan(np.zeros(count, dtype=np.uint8), np.full(count, 6), BatchRule(texts=2))
        work = TaskShards(name, None, texts, False, "key", tmp_path, plan, np.full(count, 6))  # type: ignore[arg-type]
        for shard in plan:
            rows = np.random.default_rng(shard.index).standard_normal((len(shard.rows), 8)).astype(np.float16)
            store.write_shard(work.shard_path(shard.index), rows, work.shard_key(shard))
            written += rows.nbytes
        tasks.append(work)
    every = {work.task: set(range(work.plan.shards)) for work in tasks}
    tasks[1].merge(tmp_path / "large.safetensors")
    merged = store.read(tmp_path / "large.safetensors", 100).embeddings.nbytes
    assert room_needed(tasks, every, known) == written + merged
    assert room_needed(tasks, {"small": set(), "large": set()}, known) == merged
    assert room_needed(tasks, every, known, (2, 5)) == written // 5 // 16 * 16


def test_embeddings_that_the_disk_has_no_room_for_are_refused_with_what_they_need(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"need 1,000,000\.0 TB in .* are free\. Free "):
        expect_room(tmp_path, 10**18, "The embeddings need")
    expect_room(tmp_path, 0, "The embeddings need")


class Project:
    """A project with a tiny model of each family; its commands run as processes of their own."""

    def __init__(self, folder: Path, models: Path, mirror: Path) -> None:
        self.folder = folder
        composed = compose_values([], REPOSITORY / "conf")
        composed["models"] = {
            family.replace("-", "_"): {"org": "test", "name": family, "family": family, "folder": str(models / family)}
            for family in FAMILIES
        }
        composed |= {"candidate": "dense", "baseline": "static", "benchmarked": {}, "source": {"mirror": str(mirror)}}
        names = [tiny_mirror.STS, tiny_mirror.RETRIEVAL, tiny_mirror.RERANKING]
        composed["tasks"] = {**composed["tasks"], "names": names}
        self.values = composed

    def command(self, *words: str, **device: object) -> subprocess.Popen[str]:
        """Start a command of the kit under these device settings."""
        self.values["device"] |= device
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.values))
        program = [str(preloaded.programs() / "embrepro")]
        # Those libraries are loaded for portable numerics.
        if self.values["device"]["numerics"] == "native":
            program = [sys.executable, "-m", "embrepro.cli"]
        return subprocess.Popen(
            [*program, *words],
            cwd=self.folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **device: object) -> str:
        """Run a command to its end, which must be good; returns what it said."""
        process = self.command(*words, **device)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        return said

    def embeddings(self, key: str) -> dict[str, bytes]:
        """The bytes of a model's stored embeddings by task."""
        return {path.name: path.read_bytes() for path in (self.folder / "embeddings" / key).glob("*.safetensors")}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Everything downloaded, nothing encoded."""
    root = tmp_path_factory.mktemp("encoding")
    builders = (build_static_model, build_dense_model, build_sparse_model, build_cross_encoder)
    for family, build in zip(FAMILIES, builders, strict=True):
        (root / "models" / family).parent.mkdir(exist_ok=True)
        build(root / "models" / family)
    tiny_mirror.build(root / "mirror")
    (root / "project").mkdir()
    found = Project(root / "project", root / "models", root / "mirror")
    found.run("download")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("key", [family.replace("-", "_") for family in FAMILIES])
def test_the_number_of_workers_changes_no_byte(key: str, project: Project) -> None:
    found = []
    for workers in (1, 3):
        project.run("encode", key, threads=workers, batch_tokens=64)
        found.append(project.embeddings(key))
        for path in (project.folder / "embeddings" / key).iterdir():
            path.unlink()
    assert found[0]
    assert found[0] == found[1]


@pytest.mark.slow
def test_parts_encoded_by_separate_jobs_are_merged_to_the_same_bytes(project: Project) -> None:
    project.run("encode", "dense", threads=1, batch_tokens=64)
    whole = project.embeddings("dense")
    for path in (project.folder / "embeddings" / "dense").iterdir():
        path.unlink()
    jobs = [project.command("encode", "dense", "--shard", f"{number}/3") for number in (1, 2, 3)]
    assert [job.wait(300) for job in jobs] == [0, 0, 0]
    assert not project.embeddings("dense")
    shards = {path: path.stat().st_mtime_ns for path in (project.folder / "embeddings" / "dense" / ".shards").iterdir()}
    assert len(shards) > 3
    project.run("encode", "dense")
    assert project.embeddings("dense") == whole
    assert not (project.folder / "embeddings" / "dense" / ".shards").exists()


@pytest.mark.parametrize("family", ["dense", "sparse", "cross-encoder"])
def test_weights_are_laid_out_for_products_and_a_table_of_embeddings_for_rows(family: str, tmp_path: Path) -> None:
    build = {"dense": build_dense_model, "sparse": build_sparse_model, "cross-encoder": build_cross_encoder}[family]
    folder = build(tmp_path / "model")
    model = ModelConfig(org="t", name="a", family=family, folder="x")
    device = Device(name="cpu", numerics="native", batch_tokens=32)
    plain = models.load(folder, model, device)
    encoder: Any = models.model_in(models.load_encoder(folder, model, device, "1"))
    tables = [each.weight for each in encoder.modules() if isinstance(each, torch.nn.Embedding)]
    linear = [each.weight for each in encoder.modules() if isinstance(each, torch.nn.Linear)]
    tied = [weight for weight in linear if any(weight is table for table in tables)]
    assert len(tied) == (family == "sparse")
    assert all(table.is_contiguous() for table in tables)
    assert all(weight.t().is_contiguous() for weight in linear if not any(weight is each for each in tied))
    texts = ["a few words", "and some more of them than before", "one"]
    inputs = [(text, texts[1]) for text in texts] if family == "cross-encoder" else texts
    found = [embeddings(each, inputs) for each in (plain, encoder)]
    assert np.allclose(*found, rtol=0, atol=1e-6)
    assert np.ptp(found[0], axis=0).max() > 1e-4


def test_weights_of_half_precision_stay_as_they_are(tmp_path: Path) -> None:
    folder = build_dense_model(tmp_path / "model")
    model = ModelConfig(org="t", name="a", family="dense", folder="x", dtype="bfloat16")
    device = Device(name="cpu", numerics="native", batch_tokens=32)
    encoder: Any = models.model_in(models.load_encoder(folder, model, device, "1"))
    linear = [each.weight for each in encoder.modules() if isinstance(each, torch.nn.Linear)]
    assert {weight.dtype for weight in linear} == {torch.bfloat16}
    assert all(weight.is_contiguous() for weight in linear)


def embeddings(model: Any, inputs: models.Inputs) -> np.ndarray:
    """What a model makes of texts, or of pairs."""
    found = model.predict(inputs) if models.takes_pairs(model) else model.encode(inputs)
    return np.asarray(found.to_dense() if hasattr(found, "to_dense") else found)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["static", "dense"])
def test_workers_that_load_the_model_each_on_a_device_of_its_own_find_the_same(family: str, tmp_path: Path) -> None:
    """As one a GPU, here with the processor in the place of two."""
    folder = {"static": build_static_model, "dense": build_dense_model}[family](tmp_path / "model")
    model = ModelConfig(org="t", name="a", family=family, folder="x")
    device = Device(name="cpu", numerics="native", threads=1, batch_tokens=32)
    load = partial(models.load_encoder, folder, model, device, "1")
    encoder = load("cpu")
    words = [f"text {row} " * (1 + row % 9) for row in range(200)]
    texts = pa.table({"prompt": ["query"] * 200, "text": pa.array(words, pa.large_string())})
    found = []
    for workers in (encoding.Workers(1), encoding.Workers(2, load, ("cpu", "cpu"))):
        planned = encoding.plan_task(texts, BatchRule(tokens=32), models.model_in(encoder), pairs=False)
        shards = tmp_path / str(workers.count)
        shards.mkdir()
        work = TaskShards("STS12", mteb.get_task("STS12").metadata, texts, False, "key", shards, *planned)
        assert planned[0].shards > 4
        assert [error for _, _, error in encoding.encode_shards(encoder, [work], workers) if error] == []
        work.merge(shards / "merged.safetensors")
        found.append(store.read(shards / "merged.safetensors", 200).embeddings)
    assert np.allclose(*found, rtol=0, atol=1e-6)
    assert np.ptp(found[0], axis=0).max() > 0.01


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_and_its_shards_are_kept(project: Project) -> None:
    project.run("encode", "dense", threads=2, batch_tokens=64)
    whole = project.embeddings("dense")
    folder = project.folder / "embeddings" / "dense"
    for path in folder.iterdir():
        path.unlink()
    process = project.command("encode", "dense", threads=2, batch_tokens=16)
    until = time.monotonic() + 120
    while len(list(folder.glob(".shards/*.safetensors"))) < 6 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    # Ends only when no worker holds the other end of the pipe any more.
    process.communicate(timeout=30)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob(".shards/*.safetensors")}
    assert len(kept) >= 6
    project.run("encode", "dense", threads=2, batch_tokens=16)
    again = project.embeddings("dense")
    assert again.keys() == whole.keys()
    project.run("encode", "dense", threads=1, batch_tokens=64)
    assert project.embeddings("dense") == whole


def test_threads_count_tokens_and_a_forked_worker_has_none(tmp_path: Path) -> None:
    """In a process of its own, as tokenizers keep the threads that they first had."""
    code = (
        "import multiprocessing, os, sys\nfrom concurrent.futures import ProcessPoolExecutor\nfrom pathlib import Path\n"
        "import psutil\nimport pyarrow as pa\nfrom embrepro import models, numerics\nfrom embrepro.progress import processes\n"
        "from embrepro.config.schema import Device, ModelConfig\nfrom embrepro.embeddings import encoding\n"
        "device = Device(name='cpu', numerics='portable', batch_tokens=256)\n"
        "encoding.fix_order_of_sums(device)\n"
        "model = ModelConfig(org='t', name='a', family='dense', folder='x')\n"
        "loaded = models.load(Path(sys.argv[1]), model, device)\n"
        "texts = pa.chunked_array([[f'text {row} ' * (row % 50) for row in range(5000)]], pa.large_string())\n"
        "counts, threads = [], []\n"
        "for wanted in (1, 3, 1):\n"
        "    counts.append(models.token_counts(loaded, texts, threads=wanted).tolist())\n"
        "    threads.append(psutil.Process().num_threads())\n"
        "print(threads[1] - threads[0], counts[0] == counts[1] == counts[2], sum(counts[0]) > 5000)\n"
        "print(os.environ['TOKENIZERS_PARALLELISM'], os.environ['RAYON_NUM_THREADS'])\n"
        "numerics.tokenize_in(3)\n"
        "def tokens(): return len(loaded.tokenizer(texts[:9].to_pylist())['input_ids'])\n"
        "forking = multiprocessing.get_context('fork')\n"
        "with ProcessPoolExecutor(1, mp_context=forking, initializer=processes.start_worker) as pool:\n"
        "    print(pool.submit(tokens).result())\n"
    )
    folder = build_dense_model(tmp_path / "model")
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-3:] == ["3 True True", "false 1", "9"], done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_what_a_batch_frees_is_not_mapped_anew_for_the_next() -> None:
    """Pages that the kernel fills with zeros: one fault for each 4 KiB of a fresh mapping."""
    code = (
        "import resource, sys, numpy\nfrom embrepro.embeddings import encoding\n"
        "if sys.argv[1] == 'kept': encoding._keep_freed_memory()\n"
        # Larger than what glibc keeps by itself, as the activations of a wide model are.
        "def batch(): numpy.ones(40 * 2**20, dtype=numpy.uint8)\n"
        "batch()\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): batch()\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    faults = [
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "given back")
    ]
    assert 10 * faults[0] < faults[1]


@pytest.mark.slow
def test_native_numerics_are_another_recipe(project: Project) -> None:
    project.run("encode", "static", numerics="portable", threads=1)
    assert "(kept)" in project.run("encode", "static")
    said = project.run("encode", "static", numerics="native")
    assert "(kept)" not in said
    project.run("encode", "static", numerics="portable")


def test_portable_numerics_are_set_before_any_numeric_library_is_loaded() -> None:
    code = (
        "import embrepro.cli; from embrepro import numerics; assert not numerics.loaded(), numerics.loaded();"
        "numerics.pin('portable'); import torch, numpy;"
        "from numpy._core._multiarray_umath import __cpu_features__ as f, __cpu_dispatch__ as d;"
        "print(torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), [n for n in d if f[n] and n != 'X86_V3'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if not numerics.why_not_portable():
        assert done.stdout.split(maxsplit=2) == ["1", "AVX2", "[]\n"]


@pytest.mark.parametrize("name", numerics.INSTRUCTION_SET["NPY_DISABLE_CPU_FEATURES"].split())
def test_numpy_knows_the_instruction_sets_that_are_switched_off(name: str) -> None:
    from numpy._core._multiarray_umath import __cpu_dispatch__

    assert name in __cpu_dispatch__
    assert set(__cpu_dispatch__) - set(numerics.INSTRUCTION_SET["NPY_DISABLE_CPU_FEATURES"].split()) == {"X86_V3"}
