"""The sheet of wordings in which a question is declined, by the sections that say of which."""

from functools import cache
from pathlib import Path

SHEET = Path(__file__).with_name("wordings.txt")


@cache
def wordings(section: str) -> tuple[str, ...]:
    """The lines of a section of the sheet, in their order."""
    found: list[str] = []
    within = None
    for line in SHEET.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            within = line.strip("[]")
        elif line and not line.startswith("#") and within == section:
            found.append(line)
    assert found, f"{SHEET.name} has no section {section}"
    return tuple(found)
