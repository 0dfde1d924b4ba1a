"""From YAML text and KEY=VALUE overrides to nested keys, and from pydantic's errors to one line."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from trainer.errors import RecipeError
from trainer.parsing import YamlDumper, YamlFault, read_yaml

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe


def written(keys: dict[str, Any]) -> str:
    """YAML that `parse` reads back as the same keys, in their order."""
    text: str = yaml.dump(keys, Dumper=YamlDumper, sort_keys=False, allow_unicode=True)
    return text


def parse(text: str, source: str) -> dict[str, Any]:
    """The nested keys of a recipe's YAML; raises RecipeError naming `source`."""
    try:
        keys = _loaded(text)
    except YamlFault as error:
        raise RecipeError(f"{source}: not YAML: {error}") from error
    if not isinstance(keys, dict):
        raise RecipeError(f"{source}: a recipe is a mapping of keys, not {_kind(keys)}")
    return keys


def override(keys: dict[str, Any], text: str) -> tuple[str, ...]:
    """Set one KEY=VALUE in `keys`, the value read as YAML; returns the key's parts. A number stands
    for the item of a list, as in `data.mixture.0.weight`.
    """
    name, equals, value = text.partition("=")
    parts = tuple(name.strip().split("."))
    if not equals or not all(parts):
        raise RecipeError(f"{text!r}: an override is KEY=VALUE, for example model.layers=8")
    try:
        parsed = _loaded(value)
    except YamlFault as error:
        raise RecipeError(f"{_shown(text)}: the value is not YAML: {error}") from error
    place: Any = keys
    for depth, part in enumerate(parts):
        above = ".".join(parts[:depth])
        if isinstance(place, list):
            if not part.isdecimal() or int(part) >= len(place):
                items = f"{len(place)} items, numbered from 0"
                raise RecipeError(f"{text!r}: {above} is a list of {items}: {part} is none of them")
        elif not isinstance(place, dict):
            raise RecipeError(f"{text!r}: {above} has no keys below it")
        key = int(part) if isinstance(place, list) else part
        if depth == len(parts) - 1:
            place[key] = parsed
        elif isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        place = place[key]
    return parts


_UNQUOTED = re.compile(
    r"""(?<![\w"'])(?:
      \w+://[^\s,\[\]{}"']*\?[^\s,\[\]{}"']*  # hf://org/set?split=a
    | [^\s,:\[\]{}"'][^\s,\[\]{}"']*(?:\{[^\s{}"']*\}[^\s,\[\]{}"']*)+  # shards/{000..999}.tar
    | [A-Za-z][\w.]*(?:\[[^\[\]{}"',\n]+\])+  # json[text]
    )""",
    re.VERBOSE,
)
"""Words whose signs YAML takes for its own inside of brackets and braces."""
MOST_QUOTED = 200
"""Of such words; each is found by reading the text anew."""


def _loaded(text: str) -> Any:
    """What the YAML says, where a word of `_UNQUOTED` may stand inside of brackets without quotes:
    it is quoted where YAML stumbles over it, and nowhere else.
    """
    for left in reversed(range(MOST_QUOTED)):
        try:
            return read_yaml(text)
        except YamlFault as error:
            at = error.index
            words = _UNQUOTED.finditer(text)
            word = next((word for word in words if word.start() < at < word.end()), None)
            if word is None or not left:
                raise
            text = f'{text[: word.start()]}"{word[0]}"{text[word.end() :]}'


