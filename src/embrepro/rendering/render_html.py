"""A document as one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from markupsafe import escape as escape_markup

from embrepro.rendering import palette
from embrepro.rendering.model import Code, Document, Link
from embrepro.rendering.text import visible


def render(document: Document) -> str:
    """The document as HTML; the same document gives the same text.

    Every text is escaped. In addition the content security policy lets nothing be loaded and no script run but the page's
    own, by its hash, so that even a name that slipped through could do no harm.
    """
    script = _template("report.js") if document.data is not None else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            document=document,
            style=Markup(_style()),
            script=Markup(script),
            script_hash=f"sha256-{digest}",
        )
    )


def escape(value: object) -> object:
    """Text as HTML shows it; markup that the renderer itself made, and what is no text, stays as it is."""
    return escape_markup(visible(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("embrepro.rendering"),
        autoescape=True,
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    environment.tests["code"] = lambda part: isinstance(part, Code)
    environment.tests["link"] = lambda part: isinstance(part, Link)
    return environment


def _breakable(text: str) -> Markup:
    """Escaped text that may break at the joints of a long name, between the words of CamelCase, but not before a unit."""
    joined = re.sub(r"(?<=\d) (?=%|(?:ms|s|h|MB|points?|tasks?|dimensions)\b)", "\u00a0", visible(text))
    pieces = re.split(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[/_])(?=\w)", joined)
    return Markup("<wbr>").join(pieces)


def _style() -> str:
    style = _template("report.css").replace("/*light*/", palette.variables(palette.LIGHT))
    return style.replace("/*dark*/", palette.variables(palette.DARK)).replace("/*charts*/", palette.chart_rules())


def _template(name: str) -> str:
    return resources.files("embrepro.rendering").joinpath("templates", name).read_text(encoding="utf-8")
