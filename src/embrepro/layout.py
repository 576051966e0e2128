"""Where everything lies in a project: the one place that knows the folders' names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embrepro.config.schema import ModelConfig


@dataclass(frozen=True)
class Layout:
    """Paths under a project's root."""

    root: Path = Path()

    @property
    def tasks(self) -> Path:
        """Frozen tasks, one folder each."""
        return self.root / "data" / "tasks"

    @property
    def models(self) -> Path:
        """Model snapshots, one folder each."""
        return self.root / "data" / "models"

    @property
    def download_record(self) -> Path:
        """What became of every requested task in the download stage."""
        return self.root / "data" / "download.json"

    def embeddings(self, key: str) -> Path:
        """A model's embeddings, one file a task, and the record of the encode stage."""
        return self.root / "embeddings" / key

    def encode_record(self, key: str) -> Path:
        """What became of every frozen task in a model's encode stage."""
        return self.embeddings(key) / "record.json"

    def results(self, model: ModelConfig) -> Path:
        """A model's results in mteb's layout."""
        return self.results_of(model.full_name)

    def results_of(self, name: str) -> Path:
        """The results of the model `org/name`."""
        return self.root / "results" / name.replace("/", "__")

    def evaluate_record(self, key: str) -> Path:
        """What became of every requested task for a model."""
        return self.root / "reports" / "status" / f"{key}.json"

    def benchmark(self, key: str) -> Path:
        """Speed of a model, measured in turn with the baseline."""
        return self.reports / "speed" / f"{key}.json"

    @property
    def reports(self) -> Path:
        """Metrics, plots and pages."""
        return self.root / "reports"

    @property
    def metrics(self) -> Path:
        """Scores, means and status by model: the DVC metric."""
        return self.reports / "metrics.json"

    @property
    def summary(self) -> Path:
        """All that the report says, for programs."""
        return self.reports / "summary.json"

    @property
    def plotted_scores(self) -> Path:
        """What `dvc plots` draws: one row a bar."""
        return self.reports / "plots" / "scores.csv"

    @property
    def report_html(self) -> Path:
        """The report, one page."""
        return self.reports / "report.html"

    @property
    def report_markdown(self) -> Path:
        """The report as Markdown."""
        return self.reports / "report.md"

    @property
    def speed(self) -> Path:
        """Speed of all models, apart from the metrics because no two measurements agree to the byte."""
        return self.reports / "speed.json"

    @property
    def variants(self) -> Path:
        """What truncated and quantised embeddings of each model scored, one file a model."""
        return self.reports / "variants"

    def beside(self, folder: Path) -> Layout:
        """A project in an empty folder over the same data, models and embeddings, for what is computed apart."""
        for name in ("data", "embeddings", "conf"):
            (folder / name).symlink_to((self.root / name).resolve())
        (folder / "reports").mkdir()
        (folder / "reports" / "speed").symlink_to((self.reports / "speed").resolve())
        return Layout(folder)
