"""Series of any length in bounded memory: of each stretch of steps its extremes and its mean."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

STRETCHES = 1024
"""Most stretches of a series; even, as they are joined by twos."""

Point = tuple[int, float | None]
"""A step and its value; None: a gap."""


@dataclass(slots=True)
class _Stretch:
    """Some steps: their least and greatest value, each with its step, their number and sum.

    `key`: which stretch of this width it is, from step 0; `gap`: the first step without a value.
    """

    key: int
    low: float = math.inf
    low_step: int = 0
    high: float = -math.inf
    high_step: int = 0
    count: int = 0
    total: float = 0.0
    gap: int | None = None

    def take(self, other: "_Stretch") -> None:
        """Join the stretch that follows."""
        if other.low < self.low:
            self.low, self.low_step = other.low, other.low_step
        if other.high > self.high:
            self.high, self.high_step = other.high, other.high_step
        self.count, self.total = self.count + other.count, self.total + other.total
        self.gap = other.gap if self.gap is None else self.gap

    def points(self) -> list[Point]:
        """Its extremes in order of step; its gap where it has no value."""
        if not self.count:
            return [] if self.gap is None else [(self.gap, None)]
        ends = {self.low_step: self.low, self.high_step: self.high}
        return [(step, ends[step]) for step in sorted(ends)]


class ThinnedSeries:
    """Values over ascending steps, of which up to two a stretch are kept: the extremes.

    Up to STRETCHES steps all are kept. Beyond, stretches become twice as long whenever their number
    passes STRETCHES, so that memory stays the same and no peak is lost. None, and what is not
    finite, is a gap, kept where nothing else is in its stretch. `first`, `last`: the values at the
    ends, with their steps; `low`, `high`: the extremes; `count`: how many values came.
    """

    def __init__(self) -> None:
        self._width = 1
        self._stretches: list[_Stretch] = []
        self._now = _Stretch(-1)
        self.first: tuple[int, float] | None = None
        self.last: tuple[int, float] | None = None
        self.count = 0

    def add(self, step: int, value: float | None) -> None:
        """Append a value; `step` is greater than any before."""
        now = self._now
        if step // self._width != now.key:
            now = self._begin(step)
        if value is None or not math.isfinite(value):
            if now.gap is None:
                now.gap = step
            return
        if value < now.low:
            now.low, now.low_step = value, step
        if value > now.high:
            now.high, now.high_step = value, step
        now.count += 1
        now.total += value
        self.count += 1
        self.last = (step, value)
        if self.first is None:
            self.first = self.last

    @property
    def low(self) -> float:
        """The least value; infinite without any."""
        return min((one.low for one in self._stretches), default=math.inf)

    @property
    def high(self) -> float:
        """The greatest value; minus infinity without any."""
        return max((one.high for one in self._stretches), default=-math.inf)

    @property
    def mean(self) -> float:
        """The mean of all values; NaN without any."""
        total = math.fsum(one.total for one in self._stretches)
        return total / self.count if self.count else math.nan

    def points(self) -> Iterator[Point]:
        """What was kept, in order of step, with both ends."""
        kept: dict[int, float | None] = {
            step: value for one in self._stretches for step, value in one.points()
        }
        kept |= dict(end for end in (self.first, self.last) if end is not None)
        yield from sorted(kept.items())

    def means(self, most: int) -> tuple[int, list[tuple[float, float]]]:
        """Up to `most` means over equally many steps: how many, and (middle step, mean) of each.

        A stretch without values is left out.
        """
        if not self._stretches:
            return self._width, []
        spanned = self._stretches[-1].key - self._stretches[0].key + 1
        group, origin = math.ceil(spanned / most), self._stretches[0].key
        found: dict[int, tuple[float, int]] = {}
        for one in self._stretches:
            total, count = found.get((one.key - origin) // group, (0.0, 0))
            found[(one.key - origin) // group] = (total + one.total, count + one.count)
        length = group * self._width
        first = origin * self._width
        means = [
            (first + place * length + (length - 1) / 2, total / count)
            for place, (total, count) in sorted(found.items())
            if count
        ]
        return length, means

    def _begin(self, step: int) -> _Stretch:
        """The stretch that the step begins; where they become too many, all are joined by twos."""
        self._stretches.append(_Stretch(step // self._width))
        while len(self._stretches) > STRETCHES:
            self._width *= 2
            joined: list[_Stretch] = []
            for one in self._stretches:
                one.key //= 2
                if joined and joined[-1].key == one.key:
                    joined[-1].take(one)
                else:
                    joined.append(one)
            self._stretches = joined
        self._now = self._stretches[-1]
        return self._now
