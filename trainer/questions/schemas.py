"""Verifier `json_schema`: the text is JSON that a JSON Schema allows.

A fenced block may be around the JSON, and nothing else. `$ref` leads to the schema's own parts
alone: nothing is fetched. A `pattern` is matched as verifier `regex` matches, within a time.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import regex
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from trainer.errors import DataError
from trainer.questions.patterns import SECONDS, compiled
from trainer.questions.question import Question
from trainer.questions.verdict import Verdict

_FENCED = re.compile(r"```[\w-]*[ \t]*\n(?P<inside>.*)```", re.DOTALL)
_TRIALS: tuple[Any, ...] = ({}, [], "", 0, None, True)
"""One instance of each kind: a schema that fails on one, not refuses it, is none."""


def verify_json_schema(question: Question, text: str) -> Verdict:
    """Whether the text is JSON that the schema allows."""
    try:
        held = _loaded(text)
    except (ValueError, RecursionError) as error:
        return Verdict("wrong", f"is no JSON: {error}")
    validator = _validator(json.dumps(question.options["schema"], sort_keys=True))
    try:
        fault = next(iter(validator.iter_errors(held)), None)
    except (RecursionError, OverflowError) as error:  # nested without end, or 1e999
        return Verdict("wrong", f"cannot be held against the schema: {error}")
    if fault is None:
        return Verdict("right", "is JSON that the schema allows")
    return Verdict("wrong", f"{fault.json_path}: {fault.message[:200]}")


def is_a_plain_value(text: str) -> bool:
    """Whether the text is null, true, false or a number: no words, and so none that decline."""
    try:
        held = _loaded(text)
    except (ValueError, RecursionError):
        return False
    return held is None or isinstance(held, bool | int | float)


def check_json_schema(question: Question) -> None:
    """Raise DataError where there is no schema, or it is none that can be used."""
    schema = question.options.get("schema")
    if not isinstance(schema, Mapping):
        raise DataError(
            f'{question.named}: verifier json_schema needs "schema", an object: give it, or set'
            " another verifier"
        )
    for name, held in _members(schema):
        if name == "patternProperties":
            raise DataError(
                f"{question.named}: the schema's patternProperties cannot be matched within a time:"
                " name its properties"
            )
        if name == "pattern" and isinstance(held, str):
            _check_pattern(question, held)
    try:
        validator_for(schema, Draft202012Validator).check_schema(schema)
        validator = _validator(json.dumps(schema, sort_keys=True))
        for trial in _TRIALS:
            validator.is_valid(trial)
    except SchemaError as error:
        raise DataError(f"{question.named}: the schema is none: {error.message}") from None
    except (Unresolvable, RecursionError) as error:
        what = "refers to itself without end" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{question.named}: the schema cannot be used: {what}") from None
    for name, held in _members(schema):
        if name == "$ref" and isinstance(held, str):
            _check_reference(question, schema, held)


@lru_cache(maxsize=512)
def _validator(schema: str) -> Any:
    """The validator of a schema, as JSON; its patterns bounded, nothing fetched."""
    held = json.loads(schema)
    kind = extend(validator_for(held, Draft202012Validator), {"pattern": _bounded_pattern})
    return kind(held, registry=Registry())


def _bounded_pattern(
    validator: Any, pattern: str, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "string"):
        return
    try:
        if not compiled(pattern).search(instance, timeout=SECONDS):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")
    except TimeoutError:
        yield ValidationError(f"{pattern!r} ran for more than {SECONDS:g} s")


def _check_pattern(question: Question, pattern: str) -> None:
    try:
        compiled(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise DataError(
            f"{question.named}: the schema's pattern {pattern!r} is none: {error}"
        ) from None


def _check_reference(question: Question, schema: Mapping[str, Any], reference: str) -> None:
    """Raise DataError for a reference to anything but a part of this schema."""
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    try:
        Registry().with_resource("", resource).resolver().lookup(reference)
    except Unresolvable:
        raise DataError(
            f"{question.named}: the schema's $ref {reference!r} is no part of it, and nothing is"
            " fetched: put what it names into the schema's $defs"
        ) from None


def _members(held: Any) -> Iterator[tuple[str, Any]]:
    """Every member of an object, and of those within."""
    if isinstance(held, Mapping):
        for name, inside in held.items():
            yield name, inside
            yield from _members(inside)
    elif isinstance(held, list):
        for inside in held:
            yield from _members(inside)


def _loaded(text: str) -> Any:
    """The JSON of a text, or of the fenced block that it is; raises ValueError, RecursionError."""
    fenced = _FENCED.fullmatch(text.strip())
    inside = fenced["inside"] if fenced else text
    return json.loads(inside, parse_constant=_no_constant, object_pairs_hook=_without_doubles)


def _without_doubles(members: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(members)
    if len(held) < len(members):
        name = next(name for name, count in Counter(key for key, _ in members).items() if count > 1)
        raise ValueError(f"the name {name!r} stands twice in one object")
    return held


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
