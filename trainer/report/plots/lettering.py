"""How much room text takes in a drawing, and text that is made to fit."""

import unicodedata

TEXT = 13.0
"""Size of all text, in units of a drawing; headings are larger."""
HEADING = 15.0

_WIDTHS = {
    0.34: "ijlIJ|'!.,:; `/\\",
    0.42: "ftr()[]-",
    0.62: "scxzvykeaoLFTYP?_",
    0.66: "bdpqghnuESZK{}0123456789$#*",
    0.80: "ABCDGHNOQRUVX&",
    1.02: "mwMW%@+=<>~^",
}
_WIDTH = {character: width for width, group in _WIDTHS.items() for character in group}
_OTHER, _IDEOGRAPH, _BOLD = 0.72, 1.02, 1.12


def text_width(text: str, size: float = TEXT, *, bold: bool = False) -> float:
    """The room that a line of text takes, in units of a drawing.

    By the widths of DejaVu Sans, the widest of the faces that browsers take for `sans-serif`, so
    that what fits by this fits.
    """
    ems = 0.0
    for character in text:
        if unicodedata.combining(character):
            continue
        wide = unicodedata.east_asian_width(character) in "WF"
        ems += _IDEOGRAPH if wide else _WIDTH.get(character, _OTHER)
    return ems * size * (_BOLD if bold else 1.0)


def shortened(text: str, room: float, size: float = TEXT, *, bold: bool = False) -> str:
    """The text, or as much of its beginning as fits with an ellipsis; spaces made single."""
    line = one_line(text)
    if text_width(line, size, bold=bold) <= room:
        return line
    kept = len(line)
    while kept > 1 and text_width(line[:kept] + "…", size, bold=bold) > room:
        kept -= max(1, (kept - 1) // 8) if kept > 64 else 1
    return line[:kept].rstrip() + "…"


def wrapped(
    text: str, room: float, lines: int, size: float = TEXT, *, bold: bool = False
) -> list[str]:
    """The text in so many lines at most, broken between words; the last is shortened."""
    words = one_line(text).split(" ")
    found: list[str] = []
    while words and len(found) < lines - 1:
        count = 1
        while count < len(words) and (
            text_width(" ".join(words[: count + 1]), size, bold=bold) <= room
        ):
            count += 1
        found.append(shortened(" ".join(words[:count]), room, size, bold=bold))
        words = words[count:]
    if words:
        found.append(shortened(" ".join(words), room, size, bold=bold))
    return found


def one_line(text: str) -> str:
    """The text without control characters and runs of spaces, none of which a drawing shows."""
    shown = (" " if unicodedata.category(one) in ("Cc", "Cs", "Cn") else one for one in text)
    return " ".join("".join(shown).split())
