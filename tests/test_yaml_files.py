"""YAML that people write for the kit: whatever a file holds, it is read or refused with one clear error."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import REPOSITORY
from embrepro.claims import verdicts
from embrepro.config.compose import compose_values
from embrepro.config.params import dump_params, read_params, write_params
from embrepro.config.schema import parse_config
from embrepro.config.yaml_files import DEEPEST, parse_yaml
from embrepro.errors import ConfigError
from embrepro.recommendation import rules
from embrepro.regression import gate, published

CONF = REPOSITORY / "conf"
PARAMS = (REPOSITORY / "params.yaml").read_bytes()


def _expected(path: Path) -> object:
    return published.load([path])


READERS = {
    "params.yaml": (read_params, REPOSITORY / "params.yaml"),
    "claims.yaml": (verdicts.read_claims, CONF / "documents" / "claims" / "overview.yaml"),
    "recommendation.yaml": (rules.read_rules, CONF / "documents" / "recommendation" / "default.yaml"),
    "gate.yaml": (gate.rules, CONF / "gate" / "default.yaml"),
    "expected.yaml": (_expected, CONF / "expected" / "mpnet.yaml"),
}
DAMAGED = {
    "latin-1": ("# \xe9\xe8 caf\xe9\n".encode("latin-1"), "not in UTF-8: byte 0xe9 in line 1"),
    "utf-16": ("seed: 1\n".encode("utf-16"), "is in UTF-16; save it in UTF-8"),
    "NUL": (b"seed: 1\n\0", "NUL character in line 2"),
    "very deep": (b"[" * 100_000, "nested deeper"),
    "deep": (b"a: " + b"[" * (DEEPEST + 2) + b"]" * (DEEPEST + 2), "nested deeper"),
    "twice": (b"seed: 1\nclaims: []\nseed: 2\n", "'seed' stands twice, in lines 1 and 3"),
    "twice below": (b"a:\n  b: 1\n  b: 2\n", "'b' stands twice, in lines 2 and 3"),
    "aliases": (
        b"a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 10)) for c in range(98, 108)),
        "more than 200,000 values",
    ),
    "alias of itself": (b"a: &a [*a]\n", "nested deeper"),
    "two documents": (b"a: 1\n---\nb: 2\n", "not valid YAML"),
    "object": (b"seed: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    "long number": (b"seed: " + b"9" * 5000, "not valid YAML"),
    "no date": (b"seed: 2026-13-45\n", "not valid YAML"),
    "list as key": (b"? [a]\n: 1\n", "a key must be a word"),
    "escape": (b'a: "\\e[2J"\n', "line 1: '\\x1b' is not a character"),
    "surrogate": (b'a: "\\ud800"\n', "is not a character"),
    "huge": (b"#" * (5 * 2**20), "at most 4,194,304 are read"),
    "open": (b"models: [", "not valid YAML"),
    "word": (b"just words", ""),
    "empty": (b"", ""),
    "number keys": (b"1: 2\n", ""),
}


@pytest.mark.parametrize("document", READERS)
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, document: str, damage: str) -> None:
    content, said = DAMAGED[damage]
    path = tmp_path / document
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        READERS[document][0](path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 3000


def test_every_file_of_conf_can_be_read_strictly() -> None:
    files = sorted(CONF.rglob("*.yaml"))
    assert len(files) > 20
    for path in files:
        assert parse_yaml(path.read_bytes(), str(path)) == yaml.safe_load(path.read_bytes()), path


def test_a_byte_order_mark_and_merged_keys_are_read() -> None:
    assert parse_yaml(b"\xef\xbb\xbfa: &a {b: 1}\nc: {<<: *a, d: 2}\n", "it") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


@pytest.mark.parametrize("content", [b"\xe9: 1\n", b"tasks: 1\ntasks: 2\n", b"- a\n"])
def test_a_damaged_file_of_a_group_is_named_when_it_is_chosen(tmp_path: Path, content: bytes) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "tasks" / "mine.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"tasks/mine\.yaml"):
        compose_values(["tasks=mine"], tmp_path / "conf")


def test_params_are_replaced_whole(tmp_path: Path) -> None:
    """Whoever has the old file open goes on reading the old file."""
    path = tmp_path / "params.yaml"
    values = parse_yaml(PARAMS, "params.yaml")
    write_params(values, path)
    assert path.read_bytes() == PARAMS
    with path.open("rb") as opened:
        write_params(values | {"seed": 1}, path)
        assert opened.read() == PARAMS
    assert read_params(path).seed == 1
    assert [each.name for each in tmp_path.iterdir()] == ["params.yaml"]


# --- Fuzzing: anything but a configuration is a ConfigError, and nothing else

FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.sampled_from(["minilm", "../x", "a;b", "-x", ""])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


def _sections(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values."""
    inside = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path, *(found for key, value in inside for found in _sections(value, (*path, key)))]


def _changed(values: Any, path: tuple[Any, ...], value: object) -> Any:
    if not path:
        return value
    copied = list(values) if isinstance(values, list) else dict(values)
    copied[path[0]] = _changed(values[path[0]], path[1:], value)
    return copied


@pytest.mark.parametrize("document", READERS)
def test_any_value_anywhere_is_read_or_refused(tmp_path: Path, document: str) -> None:
    read, original = READERS[document]
    values = yaml.safe_load(original.read_bytes())
    paths = _sections(values)
    target = tmp_path / document

    @FUZZ
    @given(path=st.sampled_from(paths), value=VALUES, key=TEXT, added=st.booleans())
    def fuzz(path: tuple[Any, ...], value: object, key: str, added: bool) -> None:
        target.write_text(
            yaml.safe_dump(_changed(values, path, {key: value} if added else value), allow_unicode=False),
            encoding="utf-8",
        )
        try:
            read(target)
        except ConfigError as error:
            assert str(error).encode("utf-8")
            assert len(str(error)) < 5000

    fuzz()


@pytest.mark.parametrize("document", READERS)
def test_any_bytes_anywhere_are_read_or_refused(tmp_path: Path, document: str) -> None:
    read, original = READERS[document]
    content = original.read_bytes()[:3000]
    target = tmp_path / document

    @FUZZ
    @given(
        where=st.integers(0, len(content)),
        removed=st.integers(0, 40),
        added=st.binary(max_size=8) | st.sampled_from([b"&a ", b"*a", b"{", b"- ", b"\n\n", b"!!set ", b": ", b"<<: "]),
    )
    def fuzz(where: int, removed: int, added: bytes) -> None:
        target.write_bytes(content[:where] + added + content[where + removed :])
        try:
            read(target)
        except ConfigError as error:
            assert str(error).encode("utf-8")

    fuzz()


@FUZZ
@given(values=VALUES)
def test_any_values_are_a_configuration_or_refused(values: object) -> None:
    with pytest.raises(ConfigError):
        parse_config(values, "it")


@settings(max_examples=60, deadline=None)
@given(
    override=st.text(max_size=30)
    | st.builds("{}={}".format, st.sampled_from(["model", "tasks", "seed", "claims", "models.minilm.org", "+x"]), TEXT)
)
def test_any_override_composes_or_is_refused(override: str) -> None:
    try:
        parse_config(compose_values([override], CONF), "conf/")
    except ConfigError as error:
        assert str(error)


def test_what_is_dumped_is_what_is_read() -> None:
    assert dump_params(parse_yaml(PARAMS, "params.yaml")).encode() == PARAMS
