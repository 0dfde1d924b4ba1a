"""From values to places on a drawing: linear and logarithmic scales with round ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from trainer.report.plots.amounts import log_labels, tick_labels

MOST = 1e300
"""Values beyond are drawn here: the difference of two would not be finite."""
_END = 1e305
"""Where a logarithmic scale ends at most, its margin included."""
_SAME = 1e-9
"""Relative: values that differ by less are one to a reader."""


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high`, drawn from `start` to `end`; `log`: by their logarithms."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value is drawn; outside the scale: at its nearer end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            low, high, value = math.log10(self.low), math.log10(self.high), math.log10(value)
        else:
            low, high = self.low, self.high
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int, *, whole: bool = False) -> list[tuple[float, str]]:
        """At most so many round values on the scale, with labels; `whole`: no fractions."""
        if self.log and (found := _log_ticks(self.low, self.high, most)):
            return list(zip(found, log_labels(found), strict=True))
        found = linear_ticks(self.low, self.high, most, whole=whole)
        return list(zip(found, tick_labels(found), strict=True))


def extent(
    values: Iterable[float], *, log: bool = False, margin: float = 0.04
) -> tuple[float, float]:
    """The ends of a scale that shows all finite values, with a margin; ValueError without any.

    On a logarithmic scale what is not above 0 counts as not finite.
    """
    drawn = [value for value in values if is_drawn(value, log=log)]
    if not drawn:
        raise ValueError("no finite value to draw")
    low, high = (max(-MOST, min(MOST, end)) for end in (min(drawn), max(drawn)))
    if log:
        low, high = max(low, 1e-300), max(high, 1e-300)
        if high <= low * (1 + _SAME):
            return low / 1.5, high * 1.5
        factor = (high / low) ** margin if high / low < MOST else 10.0
        return max(low / factor, 1 / _END), min(high * factor, _END)
    if high - low <= _SAME * max(abs(low), abs(high)) or high - low < 1e-290:
        around = 0.1 * max(abs(low), abs(high))
        around = around if around > 1e-290 else 1.0
        return low - around, high + around
    return low - margin * (high - low), high + margin * (high - low)


def is_drawn(value: float | None, *, log: bool = False) -> bool:
    """Whether a value has a place on such a scale."""
    return value is not None and math.isfinite(value) and (value > 0 or not log)


def linear_ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten from `low` to `high`, at most so many."""
    rough = (high - low) / max(1, most)
    power = math.floor(math.log10(rough))
    for exponent in range(power, max(power, 0) + 2):
        for digit in (1, 2, 5):
            if whole and exponent < 0:
                continue
            # Dividing by a power of ten is exact where multiplying by its inverse is not.
            times, parts = (10.0**exponent, 1.0) if exponent >= 0 else (1.0, 10.0**-exponent)
            step = digit * times / parts
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first < most:
                return [number * digit * times / parts for number in range(first, last + 1)]
    return []


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten, with 2 and 5 times them where there is room; none where few would be shown."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [
            float(f"{digit}e{exponent}")  # nearest, and no error beyond a float's range
            for exponent in range(first, last + 1)
            for digit in digits
        ]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= most:
            return found if len(found) >= 3 or last - first > 2 else []
    stride = math.ceil((last - first + 1) / max(1, most))
    every = [float(f"1e{one}") for one in range(first, last + 1) if one % stride == 0]
    return [tick for tick in every if low <= tick <= high]
