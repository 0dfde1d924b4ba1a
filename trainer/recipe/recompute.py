"""`recompute`: which activations the backward pass recomputes instead of finding them in memory."""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator

from trainer.errors import RecipeError

PARTS = ("norms", "swiglu", "attention", "mlp")
"""`norms`: what both norms of a layer give to the linears after them; `swiglu`: the gated product;
`attention`: all between the queries', keys' and values' projection and the output's; `mlp`: all
between the second norm and the residual sum."""

WORDS = ("none", "full", "attention", "mlp", "auto")

AUTO_PARTS = (*PARTS, "full")


def _checked(value: Any) -> Any:
    """One of the words, or a tuple of parts in their own order."""
    if isinstance(value, str):
        if value in WORDS:
            return value
        if value in PARTS:
            return (value,)
        raise RecipeError(f"recompute: {value!r} is not allowed; {_allowed(value)}")
    if not isinstance(value, Iterable) or isinstance(value, bytes | dict):
        raise RecipeError(f"recompute: {value!r} is not allowed; {_allowed('')}")
    given = list(value)
    for part in given:
        if part not in PARTS:
            near = difflib.get_close_matches(str(part), PARTS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"a list takes {', '.join(PARTS)}"
            raise RecipeError(f"recompute: {part!r} is not a part of a layer; {hint}")
    return tuple(part for part in PARTS if part in given)


def _allowed(value: str) -> str:
    near = difflib.get_close_matches(value, (*WORDS, *PARTS), n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"give one of {', '.join(WORDS)}, or a list of {', '.join(PARTS)}"


Recompute = Annotated[str | tuple[str, ...], BeforeValidator(_checked)]


def parts_of(recompute: str | tuple[str, ...]) -> frozenset[str]:
    """The parts that are recomputed: any of PARTS, or "full" alone; `auto` must be decided."""
    assert recompute != "auto", "recompute: auto is decided before the model is built"
    if isinstance(recompute, tuple):
        return frozenset(recompute)
    return frozenset() if recompute == "none" else frozenset({recompute})
