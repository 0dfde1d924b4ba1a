"""Text from data as a page may hold it: characters that nobody sees are made visible."""

import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of text around
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"  # no characters: UTF-8 or HTML has none of them
)


def visible(text: str) -> str:
    """The text with control characters and direction marks as [U+0000] and [U+202E].

    Not as the pictures that Unicode has of some, which the faces of many machines lack. A lone
    surrogate, which UTF-8 cannot write, becomes U+FFFD. Line ends become line feeds.
    """
    return _UNSEEN.sub(_shown, text.replace("\r\n", "\n"))


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"[U+{code:04X}]"
