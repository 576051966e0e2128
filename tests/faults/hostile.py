"""Names, documents, data and models that somebody means ill with, or made carelessly."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from faults import project, zygote
from faults.injections import Injection
from faults.project import Good

NAMES = (
    "../../outside",
    "/etc",
    "x;touch owned #",
    "$(touch owned)",
    "`touch owned`",
    "a b",
    "-rf",
    "",
    ".",
    "..",
    "x\n",
    "\ud800",
    "\0",
    "é" * 300,
    "~",
    "con|cat",
    "![x](https://example.org/i.png)",
    "<script>alert(1)</script>",
    None,
    True,
    1,
    [],
    {},
)
PLACES = (
    ("candidate",),
    ("models", "KEY"),
    ("models", "big", "org"),
    ("models", "big", "name"),
    ("models", "big", "weights", "org"),
    ("models", "big", "weights", "revision"),
    ("models", "big", "weights", "sha256"),
    ("models", "big", "folder"),
    ("models", "big", "prompts"),
    ("tasks", "names"),
    ("tasks", "subsets"),
    ("tasks", "benchmark"),
    ("claims",),
    ("recommendation",),
    ("runtime", "image", "cpu"),
    ("runtime", "network"),
    ("source", "mirror"),
    ("seed",),
    ("device", "name"),
)
TEXTS = (
    b"\xff\xfe" + "models: {}".encode("utf-16-le"),
    "modèles: é".encode("latin-1"),
    b"a: \0",
    b"[" * 20_000,
    b"a: &a [*a]",
    b"a: 1\na: 2",
    b"!!python/object/apply:os.system ['touch owned']",
    b"x" * 2**20,
    b"- " * 100_000,
    b"",
    b"a: .nan",
    b"\xed\xa0\x80",
    b"&a [" + b"*a," * 10 + b"]",
    b"? {a: b}\n: c",
)


def hostile_configuration(good: Good, draw: random.Random, folder: Path) -> Injection:
    """A name or a value in params.yaml that leads elsewhere, or a file that is no YAML of a person's."""
    params = folder / "params.yaml"
    if draw.random() < 0.3:
        text = draw.choice(TEXTS)
        params.write_bytes(text)
        what = f"params.yaml: {text[:30]!r}"
    else:
        place, name = draw.choice(PLACES), draw.choice(NAMES)
        values: dict[str, Any] = yaml.safe_load(params.read_bytes())
        section = values
        for key in place[:-1]:
            section = section.setdefault(key, {})
        if place[-1] == "KEY":
            section[name if isinstance(name, str | int) else "x"] = section["big"]  # type: ignore[index]
        else:
            section[place[-1]] = [name] if place[-1] in ("names", "claims") else name
        # JSON is YAML, and writes what YAML's own writer refuses.
        params.write_text(json.dumps(values), encoding="utf-8")
        what = f"{'.'.join(place)}: {str(name)[:30]!r}"
    command = draw.choice(("check", "report", "aggregate"))
    injection = Injection("hostile configuration", f"{what}; {command}", folder, {"params.yaml"})
    injection.during = [zygote.run(folder, command)]
    if (folder / "owned").exists():
        injection.complaints.append("a command of the configuration ran")
    return injection


def hostile_mirror(good: Good, draw: random.Random, folder: Path) -> Injection:
    """A mirror whose data set or model is spoilt; what was fetched before is out of date, so that it is read."""
    sources = folder.with_name(folder.name + ".mirror")
    shutil.copytree(good.sources / "mirror", sources)
    values = yaml.safe_load((folder / "params.yaml").read_bytes())
    values["source"]["mirror"] = str(sources)
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    model = draw.random() < 0.5
    trick = draw.choice(MODEL_TRICKS if model else DATA_TRICKS)
    place = (
        next((sources / "models" / "test" / "big").iterdir())
        if model
        else draw.choice(sorted(path.parent for path in sources.glob("datasets/*/*/*/README.md")))
    )
    said = trick(place, draw)
    for path in (*folder.glob("data/tasks/*"), *folder.glob("data/models/*")):
        shutil.rmtree(path)
    injection = Injection(
        f"a hostile {'model' if model else 'data set'}", f"{place.parent.name}: {said}", folder, {"params.yaml"}
    )
    # Other data are other numbers, truly; what counts is how it ends.
    injection.during = [zygote.run(folder, "download")]
    if injection.during[0].code == 0 and model:
        injection.during += [zygote.run(folder, "encode", "big")]
    if any(path.read_bytes() == SECRET for path in (folder / "data").rglob("*") if path.is_file()):
        injection.complaints.append("a file from outside was copied")
    if Path("/tmp/embrepro-owned").exists():
        injection.complaints.append("code of the model ran")
    return injection


