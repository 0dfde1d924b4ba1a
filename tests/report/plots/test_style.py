"""The palette: what is drawn can be seen, in light and in dark, also without colours."""

import re

import pytest

from trainer.report.plots.style import DARK, LIGHT, PLOT_STYLE, line_style


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_measured_as_known() -> None:
    """Negative control: black on white has 21, and a grey of #777777 just fails for text."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert 4.4 < contrast("#777777", "#ffffff") < 4.5


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_series_and_text_stand_out_from_the_ground(palette: dict[str, str]) -> None:
    """Would catch a colour that a reader with weak sight cannot see: WCAG 1.4.3 and 1.4.11."""
    ground = palette["plot-ground"]
    for name, colour in palette.items():
        if name.startswith("series") or name == "plot-flag":
            assert contrast(colour, ground) >= 4.5, name
    assert contrast(palette["plot-text"], ground) >= 7


def test_both_palettes_name_the_same_and_reach_the_page() -> None:
    """Would catch a colour of the light page that stays in the dark one."""
    assert LIGHT.keys() == DARK.keys()
    for palette in (LIGHT, DARK):
        for name, colour in palette.items():
            assert re.search(rf"--{name}:{colour};", PLOT_STYLE)


def test_thirty_series_differ_without_their_colours() -> None:
    """Would catch a legend that only colour tells apart."""
    looks = [line_style(number) for number in range(30)]
    assert len({(look.dash, look.marker) for look in looks}) == 30
