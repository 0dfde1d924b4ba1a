"""The docstrings of Python files as documents, read with `ast`; no module is imported."""

import ast
import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trainer.collector import without_collector
from trainer.corpus.build.staged import Staged
from trainer.corpus.reading.unicode import unicode_fault
from trainer.demo.packages import TOPICS, SourceFile
from trainer.errors import DataError

LONGEST_DEFAULT = 40
LONGEST_SIGNATURE = 400


@dataclass(frozen=True)
class LeftOut:
    """A file or docstring that was left out, and why: a row for the audit of a corpus.

    `document`: its qualified name; `source`: its package; `sha256`, `bytes`: of its text.
    """

    document: str
    source: str
    reason: str
    sha256: str
    bytes: int


FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DocumentedNode = ast.Module | ast.ClassDef | FunctionNode


def read_docstrings(
    files: Iterable[SourceFile], left_out: list[LeftOut] | None = None
) -> Iterator[Staged]:
    """The docstrings of these files in order, with the qualified name and signature as heading.

    Files that are not UTF-8 or do not parse are left out, as are repeated definitions of a name; a
    row for each is appended to `left_out`. Raises DataError for a file that cannot be read.
    """
    left_out = [] if left_out is None else left_out
    for file in files:
        with without_collector():
            documents = list(_parse_file(file, left_out))
        yield from documents


def _parse_file(file: SourceFile, left_out: list[LeftOut]) -> Iterator[Staged]:
    try:
        with open(file.path, "rb") as opened:
            data = opened.read()
        data.decode("utf-8")
    except UnicodeDecodeError:
        left_out.append(_row(file, file.module, "file not UTF-8", ""))
        return
    except OSError as error:
        raise DataError(f"cannot read {file.path}: {error.strerror or error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
        found = _topics(tree) if file.package == TOPICS else list(_docstrings(tree, file.module))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        left_out.append(_row(file, file.module, "file with a syntax error", ""))
        return
    seen: set[str] = set()
    for name, heading, body in found:
        if name in seen:
            left_out.append(_row(file, name, "repeated name", body))
        elif unicode_fault(heading + body) is not None:
            left_out.append(_row(file, name, "not Unicode", body))
        else:
            seen.add(name)
            yield Staged(name, file.package, heading, body, file.package)


def _row(file: SourceFile, name: str, reason: str, text: str) -> LeftOut:
    shown, data = name.encode("utf-8", "replace").decode(), text.encode("utf-8", "surrogatepass")
    return LeftOut(shown, file.package, reason, hashlib.sha256(data).hexdigest(), len(data))


def _docstrings(tree: ast.Module, module: str) -> Iterator[tuple[str, str, str]]:
    """(qualified name, heading, body) of the module, its classes, functions and methods.

    Functions inside functions are left out, because they have no dotted path.
    """
    for name, node in [(module, tree), *_definitions(tree.body, module)]:
        body = ast.get_docstring(node)
        if body:
            signature = ""
            if isinstance(node, FunctionNode):
                signature = _signature(node)
            yield name, f"{name}{signature}\n\n", body


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, DocumentedNode]]:
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{prefix}.{node.name}"
            yield name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, name)
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            # Definitions for one platform or version stand below such statements.
            yield from _definitions(node.body, prefix)
            for handler in getattr(node, "handlers", ()):
                yield from _definitions(handler.body, prefix)
            yield from _definitions(getattr(node, "orelse", []), prefix)
            yield from _definitions(getattr(node, "finalbody", []), prefix)


def _signature(node: FunctionNode) -> str:
    """The parameters as a caller sees them: without annotations, self and cls; long defaults as
    `...`.
    """
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    parameters = []
    for index, (argument, default) in enumerate(zip(positional, defaults, strict=True)):
        if index or argument.arg not in ("self", "cls"):
            parameters.append(_parameter(argument, default))
        if index + 1 == len(given.posonlyargs) and parameters:
            parameters.append("/")
    if given.vararg:
        parameters.append(f"*{given.vararg.arg}")
    elif given.kwonlyargs:
        parameters.append("*")
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        parameters.append(_parameter(argument, default))
    if given.kwarg:
        parameters.append(f"**{given.kwarg.arg}")
    signature = f"({', '.join(parameters)})"
    return signature if len(signature) <= LONGEST_SIGNATURE else "(...)"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return argument.arg
    value = ast.unparse(default)
    if len(value) > LONGEST_DEFAULT or "\n" in value:
        value = "..."
    return f"{argument.arg}={value}"


def _topics(tree: ast.Module) -> list[tuple[str, str, str]]:
    """The texts of `help()`: the literal `topics = {label: text}` of pydoc_data."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            return [
                (f"pydoc_data.topics.{label}", "", text.strip()) for label, text in topics.items()
            ]
    return []
