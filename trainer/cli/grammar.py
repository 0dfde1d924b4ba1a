"""How the words of a command are read: typer's parsing, with errors of one line and their mend."""

import difflib
import importlib.metadata
import importlib.util
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from trainer.errors import ClusterError, RecipeError

Context = Any  # typer's base class of contexts is private


class Verb(TyperCommand):
    """One verb: `@verbs.command(cls=Verb)` on a typed function makes it.

    The function returns its exit code, or None for 0; its docstring is the help. Beyond typer:
    options and positional words may come in any order, an option whose metavar ends in `...` takes
    all values up to the next option, the unique beginning of an option stands for it, and a word
    that begins with "-" is no option's value, unless it is a number, holds a space, or stands
    behind "=".
    """

    def get_params(self, ctx: Context) -> list[Any]:
        """The verb's own parameters, and --debug."""
        whole = [param for param in ctx.find_root().command.params if param.name == "debug"]
        return [*super().get_params(ctx), *whole]

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the words behind the verb; raises RecipeError with one line."""
        with _one_line(ctx):
            return super().parse_args(ctx, _in_order(_options(self, ctx), args))

    def invoke(self, ctx: Context) -> Any:
        """Run the verb, where this environment can run any."""
        refuse_foreign_kernels()
        refuse_unknown_kernels()
        return super().invoke(ctx)


class Verbs(TyperGroup):
    """A group of verbs: `lyceum` itself, or one such as `lyceum corpus`."""

    def get_params(self, ctx: Context) -> list[Any]:
        """The group's own parameters, and --debug."""
        root = ctx.find_root().command
        whole = [] if root is self else [param for param in root.params if param.name == "debug"]
        return [*super().get_params(ctx), *whole]

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the options before the verb; raises RecipeError with one line."""
        options = _options(self, ctx)
        with _one_line(ctx):
            count = next((n for n, word in enumerate(args) if not word.startswith("-")), len(args))
            flags = [_known(options, word) for word in args[:count]]
            rest = super().parse_args(ctx, [*flags, *args[count:]])
            if count == len(args):
                raise RecipeError(f"a verb is missing, one of {', '.join(self.commands)}")
            return rest

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The verb's name, the verb, and the words behind it; raises RecipeError for another."""
        with _one_line(ctx):
            if args[0] not in self.commands:
                near = [f"{ctx.command_path} {name}" for name in self._like(args[0])]
                meant = f"did you mean {' or '.join(near)}?" if near else ", ".join(self.commands)
                raise RecipeError(f"unknown verb {args[0]!r}: {meant}")
        return super().resolve_command(ctx, args)

    def _like(self, word: str) -> list[str]:
        """The verbs that `word` may mean, here or else in the groups below."""
        groups = {name: verb for name, verb in self.commands.items() if isinstance(verb, Verbs)}
        return difflib.get_close_matches(word.lower(), self.commands, n=1) or [
            f"{name} {verb}" for name, group in groups.items() for verb in group._like(word)
        ]


@contextmanager
def _one_line(ctx: Context) -> Iterator[None]:
    """Turn typer's complaints into RecipeError, and end each with where the right words stand."""
    try:
        yield
    except (typer.TyperException, RecipeError) as error:
        text = str(error) if isinstance(error, RecipeError) else error.format_message()
        # pydantic's word before the messages of others
        text = text.replace("Value error, ", "").rstrip(".")
        line = f"{text[:1].lower()}{text[1:]}; see {ctx.command_path} --help"
        raise RecipeError(line) from error


def _options(command: Verb | Verbs, ctx: Context) -> dict[str, TyperOption]:
    params = [param for param in command.get_params(ctx) if isinstance(param, TyperOption)]
    return {name: param for param in params for name in param.opts}


def _known(options: Mapping[str, TyperOption], word: str) -> str:
    """`word` with the option that it begins with written out; raises RecipeError for none."""
    name, equals, value = word.partition("=")
    if name not in options:
        longer = [option for option in options if name[2:] and option.startswith(name)]
        near = longer or difflib.get_close_matches(name, options, n=1)
        if len(longer) != 1:
            meant = f": did you mean {' or '.join(near)}?" if near else ""
            raise RecipeError(f"unknown option {name}{meant}")
        name = longer[0]
    return f"{name}{equals}{value}"


def _in_order(options: Mapping[str, TyperOption], words: Sequence[str]) -> list[str]:
    """The words as typer reads them: options with their values behind "=", "--", all others.

    Raises RecipeError for an unknown option, or one without a value.
    """
    ordered: list[str] = []
    others: list[str] = []
    left = deque(words)
    while left:
        word = left.popleft()
        if word == "--":
            others += left
            break
        if not _is_option(options, word):
            others.append(word)
            continue
        option = _known(options, word)
        name, equals, _ = option.partition("=")
        if equals or options[name].is_flag:
            ordered.append(option)
            continue
        if not left or left[0] == "--" or _is_option(options, left[0]):
            raise RecipeError(
                f"{name}: its value is missing (one that begins with '-': {name}=VALUE)"
            )
        ordered.append(f"{name}={left.popleft()}")
        several = (options[name].metavar or "").endswith("...")
        while several and left and left[0] != "--" and not _is_option(options, left[0]):
            ordered.append(f"{name}={left.popleft()}")
    return [*ordered, "--", *others]


def _is_option(options: Mapping[str, TyperOption], word: str) -> bool:
    """Whether a word is meant as an option; numbers and text with a space in it are not."""
    if word.partition("=")[0] in options:
        return True
    number = re.fullmatch(r"-(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", word)
    return word.startswith("-") and word != "-" and " " not in word and not number


def refuse_unknown_kernels() -> None:
    """Raise RecipeError unless LYCEUM_KERNELS, where it is set, names an implementation."""
    chosen = os.environ.get("LYCEUM_KERNELS", "")
    if chosen not in ("", "reference", "triton"):
        raise RecipeError(
            f"LYCEUM_KERNELS: {chosen!r} is unknown; use reference, triton, or leave it out"
        )


def refuse_foreign_kernels() -> None:
    """Raise ClusterError where Hugging Face's `kernels` package is installed beside ours.

    Both install a top-level package of that name: one has overwritten or hides the other.
    """
    mend = "use an environment without it, or `pip uninstall kernels` and install lyceum again"
    try:
        version = importlib.metadata.version("kernels")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        raise ClusterError(
            f"Hugging Face's kernels {version} is installed, and lyceum's own package has the same "
            f"name: {mend}"
        )
    ours = Path(__file__).resolve().parents[2] / "kernels" / "__init__.py"
    found = importlib.util.find_spec("kernels")
    if found is None or found.origin is None or Path(found.origin).resolve() != ours:
        where = found.origin if found else "nowhere"
        raise ClusterError(f"the package kernels is found at {where}, not at {ours}: {mend}")
