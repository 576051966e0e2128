"""The report as one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from embrepro.benchmarking.speed import SpeedReport
from embrepro.report import palette
from embrepro.report.document import build
from embrepro.results.provenance import Provenance
from embrepro.results.summary import Summary


def render(summary: Summary, provenance: Provenance, speed: SpeedReport | None) -> str:
    """The whole report as one HTML file; the same inputs give the same text.

    Names come from configuration and are escaped. The content security policy lets the page's own script run,
    by its hash, and nothing be loaded, so that even a name that slipped through could do no harm.
    """
    script = _template("report.js")
    style = _template("report.css").replace("/*light*/", palette.variables(palette.LIGHT))
    style = style.replace("/*dark*/", palette.variables(palette.DARK)).replace("/*charts*/", palette.chart_rules())
    data = {
        "summary": summary.model_dump(mode="json"),
        "provenance": provenance.model_dump(mode="json"),
        "speed": speed.model_dump(mode="json") if speed else None,
    }
    environment = Environment(
        loader=PackageLoader("embrepro.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        document=build(summary, provenance, speed),
        provenance=provenance,
        data=data,
        style=Markup(style),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )


def _breakable(text: str) -> Markup:
    """Escaped text that may break at the joints of a long name, such as between the words of CamelCase."""
    pieces = re.split(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[/_])(?=\w)", text)
    return Markup("<wbr>").join(pieces)


def _template(name: str) -> str:
    return resources.files("embrepro.report").joinpath("templates", name).read_text(encoding="utf-8")
