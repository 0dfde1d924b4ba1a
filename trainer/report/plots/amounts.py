"""Numbers as text: on the ticks of an axis, beside a bar, in a sentence."""

import math
from collections.abc import Sequence
from itertools import pairwise

_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def amount(value: float, digits: int = 3) -> str:
    """A number by itself: 0.614, 12.3, 1,234, 56.7k, 1.23M, 3e-5; "none" where it is not finite.

    `digits`: significant ones, of what is not a whole number below 10,000.
    """
    if not math.isfinite(value):
        return "none"
    size = abs(value)
    if value == 0:
        return "0"
    if size < 1e-3 or size >= 1e15:
        return _signed(f"{value:.{digits - 1}e}".replace("e+", "e").replace("e-0", "e-"))
    if size >= 9999.5:
        unit, suffix = next(one for one in _SUFFIXES if size >= 0.9995 * one[0])
        return _signed(_plain(value / unit, digits) + suffix)
    return _signed(f"{value:,.0f}" if value == round(value) else _plain(value, digits))


def count(value: float) -> str:
    """A whole number with its thousands apart, from 1e15 on as an `amount`."""
    return _signed(f"{value:,.0f}") if abs(value) < 1e15 else amount(value)


def share(value: float) -> str:
    """A share as percent: 12.3%, <0.1%, 0%, 120k%."""
    percent = 100 * value
    if abs(percent) >= 9999.5:
        return amount(percent) + "%"
    if 0 < abs(percent) < 0.05:
        return "<0.1%" if percent > 0 else "\u2212<0.1%"
    return _signed(f"{percent:.1f}".removesuffix(".0") + "%")


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The labels of a linear axis: all with one suffix and as many decimals as the step needs."""
    if len(ticks) < 2:
        return [amount(tick, 6) for tick in ticks]
    largest = max(abs(tick) for tick in ticks)
    step = min(after - before for before, after in pairwise(ticks))
    if largest >= 1e15 or largest < 1e-3:
        digits = max(0, math.floor(math.log10(largest)) - math.floor(math.log10(step) + 1e-9))
        texts = [f"{tick:.{digits}e}".replace("e+", "e").replace("e-0", "e-") for tick in ticks]
        return [
            "0" if tick == 0 else _signed(text) for tick, text in zip(ticks, texts, strict=True)
        ]
    unit, suffix = 1.0, ""
    if largest >= 10_000:
        unit, suffix = next(one for one in _SUFFIXES if largest >= one[0])
        if _decimals(step / unit) > 3:
            unit, suffix = 1.0, ""
    decimals = _decimals(step / unit)
    return ["0" if tick == 0 else _signed(f"{tick / unit:,.{decimals}f}{suffix}") for tick in ticks]


def log_labels(ticks: Sequence[float]) -> list[str]:
    """The labels of a logarithmic axis, each by itself: 0.001, 1, 500, 10k, 1e-5."""
    return [
        f"{tick:.6g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
        if tick < 1e-3 or tick >= 1e15
        else amount(tick, 6)
        for tick in ticks
    ]


def _decimals(step: float) -> int:
    """Decimals that show a step of 1, 2 or 5 times a power of ten."""
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _plain(value: float, digits: int) -> str:
    """Significant digits without an exponent, zeros at the end left out."""
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _signed(text: str) -> str:
    """With a minus sign for the hyphen in front."""
    return "\u2212" + text[1:] if text.startswith("-") else text
