"""Text from data as a page may hold it: characters that nobody sees are made visible."""

import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of text around
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"  # no characters: UTF-8 or HTML has none of them
)


def visible(text: str) -> str:
    """The text with control characters as their pictures and direction marks as [U+202E].

    A lone surrogate, which UTF-8 cannot write, becomes U+FFFD. Line ends become line feeds.
    """
    return _UNSEEN.sub(_shown, text.replace("\r\n", "\n"))


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return f"[U+{code:04X}]"
