"""Settings of the NanoBEIR evaluation, under the names that sentence-transformers' own evaluators give them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from embrepro.config.messages import suggest
from embrepro.config.yaml_files import Strict

TASKS = {
    "climatefever": "NanoClimateFeverRetrieval",
    "dbpedia": "NanoDBPediaRetrieval",
    "fever": "NanoFEVERRetrieval",
    "fiqa2018": "NanoFiQA2018Retrieval",
    "hotpotqa": "NanoHotpotQARetrieval",
    "msmarco": "NanoMSMARCORetrieval",
    "nfcorpus": "NanoNFCorpusRetrieval",
    "nq": "NanoNQRetrieval",
    "quoraretrieval": "NanoQuoraRetrieval",
    "scidocs": "NanoSCIDOCSRetrieval",
    "arguana": "NanoArguAnaRetrieval",
    "scifact": "NanoSciFactRetrieval",
    "touche2020": "NanoTouche2020Retrieval",
}
"""Short names of the data sets, in the library's order, and mteb's task of each."""
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]


def _known(name: str) -> str:
    short = name.lower()
    if short not in TASKS:
        raise ValueError(f"NanoBEIR has no data set '{name}'{suggest(name, TASKS)}")
    return short


DatasetName = Annotated[str, AfterValidator(_known)]
"""Short name of one of NanoBEIR's data sets; capitals do not matter, as in the library."""
Cutoffs = Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1)]


class NanoBeir(Strict):
    """What sentence-transformers' three NanoBEIR evaluators are made with."""

    dataset_names: Annotated[list[DatasetName], Field(min_length=1)] | None = Field(
        default=None,
        description="short names; null is all thirteen, of which a cross-encoder leaves out arguana and touche2020",
    )
    score_functions: Annotated[list[Similarity], Field(min_length=1)] | None = Field(
        default=None, description="similarities to rank by; null is the model's own"
    )
    main_score_function: Similarity | None = Field(
        default=None, description="similarity of the primary metric; null is the one with the highest nDCG"
    )
    mrr_at_k: Cutoffs = Field(default_factory=lambda: [10])
    ndcg_at_k: Cutoffs = Field(default_factory=lambda: [10])
    accuracy_at_k: Cutoffs = Field(default_factory=lambda: [1, 3, 5, 10])
    precision_recall_at_k: Cutoffs = Field(default_factory=lambda: [1, 3, 5, 10])
    map_at_k: Cutoffs = Field(default_factory=lambda: [100])
    aggregate_fn: Literal["mean", "median", "min", "max"] = Field(
        default="mean", description="NumPy's function over the data sets"
    )
    aggregate_key: str = Field(
        default="mean", pattern=r"^[A-Za-z0-9.-]{1,40}$", description="how the aggregate is called; without '_'"
    )
    query_prompts: str | dict[DatasetName, str] | None = Field(
        default=None, description="text in front of queries: one for all data sets, or one for each; null for none"
    )
    corpus_prompts: str | dict[DatasetName, str] | None = Field(
        default=None, description="text in front of documents: one for all data sets, or one for each; null for none"
    )
    at_k: int = Field(default=10, ge=1, le=1000, description="cut-off of a cross-encoder's MRR and nDCG")
    always_rerank_positives: bool = Field(
        default=True, description="whether a cross-encoder gets the relevant documents that BM25 did not find, too"
    )
    write_csv: bool = Field(default=True, description="keep the library's CSV files beside the results")

    @field_validator("dataset_names")
    @classmethod
    def _once(cls, value: list[str] | None) -> list[str] | None:
        if value and len(value) != len(set(value)):
            raise ValueError(f"each data set once; got {', '.join(value)}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> NanoBeir:
        chosen = self.score_functions
        if chosen and self.main_score_function and self.main_score_function not in chosen:
            raise ValueError(
                f"main_score_function {self.main_score_function} is none of score_functions ({', '.join(chosen)})"
            )
        for name in ("query_prompts", "corpus_prompts"):
            prompts = getattr(self, name)
            if isinstance(prompts, dict) and (missing := [each for each in self.datasets if each not in prompts]):
                raise ValueError(f"{name} has no prompt for {', '.join(missing)}; give one for each data set")
        return self

    @property
    def datasets(self) -> list[str]:
        """Short names of the data sets that are asked for."""
        return self.dataset_names or list(TASKS)

    @property
    def task_names(self) -> list[str]:
        """Mteb's names of the data sets' tasks."""
        return [TASKS[name] for name in self.datasets]

    def prompts(self) -> dict[str, str]:
        """The prompts by mteb's keys (task and prompt type), as a model's `prompts` have them."""
        return {
            f"{TASKS[name]}-{kind}": given if isinstance(given, str) else given[name]
            for kind, given in (("query", self.query_prompts), ("document", self.corpus_prompts))
            if given is not None
            for name in self.datasets
        }
