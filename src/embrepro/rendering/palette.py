"""Colours by meaning, for light and dark; charts carry the light ones, which the style sheet maps.

Chosen so that no pair that must be distinguished differs in hue alone: candidate and baseline differ in
saturation and in shape, better and worse in lightness and in words.
"""

from __future__ import annotations

LIGHT = {
    "ink": "#17202c",
    "muted": "#566273",
    "grid": "#e3e7ec",
    "axis": "#b9c2ce",
    "baseline": "#66758a",
    "candidate": "#3451d1",
    "other": "#8a4b9f",
    "good": "#0b7a6b",
    "bad": "#c2410d",
    "even": "#7d8897",
    "surface": "#fffffe",
}
DARK = {
    "ink": "#e6ebf2",
    "muted": "#9eabbc",
    "grid": "#262f3b",
    "axis": "#465366",
    "baseline": "#a5b3c6",
    "candidate": "#8ea4ff",
    "other": "#d3a2e6",
    "good": "#43c8b2",
    "bad": "#ff9466",
    "even": "#93a0b1",
    "surface": "#151b24",
}


def chart_rules() -> str:
    """Style rules that give every colour of a chart the theme's value."""
    rules = [
        f'.chart [{use}="{colour}"]{{{use}:var(--{name})}}'
        for name, colour in LIGHT.items()
        for use in ("fill", "stroke")
    ]
    return "\n".join(rules)


def variables(palette: dict[str, str]) -> str:
    """The colours as custom properties."""
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())
