"""The page as text: one HTML file with its style, script and drawings in it."""

import base64
import hashlib
import re
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trainer.report.page.blocks import Drawing, Page
from trainer.report.page.theme import THEME_STYLE
from trainer.report.page.visible import visible
from trainer.report.plots.style import PLOT_STYLE

_FOLDER = Path(__file__).parent
_LONG = 500
"""Characters of a sample that are shown before the rest has to be opened."""
_KEY = re.compile(r"\bplot-[0-9a-f]{12}\b")


def render(page: Page) -> str:
    """One self-contained HTML document; equal pages give equal text, which UTF-8 can write."""
    style = PLOT_STYLE + THEME_STYLE + _source("page.css")
    script = _source("page.js")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            anchors=_anchors([section.title for section in page.sections]),
            policy=policy,
            style=style,
            script=script,
            markup=_Drawings(),
            number=count(1).__next__,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["beginning"] = beginning
    return environment


def _finalize(value: Any) -> Any:
    """Make text visible before it is escaped; what is markup already comes from this package."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


@cache
def _source(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def beginning(text: str) -> tuple[str, str]:
    """A long text as its beginning, to the last space before the limit, and its rest."""
    if len(text) <= _LONG * 5 // 4:
        return text, ""
    end = max(text.rfind(" ", 0, _LONG), text.rfind("\n", 0, _LONG))
    end = end + 1 if end > _LONG // 2 else _LONG
    return text[:end], text[end:]


def _anchors(titles: list[str]) -> list[str]:
    """An id for each title, of its words, none twice."""
    found: list[str] = []
    for title in titles:
        words = re.findall(r"[a-z0-9]+", title.lower())
        plain = "-".join(words)[:48].strip("-") or "section"
        name, turn = plain, 1
        while name in found:
            turn += 1
            name = f"{plain}-{turn}"
        found.append(name)
    return found


class _Drawings:
    """The markup of drawings, of which one that comes again has ids of its own."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def __call__(self, block: Drawing) -> str:
        turn = self._seen.get(block.svg, 0)
        self._seen[block.svg] = turn + 1
        return _KEY.sub(rf"\g<0>-{turn}", block.svg) if turn else block.svg
