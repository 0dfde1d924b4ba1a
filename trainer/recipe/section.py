"""What every section of a recipe has in common: frozen, strict, and documented field by field."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A frozen group of recipe keys; unknown keys, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )


def _frozen_sequence(value: Any) -> Any:
    """YAML gives lists; a frozen recipe holds tuples."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | dict):
        return tuple(value)
    return value


Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
FrozenSequence = BeforeValidator(_frozen_sequence)
Names = Annotated[tuple[str, ...], FrozenSequence]
