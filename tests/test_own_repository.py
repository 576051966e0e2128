"""A repository of one's own: made by `embrepro init` with an installed kit, used, gated and upgraded."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from checkout import TASKS, Checkout, build_word_model
from conftest import REPOSITORY, copy_repository
from embrepro import cli, kit
from embrepro.config import keeping
from embrepro.config.compose import compose_values
from embrepro.config.params import read_params, write_params
from embrepro.errors import ConfigError, KitError
from embrepro.own_repository import generated, inputs, starting, upgrading
from embrepro.own_repository.generated import InitChoices, KitOrigin
from embrepro.own_repository.record import RECORD, current, read_record
from embrepro.regression import committed, revisions

PIPELINE = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ORIGIN = KitOrigin(repository="some-team/kit", commit="0123456789abcdef0123456789abcdef01234567")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A repository that `init` made in an empty folder."""
    folder = tmp_path / "my evaluation"
    starting.start(folder, InitChoices(origin=ORIGIN))
    return folder


def newer(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, str]], None]) -> None:
    """Have a kit that writes otherwise."""
    before = generated.texts

    def texts(choices: InitChoices) -> dict[str, str]:
        found = before(choices)
        change(found)
        return found

    monkeypatch.setattr(generated, "texts", texts)


class TestInit:
    def test_what_it_writes_composes_to_the_kits_values_with_ones_own_model(self, made: Path) -> None:
        params = read_params(made / "params.yaml")
        assert params.candidate == "mine" and list(params.models) == ["minilm", "mine"]
        here, there = compose_values(conf=made / "conf"), compose_values(conf=REPOSITORY / "conf")
        assert {key for key in there if here[key] != there[key]} == {"benchmarked", "candidate", "models", "tasks"}
        assert here["models"]["minilm"] == there["models"]["minilm"]

    def test_every_group_of_the_kit_can_be_chosen_and_a_file_of_ones_own_goes_first(self, made: Path) -> None:
        assert compose_values(["model=potion_base_8m", "device=cuda"], made / "conf")["device"]["name"] == "cuda"
        assert compose_values(["+experiment=overview"], made / "conf")["claims"] == ["overview"]
        (made / "conf" / "device").mkdir()
        (made / "conf" / "device" / "cpu.yaml").write_text("name: cpu\nnumerics: native\nbatch_tokens: 7\n")
        assert compose_values(conf=made / "conf")["device"]["batch_tokens"] == 7
        with pytest.raises(ConfigError, match=r"no conf/model/potion_base_8n\.yaml; did you mean potion_base_8m"):
            compose_values(["model=potion_base_8n"], made / "conf")

    def test_it_says_what_it_wrote_and_why_there_is_no_workflow(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(generated, "origin_of_the_kit", lambda: None)
        done = CliRunner().invoke(cli.app, ["init", str(tmp_path / "new"), "--model", "wordllama", "--tasks", "quick"])
        assert done.exit_code == 0, done.output
        assert not (tmp_path / "new" / "conf" / "model").exists()
        assert not (tmp_path / "new" / ".github").exists()
        assert read_params(tmp_path / "new" / "params.yaml").candidate == "wordllama"

    def test_it_overwrites_nothing_and_writes_nothing_then(self, tmp_path: Path) -> None:
        subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
        (tmp_path / "dvc.yaml").write_text("stages: {}\n")
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "config.yaml").write_text("mine: 1\n")
        with pytest.raises(KitError, match=r"holds dvc\.yaml, conf/config\.yaml already.*Move them elsewhere"):
            starting.start(tmp_path, InitChoices())
        assert sorted(path.name for path in tmp_path.iterdir()) == [".git", "conf", "dvc.yaml"]

    @pytest.mark.parametrize(
        "lost", [[RECORD], [RECORD, "params.yaml"], [RECORD, "params.yaml", "conf/model/mine.yaml"]]
    )
    def test_one_that_was_cut_short_is_finished_by_the_next(self, made: Path, lost: list[str]) -> None:
        before = {name: (made / name).read_text() for name in ("params.yaml", "conf/model/mine.yaml")}
        for name in lost:
            (made / name).unlink()
        starting.start(made, InitChoices(origin=ORIGIN))
        assert {name: (made / name).read_text() for name in before} == before
        assert read_record(made).choices.origin == ORIGIN

    def test_it_adds_to_ignore_files_and_leaves_a_readme_alone(self, tmp_path: Path) -> None:
        subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
        (tmp_path / "README.md").write_text("ours\n")
        (tmp_path / ".gitignore").write_text("*.tmp")
        starting.start(tmp_path, InitChoices())
        assert (tmp_path / "README.md").read_text() == "ours\n"
        assert (tmp_path / ".gitignore").read_text().startswith("*.tmp\n# >>> embrepro\n/.venv/\n")
        assert "\n[hydra]\n    enabled = True\n" in (tmp_path / ".dvc" / "config").read_text()

    def test_places_that_are_none_are_refused(self, made: Path, tmp_path: Path) -> None:
        with pytest.raises(KitError, match="`embrepro init` was here"):
            starting.start(made, InitChoices())
        with pytest.raises(KitError, match="lies inside the git repository"):
            starting.start(made / "deeper", InitChoices())
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "notes").touch()
        with pytest.raises(KitError, match="Run `git init` there first"):
            starting.start(tmp_path / "full", InitChoices())
        with pytest.raises(
            ConfigError, match="baseline=minilmm: there is no conf/model/minilmm.yaml; did you mean minilm"
        ):
            starting.start(tmp_path / "new", InitChoices(baseline="minilmm"))

    def test_the_kits_commit_is_that_of_its_checkout_on_github(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kit, "ROOT", tmp_path)
        git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "a"], check=True)
        assert generated.origin_of_the_kit() is None, "it has no remote"
        subprocess.run([*git, "remote", "add", "origin", "git@github.com:some-team/kit.git"], check=True)
        found = generated.origin_of_the_kit()
        assert found is not None and found.repository == "some-team/kit"
        assert found.commit == subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()

    def test_an_experiment_can_be_kept_though_the_kit_sets_what_it_changed(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(made)
        wanted = compose_values(["model=wordllama", "tasks=quick", "seed=7", "device.threads=2"])
        write_params(wanted)
        keeping.keep()
        assert compose_values() == wanted
        assert yaml.safe_load((made / "conf" / "kept.yaml").read_text()) == {"device": {"threads": 2}, "seed": 7}


class TestPipeline:
    def test_it_is_the_kits_but_for_where_the_kits_files_come_from(self, made: Path) -> None:
        stages = yaml.safe_load((made / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        assert set(stages) == set(PIPELINE)
        assert stages["code"]["always_changed"] and "deps" not in stages["code"]
        for name in set(stages) - {"code"}:
            ours, theirs = (each[name].get("do", each[name]) for each in (stages, PIPELINE))
            changed = [(old, new) for old, new in zip(theirs["deps"], ours["deps"], strict=True) if old != new]
            assert {key: ours[key] for key in ours if key != "deps"} == {
                key: theirs[key] for key in theirs if key != "deps"
            }
            assert all(old.startswith(("conf/", "requirements/")) for old, _ in changed)
            assert {new for _, new in changed} <= set(stages["code"]["outs"])

    def test_a_file_that_lies_in_the_kit_is_no_dependency_by_its_path(self, made: Path) -> None:
        stages = yaml.safe_load((made / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        deps = [dep for stage in stages.values() for dep in stage.get("do", stage).get("deps", [])]
        assert not [dep for dep in deps if dep.startswith(("src/", "conf/", "requirements/"))]

    def test_the_installed_kit_is_among_what_entered_a_run(self, made: Path) -> None:
        def paths(stage: dict[str, Any], kind: str) -> list[dict[str, str]]:
            named = [next(iter(each)) if isinstance(each, dict) else each for each in stage.get(kind, [])]
            return [{"path": path, "md5": "1"} for path in named]

        stages = yaml.safe_load((made / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        lock = {
            name: {kind: paths(stage.get("do", stage), kind) for kind in ("deps", "outs")}
            for name, stage in stages.items()
        }
        packages, pins = ".embrepro/kit/packages.json", ".embrepro/kit/conf/pins.json"
        assert {packages, pins, "code of encode"} <= set(committed._entered({**lock, "encode@mine": lock["encode"]}))
        entered = set(revisions._inputs({"stages": lock}))
        assert {packages, pins, ".embrepro/code/encode.json", "own-data"} <= entered
        assert not {"data/tasks", "data/download.json", "reports/status"} & entered

    def test_a_file_of_ones_own_goes_before_the_kits_in_what_a_stage_depends_on(self, tmp_path: Path) -> None:
        before = inputs.files_in_force("conf/gate", tmp_path)
        assert list(before) == ["conf/gate/default.yaml"]
        (tmp_path / "conf" / "gate").mkdir(parents=True)
        (tmp_path / "conf" / "gate" / "default.yaml").write_text("alpha: 0.1\n")
        assert inputs.files_in_force("conf/gate", tmp_path) != before

    def test_packages_are_those_that_the_kit_needs(self) -> None:
        found = inputs.packages()
        assert {"mteb", "torch", "tokenizers", "bm25s"} <= set(found)
        assert "+" not in found["torch"]
        assert not {"embrepro", "pytest", "ruff"} & set(found), "what only its tests need moves no number"


class TestUpgrade:
    def test_with_the_same_kit_there_is_nothing_to_do(self, made: Path) -> None:
        (made / "README.md").write_text("changed by its user")
        assert upgrading.compare(made).changes == []

    def test_what_the_user_left_alone_is_written_and_what_both_changed_is_shown(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = (made / "README.md").read_text() + "my own line\n"
        (made / "README.md").write_text(mine)

        def change(files: dict[str, str]) -> None:
            files["README.md"] += "a line of the kit\n"
            files["dvc.yaml"] += "# newer\n"
            files[".gitignore"] += "/more/\n"
            files["conf/new.yaml"] = "new: 1\n"
            del files["own-data/README.md"]

        newer(monkeypatch, change)
        (made / ".gitignore").write_text("*.tmp\n" + (made / ".gitignore").read_text())
        found = upgrading.compare(made)
        assert {each.name: each.standing for each in found.changes} == {
            ".gitignore": "offered",
            "README.md": "yours",
            "conf/new.yaml": "offered",
            "dvc.yaml": "offered",
            "own-data/README.md": "offered",
        }
        assert sum(each.diff().count("+a line of the kit") for each in found.changes) == 1
        upgrading.apply(made, found)
        assert (made / "README.md").read_text() == mine
        assert (made / "dvc.yaml").read_text().endswith("# newer\n")
        assert (made / ".gitignore").read_text().startswith("*.tmp\n# >>> embrepro\n")
        assert (current(made, ".gitignore") or "").endswith("/more/\n")
        assert not (made / "own-data" / "README.md").exists()
        again = upgrading.compare(made)
        assert [each.name for each in again.changes] == ["README.md"]
        upgrading.apply(made, again, settled=["README.md"])
        assert upgrading.compare(made).changes == []
        assert (made / "README.md").read_text() == mine

    def test_it_ends_with_1_until_all_is_taken_over_and_with_2_elsewhere(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(generated, "origin_of_the_kit", lambda: None)
        monkeypatch.chdir(made)
        assert CliRunner().invoke(cli.app, ["upgrade"]).exit_code == 0
        newer(monkeypatch, lambda files: files.update({"dvc.yaml": "stages: {}\n"}))
        shown = CliRunner().invoke(cli.app, ["upgrade"])
        assert shown.exit_code == 1 and "--- dvc.yaml (written)" in shown.output
        assert CliRunner().invoke(cli.app, ["upgrade", "--write"]).exit_code == 0
        assert (made / "dvc.yaml").read_text() == "stages: {}\n"
        (made / "params.yaml").write_text("seed: 1\n")
        assert CliRunner().invoke(cli.app, ["upgrade"]).exit_code == 1
        monkeypatch.chdir(tmp_path)
        assert CliRunner().invoke(cli.app, ["upgrade"]).exit_code == 2

    def test_the_workflow_moves_with_the_kits_commit(self, made: Path) -> None:
        later = ORIGIN.model_copy(update={"commit": "f" * 40})
        (change,) = upgrading.compare(made, later).changes
        assert change.name == generated.WORKFLOW and f"some-team/kit/.github/workflows/numbers.yml@{'f' * 40}" in (
            change.today or ""
        )
        upgrading.apply(made, upgrading.compare(made, later), later)
        assert read_record(made).choices.origin == later

    def test_the_workflow_calls_the_kits_with_inputs_that_it_has(self, made: Path) -> None:
        called = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "numbers.yml").read_text(encoding="utf-8"))
        job = yaml.safe_load((made / generated.WORKFLOW).read_text(encoding="utf-8"))["jobs"]["numbers"]
        assert job["with"] == {"kit": ORIGIN.repository, "commit": ORIGIN.commit}
        assert set(job["with"]) <= set(called[True]["workflow_call"]["inputs"])
        rights = {name: right for each in called["jobs"].values() for name, right in each["permissions"].items()}
        assert job["permissions"] == rights
        programs = Path(sys.executable).parent
        schema = [programs / "check-jsonschema", "--builtin-schema", "vendor.github-workflows"]
        subprocess.run([*schema, made / generated.WORKFLOW], check=True, capture_output=True)
        subprocess.run(
            [programs / "zizmor", "--offline", "--no-progress", made / ".github"], check=True, capture_output=True
        )


@dataclass(frozen=True)
class OwnRepository(Checkout):
    """A repository that is no copy of the kit's, and the folder that a kit is installed into."""

    kit: Path

    @property
    def environment(self) -> dict[str, str]:
        """As of a checkout, with the installed kit's code."""
        return super().environment | {"PYTHONPATH": str(self.kit)}

    def stages(self) -> set[str]:
        """Run the pipeline; which stages ran."""
        return set(re.findall(r"Running stage '([\w@]+)'", self.run("dvc", "repro")))

    def change_config(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change `conf/config.yaml`, and compose anew."""
        path = self.folder / "conf" / "config.yaml"
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        self.compose()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit as pip installs it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed") / "site"
    copy_repository(source)
    uv = [
        Path(sys.prefix) / "bin" / "uv",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--offline",
    ]
    subprocess.run([*uv, "--python", sys.executable, "--target", target, source], check=True, timeout=300)
    return target


@pytest.mark.slow
class TestSecondRepository:
    def test_an_installed_kit_brings_all_that_a_checkout_has(self, installed: Path) -> None:
        brought = installed / kit.CARRIED
        for name in ("conf", "dvc.yaml", "requirements", "scripts/pip_settings.py"):
            path = REPOSITORY / name
            for file in [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]:
                assert (brought / file.relative_to(REPOSITORY)).read_bytes() == file.read_bytes()
        code = "from embrepro import source_code; print(source_code.code_hash(*source_code.STAGES.values()))"
        hashes = {
            subprocess.check_output([sys.executable, "-c", code], env={"PYTHONPATH": str(place)})
            for place in (installed, REPOSITORY / "src")
        }
        assert len(hashes) == 1, "the same code is the same work, wherever it is installed"

    def test_it_is_made_used_gated_and_upgraded_with_no_file_of_the_kit_in_it(
        self, installed: Path, tmp_path: Path
    ) -> None:
        own = OwnRepository(tmp_path / "my work" / "my-evaluation", installed)
        page = (REPOSITORY / "docs" / "own-repository.md").read_text(encoding="utf-8")
        (beginning,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
        workflow = f"{ORIGIN.repository}@{ORIGIN.commit}"
        beginning = beginning.replace("embrepro init", f"embrepro init --workflow {workflow}")
        own.folder.parent.mkdir()
        OwnRepository(own.folder.parent, installed).run("bash", "-ec", beginning)
        for dimensions in (2, 32, 64):
            build_word_model(own.folder / "models" / str(dimensions), dimensions)
        own.write_model("mine", folder="models/32")
        own.write_model("other", folder="models/64")
        (own.folder / "conf" / "tasks" / "mine.yaml").write_text(yaml.safe_dump({"names": list(TASKS[:1])}))
        own.change_config(lambda values: values["defaults"].__setitem__(2, {"baseline": "other"}))
        own.change_config(lambda values: values.update(benchmark={"measure": False}))
        own.commit("Our evaluation")

        assert {"download", "encode@mine", "evaluate@mine", "report", "check"} <= own.stages()
        own.commit("Our numbers")
        assert own.stages() == {"code"}
        refused = own.run("dvc", "exp", "run", "--dry", "-S", "model=potion_base_8n", code=None)
        assert "did you mean potion_base_8m" in refused

        own.run("git", "checkout", "--quiet", "-b", "change")
        own.write_model("mine", folder="models/2")
        own.compose()
        own.commit("A worse model")
        said = own.run(str(REPOSITORY / "scripts" / "regression-check"), "pull-request", "main", code=1)
        ran = set(re.findall(r"Running stage '([\w@]+)'", said.split("regression-check: the change")[1]))
        assert "encode@mine" in ran and "encode@other" not in ran
        page = (own.folder / "reports" / "gate.md").read_text(encoding="utf-8")
        assert "Regression gate: fails" in page and TASKS[0] in page
        own.run("git", "checkout", "--quiet", "--force", "main")
        own.run("dvc", "checkout", "--quiet")

        newer_kit = shutil.copytree(installed, tmp_path / "newer")
        with (newer_kit / "embrepro" / "pipeline" / "report.py").open("a") as module:
            module.write("\nNEWER = True\n")
        with (newer_kit / kit.CARRIED / "dvc.yaml").open("a") as pipeline:
            pipeline.write("# newer\n")
        own = OwnRepository(own.folder, newer_kit)
        own.run("embrepro", "upgrade", "--workflow", workflow, code=1)
        own.run("embrepro", "upgrade", "--workflow", workflow, "--write")
        assert own.run("git", "diff", "--name-only").split() == [".embrepro-init.json", "dvc.yaml"]
        assert own.stages() == {"code", "report", "check"}
        own.run("embrepro", "gate", "--against", "HEAD")
        assert ".embrepro/code/report.json" in own.run("embrepro", "compare", "HEAD", "--json")
        own.commit("A newer kit")

        ours = own.run("git", "ls-files").splitlines()
        listed = subprocess.check_output(["git", "ls-files"], cwd=REPOSITORY, text=True).splitlines()
        theirs = {(REPOSITORY / name).read_bytes() for name in listed if "templates/" not in name}
        # Of .dvc, all is DVC's
        written = [name for name in ours if not name.startswith(".dvc/")]
        assert [name for name in written if (own.folder / name).read_bytes() in theirs] == []
        assert {Path(name).parts[0] for name in ours} == {
            *(".dvc", ".dvcignore", ".embrepro-init.json", ".github", ".gitignore", "README.md", "conf", "dvc.lock"),
            *("dvc.yaml", "models", "own-data", "params.yaml", "reports"),
        }


def test_a_fork_that_asks_for_it_keeps_its_own_record_in_a_merge(tmp_path: Path) -> None:
    upstream = Checkout(tmp_path / "kit")
    (upstream.folder / "reports").mkdir(parents=True)
    shutil.copy2(REPOSITORY / ".gitattributes", upstream.folder)

    def record(who: Checkout, words: str) -> None:
        for name in ("dvc.lock", "reports/metrics.json", "reports/summary.json"):
            (who.folder / name).write_text(words)
        who.commit(words)

    upstream.run("git", "init", "--quiet", "--initial-branch=main")
    record(upstream, "both")
    fork = Checkout(tmp_path / "fork")
    upstream.run("git", "clone", "--quiet", ".", str(fork.folder))
    record(upstream, "theirs")
    record(fork, "ours")
    fork.run("git", "fetch", "--quiet")
    assert "CONFLICT" in fork.run("git", "merge", "origin/main", code=1), "as ever, where nobody asked"
    fork.run("git", "merge", "--abort")
    fork.run("git", "config", "merge.own-run.driver", "true")
    fork.run("git", "merge", "--quiet", "origin/main")
    assert (fork.folder / "dvc.lock").read_text() == "ours"
    assert (fork.folder / "reports" / "metrics.json").read_text() == "ours"
