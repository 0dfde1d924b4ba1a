"""The colours of the page beside those of its drawings, in light and in dark."""

from trainer.report.plots.style import themed

PAGE_LIGHT = {
    "page-muted": "#525c69",
    "page-surface": "#f5f6f8",
    "page-line": "#d9dde3",
    "page-shadow": "#00000022",
    "page-right": "#0a6e53",
    "page-declined": "#8a5a00",
    "page-wrong": "#b42318",
}
"""Custom properties by name; text in them has a contrast of 4.5 on ground and on surface."""
PAGE_DARK = {
    "page-muted": "#a9b2bf",
    "page-surface": "#1c2128",
    "page-line": "#343b46",
    "page-shadow": "#000000cc",
    "page-right": "#48cfa3",
    "page-declined": "#e5c04a",
    "page-wrong": "#ff8a80",
}

THEME_STYLE = themed(PAGE_LIGHT, PAGE_DARK)