def set_values(keys: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Set nested keys by their dotted names, in sections that are made where they are missing."""
    for name, value in values.items():
        place, (*sections, last) = keys, name.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value


def validated(
    kind: "type[Recipe]",
    keys: dict[str, Any],
    source: str,
    overridden: Sequence[tuple[str, ...]] = (),
    before: Callable[[], dict[str, Any]] = dict,
) -> "Recipe":
    """The recipe of these nested keys.

    Raises RecipeError with one line that names `source`, or the command line where a key of
    `overridden` is what is wrong, or where the keys `before` the overrides break no such rule.
    """
    try:
        _refuse_zero_bytes(keys)
        return kind.model_validate(keys)
    except ValidationError as error:
        # Unknown keys first: a misspelt key is also a missing one, and the spelling is the cause.
        found = sorted(
            error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden"
        )
        place = tuple(str(part) for part in found[0]["loc"])
        given = any(all(a == b for a, b in zip(place, parts, strict=False)) for parts in overridden)
        missing = [".".join(map(str, e["loc"])) for e in found if e["type"] == "missing"]
        if found[0]["type"] == "missing" and missing[1:]:
            line = f"{', '.join(missing)}: are missing; give each a value"
        else:
            line = _explain(kind, dict(found[0]), place)
        raise RecipeError(f"{_COMMAND_LINE if given else source}: {line}") from error
    except RecipeError as error:
        given = bool(overridden) and _broken_rule(kind, before) != str(error)
        raise RecipeError(f"{_COMMAND_LINE if given else source}: {error}") from error


def _refuse_zero_bytes(value: Any, name: str = "") -> None:
    """Raise RecipeError where a text holds a zero byte, which no path and no tokenizer takes."""
    if isinstance(value, str) and "\0" in value:
        raise RecipeError(f"{name}: {_shown(value)} holds a zero byte; leave it out")
    if isinstance(value, dict):
        for key, held in value.items():
            _refuse_zero_bytes(held, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for number, held in enumerate(value):
            _refuse_zero_bytes(held, f"{name}.{number}")


_COMMAND_LINE = "command line"


def _broken_rule(kind: "type[Recipe]", keys: Callable[[], dict[str, Any]]) -> str | None:
    """The first rule between keys that these break, in its own words; None where none is."""
    try:
        kind.model_validate(keys())
    except ValidationError:
        return None
    except RecipeError as error:
        return str(error)
    return None


_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "dict_type": "a section of keys",
}


def _explain(kind: type[BaseModel], error: dict[str, Any], place: tuple[str, ...]) -> str:
    name = ".".join(place)
    if error["type"] == "extra_forbidden":
        return f"unknown key {name}; {nearest(kind, place)}"
    if error["type"] == "missing":
        return f"{name}: is missing; give it a value"
    if error["type"] == "literal_error":
        wanted = f"one of {error['ctx']['expected']}"
    elif error["type"] in _WANTED:
        wanted = _WANTED[error["type"]]
    else:
        wanted = error["msg"].replace("Input should be ", "a value ")
    return f"{name}: {_shown(error['input'])} is not allowed; give {wanted}"


def nearest(kind: type[BaseModel], place: tuple[str, ...]) -> str:
    """The key that was probably meant.

    One like it in the same section, else one of that very name; the other way round for a key
    outside any section.
    """
    *section, wrong = place
    names = list(_dotted(kind))
    prefix = "".join(f"{part}." for part in section)
    siblings = [n for n in names if n.startswith(prefix) and "." not in n[len(prefix) :]]
    near = close_name(prefix + wrong, siblings)
    same = next((n for n in names if n.rpartition(".")[2] == wrong), None)
    close = near or same if section else same or near
    close = close or close_name(".".join(place), names)
    if close:
        return f"did you mean {close}?"
    return f"allowed are {', '.join(n[len(prefix) :] for n in siblings) or ', '.join(names)}"


def close_name(wrong: str, names: Iterable[str]) -> str | None:
    """The one of `names` that was probably meant by `wrong`; None where none is like it.

    Capitals do not matter, as for whoever writes `PERPLEXITY`.
    """
    spelled = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(wrong.casefold(), list(spelled), n=1, cutoff=0.6)
    return spelled[near[0]] if near else None


def _dotted(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield prefix + name
        for section in (field.annotation, *get_args(field.annotation)):
            if isinstance(section, type) and issubclass(section, BaseModel):
                yield from _dotted(section, f"{prefix}{name}.")


def _kind(value: object) -> str:
    if value is None:
        return "an empty file"
    return "a list" if isinstance(value, list) else f"the {type(value).__name__} {value!r}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
