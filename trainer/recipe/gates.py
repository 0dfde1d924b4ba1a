"""Gates: what must hold of a suite's figure, as a line of the recipe or of a command."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainer.errors import RecipeError

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_EXPECTED = (
    '"SUITE/FIGURE < NUMBER" (or <=, >, >=), or "SUITE/FIGURE within P%" of the base, for example '
    '"known-unknown/hallucination < 0.2" or "perplexity/bits_per_byte within 1%"'
)
_FORM = re.compile(
    r"\s*(?:eval/)?(?P<suite>[^\s/<>=]+)/(?P<figure>[^\s<>=]+)\s*"
    r"(?:(?P<sign><=|>=|<|>)\s*(?P<limit>[^\s<>=]+)"
    r"|\bwithin\s+(?P<within>[^\s%]+)\s*%(?:\s+of the base)?)\s*"
)


@dataclass(frozen=True)
class Gate:
    """A condition on a figure.

    `text`: as it was written; `suite`, `figure`: what it is about; either `sign`, one of OPERATORS,
    and `limit`, or `within`: the fraction of the base's figure that it may be worse by.
    """

    text: str
    suite: str
    figure: str
    sign: str | None = None
    limit: float | None = None
    within: float | None = None

    @property
    def name(self) -> str:
        """SUITE/FIGURE."""
        return f"{self.suite}/{self.figure}"


def parse_gate(text: str, source: str) -> Gate:
    """The gate that `text` describes; raises RecipeError, which says where it stands (`source`)."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise RecipeError(f"{source}: {text!r} is not a gate; expected {_EXPECTED}")
    suite, figure, written = form["suite"], form["figure"], " ".join(text.split())
    number = _number(form["limit"] or form["within"])
    if number is None:
        raise RecipeError(
            f"{source}: {text!r}: {form['limit'] or form['within']!r} is not a number; expected "
            f"{_EXPECTED}"
        )
    if form["sign"]:
        return Gate(written, suite, figure, sign=form["sign"], limit=number)
    if number < 0:
        raise RecipeError(f"{source}: {text!r}: {number:g}% is below 0; give 0% or more")
    return Gate(written, suite, figure, within=number / 100)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
