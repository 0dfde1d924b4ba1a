"""What `lyceum recipe` prints: every key with its type, bounds, default and documentation.

All of it is read from the sections themselves: annotations, defaults and docstrings.
"""

import inspect
import re
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from trainer.errors import RecipeError
from trainer.recipe.reading import nearest
from trainer.recipe.recipe import Recipe
from trainer.recipe.section import Section

_WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "value"}
_WIDEST = 100
_LISTED = {"true or false": "values of true or false", "text": "texts"}


@dataclass(frozen=True)
class KeyValues:
    """The values that a key takes."""

    words: str
    """As a person reads them, bounds and choices included."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """gt, ge, lt and le, as far as there are any; of a list, those of each item."""
    choices: tuple[str, ...] = ()
    """All values, where they can be listed."""


@dataclass(frozen=True)
class RecipeKey:
    """One key of the recipe."""

    name: str
    """Dotted; `[]` stands for the number of a list's item."""
    kind: KeyValues
    required: bool
    default: Any
    """As JSON holds it; None for null, and where the key is required."""
    is_section: bool
    text: str
    """Its documentation, one paragraph."""

    @property
    def default_text(self) -> str:
        """`required`, or the default as a recipe would write it."""
        if self.required:
            return "required"
        if self.is_section and isinstance(self.default, dict):
            return "default: its keys' defaults"
        return f"default {_written(self.default)}"

    def as_json(self) -> dict[str, Any]:
        """What `lyceum recipe --json` writes of it."""
        return {
            "key": self.name,
            "type": self.kind.words,
            "bounds": dict(self.kind.bounds),
            "choices": list(self.kind.choices),
            "required": self.required,
            "default": self.default,
            "section": self.is_section,
            "documentation": self.text,
        }


def all_keys(section: type[Section] = Recipe, prefix: str = "") -> Iterator[RecipeKey]:
    """Every key of a section and of the sections in it, in the order in which they are declared."""
    for name, info in section.model_fields.items():
        below, item = _section_in(info.annotation)
        documentation = _paragraph(info.description or "")
        if below is not None:
            of_class = _paragraph(inspect.getdoc(below) or "")
            said = of_class.startswith(documentation.rstrip("."))
            documentation = of_class if said else f"{documentation} {of_class}"
        yield RecipeKey(
            name=prefix + name,
            kind=_kind(info.annotation, info.metadata),
            required=info.is_required(),
            default=None
            if info.is_required()
            else _plain(info.get_default(call_default_factory=True)),
            is_section=below is not None,
            text=documentation,
        )
        if below is not None:
            yield from all_keys(below, f"{prefix}{name}{item}.")


def find_keys(name: str | None) -> list[RecipeKey]:
    """The key called `name` and all below it; None: every key.

    A list's item may be written `data.mixture[].weight`, `data.mixture.0.weight` or without number.
    Raises RecipeError that names the nearest key.
    """
    keys = list(all_keys())
    if name is None:
        return keys
    wanted = _without_numbers(name)
    found = [key for key in keys if f"{_without_numbers(key.name)}.".startswith(f"{wanted}.")]
    if not found:
        said = f"unknown key {name}" if wanted else f"KEY {name!r} is empty"
        raise RecipeError(f"{said}; {nearest(Recipe, tuple(wanted.split('.')))}")
    return found


def _without_numbers(name: str) -> str:
    return re.sub(r"\[\d*\]|\.\d+(?=\.|$)", "", name.strip())


def _paragraph(text: str) -> str:
    return " ".join(text.split())


def _section_in(annotation: Any) -> tuple[type[Section] | None, str]:
    """The section that a key holds, and "[]" where it holds a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, ""
    for part in get_args(annotation):
        section, item = _section_in(part)
        if section is not None:
            return section, "[]" if get_origin(annotation) is tuple else item
    return None, ""


def _kind(annotation: Any, metadata: Iterable[Any] = ()) -> KeyValues:
    """The values of an annotation, with the bounds that its own or the field's metadata set."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0], [*parts[1:], *metadata])
    if origin is Literal:
        choices = tuple(str(part) for part in parts)
        return KeyValues(f"one of {', '.join(choices)}", choices=choices)
    if origin in (Union, types.UnionType):
        return _joined([_kind(part, metadata) for part in parts])
    if origin is tuple:
        item = _kind(parts[0])
        number = "" if parts[-1] is Ellipsis else f"{len(parts)} "
        return KeyValues(f"list of {number}{_listed(item.words)}", item.bounds, item.choices)
    if origin is dict:
        value = _kind(parts[1])
        return KeyValues(f"section of names, to each a {value.words}", value.bounds, value.choices)
    if annotation is type(None):
        return KeyValues("null")
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return KeyValues("section")
    bounds = _bounds(metadata)
    return KeyValues(f"{_WORDS[annotation]}{_bounds_in_words(bounds)}", bounds)


def _joined(kinds: list[KeyValues]) -> KeyValues:
    *first, last = [kind.words for kind in kinds]
    bounds = {sign: limit for kind in kinds for sign, limit in kind.bounds.items()}
    comma = "," if len(first) > 1 or bounds or any(kind.choices for kind in kinds) else ""
    choices = tuple(choice for kind in kinds for choice in kind.choices)
    return KeyValues(f"{', '.join(first)}{comma} or {last}", bounds, choices)


def _listed(words: str) -> str:
    """More than one of what these words mean."""
    for one in ("whole number", "number", "section"):
        if words.startswith(one):
            return f"{one}s{words.removeprefix(one)}"
    return _LISTED.get(words, words)


def _bounds(metadata: Iterable[Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in metadata:
        if isinstance(item, FieldInfo):
            found |= _bounds(item.metadata)
        for sign in ("gt", "ge", "lt", "le"):
            if (limit := getattr(item, sign, None)) is not None:
                found[sign] = limit
    return found


def _bounds_in_words(bounds: Mapping[str, float]) -> str:
    said = {"gt": "above {:g}", "ge": "from {:g}", "lt": "below {:g}", "le": "to {:g}"}
    words = [said[sign].format(limit) for sign, limit in bounds.items()]
    return f" {' '.join(words)}" if words else ""


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _written(value: Any) -> str:
    """A default as YAML writes it on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value != "" else '""'


def show_keys(keys: Iterable[RecipeKey]) -> None:
    """Print keys, each with its documentation; 80 columns where it is no terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    width = min(console.width, _WIDEST)
    for number, key in enumerate(keys):
        if key.is_section and number:
            console.print()
        said = f"{key.name}: {key.kind.words} ({key.default_text})"
        head = Text(textwrap.fill(said, width, subsequent_indent=" " * 8, break_on_hyphens=False))
        head.stylize("bold", 0, len(key.name))
        console.print(head)
        indent = " " * 4
        console.print(
            textwrap.fill(
                key.text,
                width,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            ),
            markup=False,
        )
