"""What several verbs take: parameters with their help, and how words become their values.

typer passes defaults through the same functions as words: each takes both.
"""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.errors import RecipeError

if TYPE_CHECKING:
    from trainer.recipe import Recipe


def positive(word: str | int) -> int:
    """A whole number from 1."""
    return _whole(word, 1)


def count(word: str | int) -> int:
    """A whole number from 0."""
    return _whole(word, 0)


def seed(word: str | int) -> int:
    """A whole number from 0, below 2^63."""
    number = _whole(word, 0)
    if number >= 2**63:
        raise typer.BadParameter(f"{word!r} is too large a seed: give one below 2^63")
    return number


def number(word: str | float) -> float:
    """A number."""
    try:
        return float(word)
    except ValueError:
        raise typer.BadParameter(f"{word!r} is not a number") from None


def finite(word: str | float) -> float:
    """A number that is neither NaN nor infinite."""
    value = number(word)
    if not math.isfinite(value):
        raise typer.BadParameter(f"{word!r} is not a finite number")
    return value


def above_zero(word: str | float) -> float:
    """A finite number above 0."""
    value = finite(word)
    if value <= 0:
        raise typer.BadParameter(f"{word!r} is not a number above 0")
    return value


def tolerance(word: str | float) -> float:
    """A number from 0."""
    value = number(word)
    if not 0 <= value < math.inf:
        raise typer.BadParameter(f"{word!r} is not a number from 0")
    return value


def byte_count(word: str | float) -> float:
    """A number of bytes, as 1e12."""
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 1 <= number < 1e21:
        raise typer.BadParameter(f"{word!r} is not a number of bytes, as 1e12")
    return number


def path(word: str | Path) -> Path:
    """A path that a verb needs; refused where the word is empty: it would be this directory."""
    if not str(word):
        raise typer.BadParameter("it is empty; give a path")
    return Path(word)


def model(word: str | Path) -> Path:
    """A folder here, or a model's name on the hub; what begins with ./ can only be the former."""
    if str(word).startswith("./") and not Path(word).exists():
        raise typer.BadParameter(f"{word!r}: there is no such file or folder")
    return path(word)


def recipe_name(word: str) -> str:
    """A recipe's file or name: not empty, and no key, which stands behind the recipe."""
    if not word:
        raise typer.BadParameter("it is empty; give a YAML file, or the name of a shipped recipe")
    if re.match(r"[\w.]+=", word) and not Path(word).is_file():
        raise typer.BadParameter(f"{word!r} is a key with its value: name the recipe before it")
    return word


def file(word: str | Path) -> Path | None:
    """A path; none where the word is empty, as an unset shell variable leaves it."""
    return Path(word) if word else None


def figures_file(word: str | Path) -> Path | None:
    """A path as `file` takes it, of a verb whose table goes to standard output."""
    if str(word) == "-":
        raise typer.BadParameter("'-': standard output has the table; name a file")
    return file(word)


def _whole(word: str | int, least: int) -> int:
    text = str(word)
    number = int(text) if text.isdecimal() else -1
    if number < least:
        raise typer.BadParameter(f"{word!r} is not a whole number from {least}")
    return number


RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", parser=recipe_name, help="YAML file, or the name of a shipped recipe."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Replaces a key, as in model.layers=8."),
]
Checkpoint = Annotated[
    Path,
    typer.Argument(metavar="CHECKPOINT", parser=path, help="Checkpoint folder, or run directory."),
]
READ_MODEL = typer.Argument(
    metavar="CHECKPOINT",
    parser=path,
    help="Checkpoint folder, run directory, Hugging Face folder or GGUF file.",
)
ReadModel = Annotated[Path, READ_MODEL]
READ_MODELS = typer.Argument(
    metavar="CHECKPOINT ...",
    parser=path,
    help="Two or more checkpoint folders, run directories, Hugging Face folders or GGUF files.",
)
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", parser=path, help="Run directory.")]
Corpus = Annotated[Path, typer.Argument(metavar="DIR", parser=path, help="Corpus folder.")]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", parser=figures_file, help="Write the figures here."),
]
RankCount = Annotated[
    int | None,
    typer.Option("--nproc", metavar="N", parser=positive, help="Local ranks to start."),
]


def recipe_of(name: str, overrides: list[str] | None) -> "Recipe":
    """The recipe called `name`, a file or a shipped one, with its overrides."""
    from launch.local import find_recipe
    from trainer.recipe import load_recipe

    return load_recipe(find_recipe(name), overrides or [])


def give_json(file: Path, text: str) -> None:
    """Write JSON to `file`, or print it where that is "-"; raises RecipeError where it can't."""
    if str(file) == "-":
        print(text)
        return
    try:
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"--json {file}: cannot be written: {error.strerror}") from error
