"""`lyceum recipe`: what it says of a key is what the recipe does with it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from trainer.cli import main
from trainer.errors import RecipeError
from trainer.recipe import Recipe
from trainer.recipe.documentation import RecipeKey, all_keys, find_keys
from trainer.recipe.section import Section

KEYS = {key.name.replace("[]", ""): key for key in all_keys()}


def fields(section: type[Section] = Recipe, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of the recipe's models, by its dotted name."""
    for name, field in section.model_fields.items():
        yield prefix + name, field
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from fields(kind, f"{prefix}{name}.")


FIELDS = dict(fields())


def test_every_key_stands_once_in_the_recipes_order() -> None:
    """Catches a section that the walk does not enter, such as the items of a list."""
    assert len(FIELDS) > 200
    assert [key.name.replace("[]", "") for key in all_keys()] == list(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_a_key_is_printed_with_its_own_type_default_and_text(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a default or a docstring of another key, or one that is left out."""
    field, key = FIELDS[name], KEYS[name]
    assert main(["recipe", name]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith(f"{key.name}: {key.kind.words} ({key.default_text})")
    assert key.text in printed
    documented = " ".join(field.description.split()).rstrip(".")
    assert documented in key.text
    assert key.required == field.is_required()
    if not key.required:
        default = field.get_default(call_default_factory=True)
        dumped = default.model_dump(mode="json") if isinstance(default, Section) else default
        assert json.loads(json.dumps(dumped)) == key.default


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.kind.bounds])
def test_bounds_are_those_that_are_held(name: str) -> None:
    """Catches bounds read from another key, or turned round: values beside each are tried."""
    field, bounds = FIELDS[name], KEYS[name].kind.bounds
    if not any(word in KEYS[name].kind.words.split(" ")[0] for word in ("number", "whole")):
        return  # Of a list or a section, the bounds hold for what is in it.
    check = TypeAdapter(Annotated[field.annotation, Field(), *field.metadata])
    whole = KEYS[name].kind.words.startswith("whole")
    small = 1 if whole else 1e-9
    inside = {"gt": small, "ge": 0, "lt": -small, "le": 0}
    outside = {"gt": 0, "ge": -small, "lt": 0, "le": small}
    for sign, limit in bounds.items():
        number = int if whole else float
        check.validate_python(number(limit + inside[sign]))
        with pytest.raises(ValidationError):
            check.validate_python(number(limit + outside[sign]))


@pytest.mark.parametrize(
    ("name", "words", "default"),
    [
        ("steps", "whole number above 0", "required"),
        ("seed", "whole number from 0", "default 1234"),
        ("precision", "one of fp32, bf16", "default fp32"),
        ("tokenizer", "text or null", "default null"),
        ("recompute", "text or list of texts", "default none"),
        ("model", "section", "required"),
        ("model.kv_heads", "whole number above 0, or null", "default null"),
        ("model.rope_scaling", "section or null", "default null"),
        ("schedule", "section", "default: its keys' defaults"),
        ("optimizer.betas", "list of 2 numbers from 0 below 1", "default [0.9, 0.95]"),
        ("optimizer.decay_norms", "true or false", "default false"),
        ("zero.stage", "whole number from 0 to 3", "default 1"),
        ("data.mixture", "list of sections", "default []"),
        ("data.curriculum.weights", "section of names, to each a number from 0", "required"),
        ("corpus.rules", "section or null", "default: its keys' defaults"),
        ("corpus.near_duplicates", "number above 0 to 1, or null", "default 0.8"),
        ("corpus.slurm.arguments", "section of names, to each a text", "default {}"),
        ("profile.steps", "list of 2 whole numbers above 0, or null", "default null"),
    ],
)
def test_every_form_of_type_is_said_in_words(name: str, words: str, default: str) -> None:
    """Catches Python's own names of types, and bounds lost in a union or a list."""
    assert (KEYS[name].kind.words, KEYS[name].default_text) == (words, default)


def names(keys: list[RecipeKey]) -> list[str]:
    """The names of these keys."""
    return [key.name for key in keys]


@pytest.mark.parametrize(
    "name", ["data.mixture[].weight", "data.mixture.0.weight", "data.mixture.weight"]
)
def test_a_lists_item_is_found_however_it_is_written(name: str) -> None:
    """Catches a name refused that an error message has shown."""
    assert names(find_keys(name)) == ["data.mixture[].weight"]


def test_a_section_is_given_with_all_that_is_in_it() -> None:
    """Catches keys of a section below it lost, and those of another that begins alike."""
    found = names(find_keys("corpus.rules.quality"))
    assert found[0] == "corpus.rules.quality"
    assert "corpus.rules.quality.c4.policy" in found
    assert all(name.startswith("corpus.rules.quality") for name in found)
    assert names(find_keys("data"))[0] == "data"
    assert "device" not in names(find_keys("data"))


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("lr", "optimizer.lr"),
        ("optimiser", "optimizer"),
        ("model.layer", "model.layers"),
        ("data.mixture[].wieght", "data.mixture.weight"),
        ("batch.zzzzqqq", "sequences, micro"),
        ("", "stage"),
    ],
)
def test_an_unknown_key_names_the_nearest(
    wrong: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an empty answer to a misspelt key."""
    with pytest.raises(RecipeError, match=meant):
        find_keys(wrong)
    assert main(["recipe", wrong]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert meant in shown.err


def test_all_keys_fit_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches lines that a terminal breaks, and padding that a file keeps."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["recipe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert sum(not line.startswith(" ") for line in lines if line) == len(KEYS)


def test_json_goes_to_a_file_or_to_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches JSON mixed with the text, or a file that cannot be written ending in a trace."""
    assert main(["recipe", "zero", "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [key["key"] for key in printed] == ["zero", "zero.stage", "zero.offload"]
    assert printed[1]["bounds"] == {"ge": 0, "le": 3}
    assert printed[2]["choices"] == ["none", "optimizer"]
    path = tmp_path / "keys.json"
    assert main(["recipe", "zero", "--json", str(path)]) == 0
    assert capsys.readouterr().out.startswith("zero: section")
    assert json.loads(path.read_text()) == printed
    assert main(["recipe", "zero", "--json", str(tmp_path / "none" / "keys.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
