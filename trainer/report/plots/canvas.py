"""Inline SVG: elements with their text escaped, and one drawing painted for two widths."""

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape

from trainer.report.plots.lettering import HEADING, TEXT, one_line, text_width, wrapped
from trainer.report.plots.style import PLOT_STYLE, marker_path, property_of

WIDE, NARROW = 720, 340
"""Widths in units of a drawing; `style.PLOT_STYLE` chooses where each is shown."""
_DESCRIBED = 2000
"""Characters of a description."""
_FACE = "system-ui,sans-serif"


@dataclass
class Canvas:
    """A drawing that is being painted: `parts` in order, and how high it is by now.

    Coordinates are units of the drawing, 0 at the left and at the top.
    """

    width: int
    parts: list[str] = field(default_factory=list)
    height: float = 0.0

    @property
    def wide(self) -> bool:
        """Whether it is painted for a wide place."""
        return self.width == WIDE

    def add(self, name: str, content: str = "", **attributes: str | float) -> None:
        """Append an element; `content` is markup, made by `element` or escaped."""
        self.parts.append(element(name, content, **attributes))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "start",
        bold: bool = False,
        size: float = TEXT,
        hint: str = "",
        halo: bool = False,
    ) -> None:
        """A line of text with its base line at `y`; `hint` is shown where a pointer rests on it.

        `halo`: with a rim of the ground's colour, which sets it off from lines below.
        """
        more: dict[str, str | float] = {}
        if anchor != "start":
            more["text_anchor"] = anchor
        if bold:
            more["font_weight"] = "600"
        if size != TEXT:
            more["font_size"] = size
        if halo:
            ground = property_of("plot-ground")
            more |= {"stroke": ground, "stroke_width": 3, "paint_order": "stroke"}
        content = escape(one_line(text), quote=False)
        self.add("text", content + hint_of(hint), x=x, y=y, **more)

    def marker(self, x: float, y: float, shape: int, colour: str, hint: str = "") -> None:
        """A marker of a series."""
        self.add("path", hint_of(hint), d=marker_path(shape, x, y), fill=colour)

    def heading(self, title: str, subtitle: str = "") -> None:
        """The title at the top in up to two lines, and below what the vertical axis shows."""
        for line in wrapped(title, self.width - 8, 2, HEADING, bold=True):
            self.height += HEADING + 4
            self.text(2, self.height, line, bold=True, size=HEADING)
        for line in wrapped(subtitle, self.width - 8, 2) if subtitle else ():
            self.height += TEXT + 5
            self.text(2, self.height, line)
        self.height += 8

    def note(self, text: str, lines: int = 3) -> None:
        """Text below all that is painted so far."""
        self.height += 4
        for line in wrapped(text, self.width - 8, lines):
            self.height += TEXT + 4
            self.text(2, self.height, line)
        self.height += 4


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """An element; `_` in a name of an attribute stands for `-`. `content` is markup."""
    written = "".join(
        f' {key.replace("_", "-")}="{escape(value) if isinstance(value, str) else number(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def number(value: float) -> str:
    """A coordinate to a tenth of a unit."""
    assert math.isfinite(value), "a coordinate is finite"
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def hint_of(text: str) -> str:
    """A `<title>`, which browsers show where a pointer rests; empty for no text."""
    line = one_line(text)
    return element("title", escape(line[:160], quote=False)) if line else ""


def drawing(title: str, description: Iterable[str], paint: Callable[[Canvas], None]) -> str:
    """`paint` called for both widths, as one `<div class="plot">` of two images.

    `description`: sentences that say what is drawn, for those who do not see it.
    """
    told = one_line(" ".join(description))
    told = told if len(told) <= _DESCRIBED else told[: _DESCRIBED - 1] + "…"
    images = []
    for name, width in (("wide", WIDE), ("narrow", NARROW)):
        canvas = Canvas(width)
        paint(canvas)
        body = "".join(canvas.parts)
        digest = hashlib.sha256(f"{title}\n{told}\n{body}".encode("utf-8", "replace"))
        key = f"plot-{digest.hexdigest()[:12]}"
        labels = element(
            "title", escape(one_line(title) or "drawing", quote=False), id=f"{key}-title"
        )
        labels += element("desc", escape(told or "A drawing.", quote=False), id=f"{key}-desc")
        images.append(
            element(
                "svg",
                labels + body,
                **{"class": f"plot-{name}"},
                role="img",
                aria_labelledby=f"{key}-title {key}-desc",
                viewBox=f"0 0 {width} {math.ceil(canvas.height)}",
                width="100%",
                font_size=TEXT,
                font_family=_FACE,
                fill="currentColor",
            )
        )
    return element("div", "".join(images), **{"class": "plot"})


def svg_file(plot: str) -> str:
    """The wide image of a drawing as a file of its own, with its colours and a ground."""
    image = plot[plot.index("<svg") : plot.index("</svg>") + len("</svg>")]
    head = '<svg xmlns="http://www.w3.org/2000/svg" '
    ground = element("rect", width="100%", height="100%", fill=property_of("plot-ground"))
    colours = f"<style>{PLOT_STYLE}svg{{color:var(--plot-text)}}</style>"
    image = re.sub(r"^<svg ", head, image)
    return image.replace("</desc>", f"</desc>{colours}{ground}", 1)


def room_for(texts: Iterable[str]) -> float:
    """The width of the widest of these texts; 0 without any."""
    return max((text_width(text) for text in texts), default=0.0)
