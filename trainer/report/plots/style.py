"""The colours, dashes and markers of drawings, and the style sheet that a page needs for them."""

from dataclasses import dataclass

LIGHT = {
    "series-1": "#0b5cad",
    "series-2": "#b3430a",
    "series-3": "#0a6e53",
    "series-4": "#8436a8",
    "series-5": "#8a5a00",
    "series-6": "#b01f62",
    "series-7": "#46690f",
    "series-8": "#4a5568",
    "plot-flag": "#b42318",
    "plot-grid": "#d5d9e0",
    "plot-ground": "#ffffff",
    "plot-text": "#1b1f24",
}
"""Custom properties by name. On the ground, text has a contrast of 4.5 and more, series of 3."""
DARK = {
    "series-1": "#6cb2ff",
    "series-2": "#ff9d66",
    "series-3": "#48cfa3",
    "series-4": "#d3a1ff",
    "series-5": "#e5c04a",
    "series-6": "#ff8cc0",
    "series-7": "#a6d568",
    "series-8": "#aab7c9",
    "plot-flag": "#ff8a80",
    "plot-grid": "#3a414c",
    "plot-ground": "#14171c",
    "plot-text": "#e8eaee",
}

COLOURS = 8
_DASHES = ("", "7 3", "2 3", "10 3 2 3", "5 2 1 2 1 2")
_SHAPES = (
    "m-4,0a4,4 0 1 0 8,0a4,4 0 1 0 -8,0z",
    "m-3.5,-3.5h7v7h-7z",
    "m0,-4.8l4.6,8h-9.2z",
    "m0,-5.2l5.2,5.2l-5.2,5.2l-5.2,-5.2z",
    "m0,4.8l4.6,-8h-9.2z",
    "m-1.4,-4.8h2.8v3.4h3.4v2.8h-3.4v3.4h-2.8v-3.4h-3.4v-2.8h3.4z",
)
"""Circle, square, triangle, diamond, triangle on its point, cross; around where the pen is."""


def themed(light: dict[str, str], dark: dict[str, str]) -> str:
    """CSS of custom properties: dark by the reader's system or `data-theme`, never in print."""
    light_ones, dark_ones = (
        "".join(f"--{name}:{value};" for name, value in values.items()) for values in (light, dark)
    )
    return f"""\
:root{{{light_ones}}}
@media screen and (prefers-color-scheme:dark){{
:root:not([data-theme=light]){{{dark_ones}}}}}
@media screen{{:root[data-theme=dark]{{{dark_ones}}}}}
"""


PLOT_STYLE = f"""\
{themed(LIGHT, DARK)}\
.plot{{container-type:inline-size;width:100%}}
.plot svg{{display:block;width:100%;height:auto}}
.plot .plot-wide{{max-width:50rem}}
.plot .plot-narrow{{display:none;max-width:30rem}}
@container (max-width:38.5rem){{
.plot .plot-wide{{display:none}}
.plot .plot-narrow{{display:block}}}}
@media print{{.plot{{break-inside:avoid}}}}
"""
"""CSS for the page. Dark follows the reader's system, or `data-theme` on the root; never in print.

A wide drawing is shown from 38.5rem on, where its text is 11 px and more; a narrow one's is so down
to 288 px.
"""


def property_of(name: str) -> str:
    """A colour of the palette, with its light value for where no style sheet is."""
    return f"var(--{name},{LIGHT[name]})"


@dataclass(frozen=True)
class LineStyle:
    """How one series looks: told apart by `dash` and `marker` where colours are not seen."""

    colour: str
    dash: str
    """`stroke-dasharray`; empty for a solid line."""
    marker: int
    """Which of the shapes that `marker_path` knows."""


def line_style(number: int) -> LineStyle:
    """The look of series `number`, from 0; the first 120 all differ."""
    return LineStyle(
        colour=property_of(f"series-{number % COLOURS + 1}"),
        dash=_DASHES[number % len(_DASHES)],
        marker=number % len(_SHAPES),
    )


def marker_path(marker: int, x: float, y: float) -> str:
    """The outline of a marker around a point, as the data of a path."""
    return f"M{x:.1f},{y:.1f}{_SHAPES[marker]}"
