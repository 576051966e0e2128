"""A hub with every fault, asked for real: what passes is waited out, what does not ends at once with what to do about it."""

from __future__ import annotations

import email.utils
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

import tiny_mirror
from conftest import REPOSITORY as REPO
from conftest import build_static_model
from embrepro.config.compose import compose_values
from embrepro.config.schema import Weights, parse_config
from embrepro.errors import SourceError
from embrepro.layout import Layout
from embrepro.pipeline import download, encode
from embrepro.sources import hub, snapshots
from embrepro.sources import models as model_sources
from embrepro.tasks import freezing
from embrepro.tasks.registry import Request
from hub_server import Fault, HubServer, serving

REVISION = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "tiny/static-model"
WEIGHTS = Weights(org="tiny", name="static-model", revision=REVISION)
HTML = b"<!doctype html><html><body>Sign in to the network</body></html>"


@pytest.fixture
def server(tmp_path: Path, static_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one model, an empty cache before it, short time limits, and no token."""
    shutil.copytree(static_folder, tmp_path / "published" / "models" / REPOSITORY / REVISION)
    with serving(tmp_path / "published") as server:
        for name, value in {
            "ENDPOINT": server.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DOWNLOAD_TIMEOUT": 0.3,
            "HF_HUB_ETAG_TIMEOUT": 0.3,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hub, "FIRST_WAIT_SECONDS", 0.05)
        monkeypatch.setattr(huggingface_hub.hf_api.HfApi, "endpoint", server.endpoint, raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        hub.problem.cache_clear()
        huggingface_hub.close_session()
        yield server
        hub.problem.cache_clear()
        huggingface_hub.close_session()


def fetch() -> Path:
    return snapshots.model(WEIGHTS, None).folder


def refusal(weights: Weights = WEIGHTS) -> str:
    with pytest.raises(SourceError) as caught:
        snapshots.model(weights, None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("part", ["/tree/", "/resolve/"])
@pytest.mark.parametrize(
    "fault",
    [Fault(429, {"Retry-After": "0"}), Fault(500), Fault(503), Fault(-1), Fault(0)],
    ids=["429", "500", "503", "closed", "silent"],
)
def test_a_fault_that_passes_costs_nothing(
    fault: Fault, part: str, server: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults[part] = Fault(fault.status, fault.headers, times=1)
    assert (fetch() / "model.safetensors").is_file()
    said = [line for line in capsys.readouterr().out.splitlines() if "trying again" in line]
    assert 1 <= len(said) <= 2, said
    assert all(REPOSITORY in line for line in said)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(503), "the hub answered 503 Service Unavailable (4 attempts). Try again later"),
        (Fault(-1), "the connection to the hub broke"),
        (Fault(0), "the hub does not answer in time"),
    ],
)
def test_a_fault_that_stays_ends_with_its_reason(fault: Fault, reason: str, server: HubServer) -> None:
    server.faults["/tree/"] = fault
    started = time.monotonic()
    assert reason in refusal()
    assert time.monotonic() - started < 10


def test_a_hub_that_accepts_and_never_answers_is_given_up(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "CONNECT_SECONDS", 0.3)
    server.faults["/"] = Fault(0)
    started = time.monotonic()
    assert "cannot be reached: timed out" in refusal()
    assert time.monotonic() - started < 5


def test_a_hub_that_lists_files_and_never_answers_for_one_is_given_up(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults["model.safetensors"] = Fault(0)
    started = time.monotonic()
    assert "the hub does not answer in time (4 attempts). Try again later" in refusal()
    assert time.monotonic() - started < 5
    assert capsys.readouterr().out.count("the hub does not answer in time; trying again") == 3


@pytest.mark.parametrize("after", [0, 100], ids=["after its head", "in its body"])
def test_a_transfer_that_always_stalls_is_given_up(after: int, server: HubServer) -> None:
    server.stalls["model.safetensors"] = after
    started = time.monotonic()
    assert "the hub does not answer in time (4 attempts). Try again later" in refusal()
    assert time.monotonic() - started < 5


def test_retry_after_is_kept_to(server: HubServer) -> None:
    server.faults["/tree/"] = Fault(429, {"Retry-After": "1"}, times=1)
    started = time.monotonic()
    fetch()
    assert time.monotonic() - started >= 1


def test_a_wait_that_is_too_long_is_named_and_not_waited_for(server: HubServer) -> None:
    later = datetime.now(UTC) + timedelta(hours=2)
    server.faults["/tree/"] = Fault(429, {"Retry-After": email.utils.format_datetime(later, usegmt=True)})
    assert "429 Too Many Requests (1 attempts; it asks to wait 7" in refusal()


def test_a_gated_model_names_the_page_and_the_token(server: HubServer) -> None:
    server.faults["/resolve/"] = Fault(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
    found = refusal()
    assert f"it is gated: accept its terms at {server.endpoint}/{REPOSITORY} signed in, and set HF_TOKEN" in found


def test_401_without_a_token_asks_for_one(server: HubServer) -> None:
    server.faults["/tree/"] = Fault(401, {"X-Error-Code": "RepoNotFound"})
    assert "(401): it is private, gated or misspelt" in refusal() and "set HF_TOKEN" in refusal()


def test_401_with_a_token_says_that_it_is_not_accepted(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    server.faults["/tree/"] = Fault(401)
    assert "the hub does not accept the token in use (HF_TOKEN) (401)" in refusal()
    assert "hf_none" not in refusal()


def test_403_asks_for_access(server: HubServer) -> None:
    server.faults["/tree/"] = Fault(403)
    assert f"(403). Ask for access at {server.endpoint}/{REPOSITORY}" in refusal()


def test_a_misspelt_name_meets_the_nearest(server: HubServer) -> None:
    found = refusal(WEIGHTS.model_copy(update={"name": "static-modle"}))
    assert "no such repository (404); did you mean tiny/static-model?" in found


def test_a_revision_that_is_not_there_is_named(server: HubServer) -> None:
    assert "the repository, but not this revision (404)" in refusal(WEIGHTS.model_copy(update={"revision": "f" * 40}))


@pytest.mark.parametrize("part", ["/tree/", "/resolve/"])
def test_a_web_page_is_not_the_hub(part: str, server: HubServer) -> None:
    server.faults[part] = Fault(200, {"Content-Type": "text/html"}, HTML)
    assert "is not the hub: it sent something else, such as a web page. Check HF_ENDPOINT" in refusal()


def test_a_body_that_is_always_short_is_named(server: HubServer) -> None:
    server.cuts["model.safetensors"] = 1000
    found = refusal()
    assert "a file came cut short" in found or "the connection to the hub broke: peer closed connection" in found


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_body_with_another_hash_is_fetched_again_and_then_refused(name: str, server: HubServer) -> None:
    """Of the same length: only the hash tells. A weights file has SHA-256, the others git's."""
    server.faults[name] = Fault(200, body=None, times=1)
    assert (fetch() / name).read_bytes() == (server.root / "models" / REPOSITORY / REVISION / name).read_bytes()
    shutil.rmtree(constants.HF_HUB_CACHE)
    server.faults[name] = Fault(200, body=None)
    assert f"{name} came with another content than the hub lists: hash" in refusal()


def test_only_the_subsets_that_are_asked_for_are_fetched(server: HubServer, tmp_path: Path) -> None:
    task = tiny_mirror.MULTILINGUAL
    published = tiny_mirror.build_topics(server.root, ["eng_Latn", "fra_Latn", "deu_Latn"])
    folder = tmp_path / "frozen"
    manifest = freezing.freeze(Request(task, ("fra_Latn",), ("test",)), folder, None)
    assert manifest.source == "hub" and manifest.rows["fra_Latn/test"] == 204
    fetched = {
        line.partition("/resolve/")[2].partition("/")[2] for line in server.asked if line.startswith("GET /data")
    }
    # The first configuration comes along: `datasets` learns the format from it.
    assert {name.partition("/")[0] for name in fetched} == {"README.md", "eng_Latn", "fra_Latn"}
    assert (published / "deu_Latn" / "test.parquet").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(401, {"X-Error-Code": "RepoNotFound"}), "(401): it is private, gated or misspelt"),
        (Fault(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"}), "it is gated: accept its terms at"),
        (Fault(404, {"X-Error-Code": "RepoNotFound"}), "the hub has no such repository (404)"),
    ],
    ids=["401", "403", "404"],
)
def test_one_model_of_three_that_cannot_be_had_stops_no_other(
    fault: Fault, reason: str, server: HubServer, tmp_path: Path
) -> None:
    names = ("static-model", "second-model", "third-model")
    for name in names[1:]:
        build_static_model(server.root / "models" / "tiny" / name / REVISION, seed=len(name))
    server.faults["tiny/second-model"] = fault
    values = compose_values(["device.threads=1"], REPO / "conf")
    values["models"] = {
        name.replace("-", "_"): {
            "org": "tiny",
            "name": name,
            "family": "static",
            "weights": {"org": "tiny", "name": name, "revision": REVISION},
        }
        for name in names
    }
    values |= {"candidate": "third_model", "baseline": "static_model", "benchmarked": {}}
    values["tasks"]["names"] = ["EmbreproTopicClustering"]
    config, layout = parse_config(values, "test"), Layout(tmp_path / "project")
    download.run(config, layout)
    for key in ("static_model", "third_model"):
        assert model_sources.read(layout.models / key)[0].source == "hub"
    lost = encode.run(config, layout, "second_model").tasks["EmbreproTopicClustering"]
    assert reason in lost.status
    assert "HF_TOKEN" in lost.status or fault.status == 404
    assert f"{server.endpoint}/tiny/second-model" in lost.status or fault.status == 404
    server.faults.clear()
    download.run(config, layout)
    assert model_sources.why_unavailable(layout.models / "second_model") is None