SECRET = b"the password"


class _Pickled:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        import os

        return os.system, ("touch /tmp/embrepro-owned",)


def _link(place: Path, draw: random.Random) -> str:
    (place.parent / "secret").write_bytes(SECRET)
    outside = place.parents[4] / "outside.txt"
    outside.write_bytes(SECRET)
    name = draw.choice(("notes.txt", "config.json", "README.md", "data"))
    target = place / name
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    target.symlink_to(draw.choice((outside, Path("/etc/passwd"), Path("/nowhere"), Path("/dev/zero"), target)))
    return f"{name} is a link"


def _pickles(place: Path, draw: random.Random) -> str:
    for path in place.glob("*.safetensors"):
        path.unlink()
    (place / "pytorch_model.bin").write_bytes(pickle.dumps(_Pickled()))
    return "weights are a pickle"


def _code(place: Path, draw: random.Random) -> str:
    config = json.loads((place / "config.json").read_bytes())
    config |= {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}, "model_type": "evil"}
    (place / "config.json").write_text(json.dumps(config))
    (place / "evil.py").write_text("import os\nos.system('touch /tmp/embrepro-owned')\n")
    (place / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Model"}]))
    return "code of its own"


def _header(place: Path, draw: random.Random) -> str:
    (path,) = place.glob("*.safetensors")
    size = draw.choice((0, 1, 2**40, 2**64 - 1))
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])
    return f"a header of {size} bytes"


def _numbers(place: Path, draw: random.Random) -> str:
    import numpy as np

    (path,) = place.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", content[:8])[0]
    value = draw.choice(("nan", "inf", "0", "65504"))
    size = len(content) - start
    content[start:] = np.full(size // 2, np.float16(value)).tobytes() + b"\0" * (size % 2)
    path.write_bytes(bytes(content))
    return f"all weights are {value}"


def _bytes(place: Path, draw: random.Random) -> str:
    path = draw.choice(sorted(path for path in place.rglob("*") if path.is_file()))
    path.write_bytes(draw.choice((b"", b"\0" * 100, b"{" * 5000, b'{"a": NaN}', b"\xff\xfe", b"x" * 2**20)))
    return f"{path.name} is {path.read_bytes()[:6]!r}..."


def _card(place: Path, draw: random.Random) -> str:
    pattern = draw.choice(
        ("../../../../secret.parquet", "/etc/passwd", "https://example.org/x.parquet", "~/x", "**/*", "data/../../x")
    )
    (place / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: {pattern!r}\n---\n"
    )
    return f"the card names {pattern}"


def _cells(place: Path, draw: random.Random) -> str:
    """Strange texts and numbers in a table, its size unchanged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = draw.choice(sorted(place.rglob("*.parquet")))
    table = pq.read_table(path)
    name = draw.choice(table.column_names)
    kind = table.schema.field(name).type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        strange = draw.choice(("", "\0", "x" * 2**20, "\u202e", "�", "\x1b[2J", None))
        column = pa.array([strange, *table[name].to_pylist()[1:]], kind)
    elif pa.types.is_floating(kind):
        strange = draw.choice((float("nan"), float("inf"), None, -1e308))
        column = pa.array([strange, *table[name].to_pylist()[1:]], kind)
    elif pa.types.is_integer(kind):
        strange = draw.choice((None, 2**31, -1))
        column = pa.array([strange, *table[name].to_pylist()[1:]], pa.int64())
    else:
        strange = None
        column = pa.array([strange, *table[name].to_pylist()[1:]], kind)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), path)
    return f"{path.name}, {name}: {str(strange)[:8]!r}"


def _rows(place: Path, draw: random.Random) -> str:
    import pyarrow.parquet as pq

    path = draw.choice(sorted(place.rglob("*.parquet")))
    table = pq.read_table(path)
    rows = draw.choice((0, 1, table.num_rows - 1))
    pq.write_table(table.slice(0, rows), path)
    return f"{path.name} has {rows} rows"


def _in_a_child(trick: Callable[[Path, random.Random], str]) -> Callable[[Path, random.Random], str]:
    """Run a trick that computes in a forked process, since its threads would not survive a fork of this one."""

    def run(place: Path, draw: random.Random) -> str:
        seed = draw.random()
        said = place.parent / "said"
        zygote.call(lambda: said.write_text(trick(place, random.Random(seed))) and None)
        text = said.read_text()
        said.unlink()
        return text

    return run


MODEL_TRICKS = (_link, _pickles, _code, _header, _in_a_child(_numbers), _bytes, _bytes)
DATA_TRICKS = (_link, _bytes, _card, _in_a_child(_cells), _in_a_child(_cells), _in_a_child(_rows))
__all__ = ["hostile_configuration", "hostile_mirror", "project"]
