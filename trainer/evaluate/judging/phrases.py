"""The phrases that tell abstentions, read from the sheets in `phrases/`."""

import re
from functools import cache
from pathlib import Path

SHEETS = Path(__file__).with_name("phrases")


@cache
def phrase(sheet: str, section: str) -> re.Pattern[str]:
    """The pattern of a section of a sheet: any of its lines, the sections that they name put in."""
    return re.compile(_alternatives(sheet, section))


def lines(sheet: str, section: str) -> list[str]:
    """The lines of a section of a sheet."""
    return _sections(sheet)[section]


@cache
def _alternatives(sheet: str, section: str) -> str:
    either = "|".join(lines(sheet, section))
    return re.sub(r"<([a-z_]+)>", lambda name: f"(?:{_alternatives(sheet, name[1])})", either)


@cache
def _sections(sheet: str) -> dict[str, list[str]]:
    """The lines of each section "[name]"; what begins with # is a remark."""
    found: dict[str, list[str]] = {}
    filled: list[str] = []
    for line in (SHEETS / f"{sheet}.txt").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"\[([a-z_]+)\]", line):
            filled = found.setdefault(heading[1], [])
        elif line and not line.startswith("#"):
            filled.append(line)
    return found
