"""Text from configuration, results and other people, made fit to be shown; the renderers escape it for their format."""

from __future__ import annotations

import re

# Characters that change what is around them: controls (with the escape sequences of a terminal), marks that turn the
# direction of writing, characters without width, and halves of surrogate pairs, which no file can hold.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNSEEN = re.compile(
    "[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Text on one line in which nothing is hidden.

    Control characters become their pictures (U+2400 and on), other unseen ones the replacement character.
    """
    text = re.sub(r"\s+", " ", text)
    text = _CONTROL.sub(lambda found: chr(0x2400 + ord(found[0])) if ord(found[0]) < 0x20 else "\ufffd", text)
    return _UNSEEN.sub("\ufffd", text)
