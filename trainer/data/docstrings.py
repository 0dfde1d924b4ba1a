"""The embedded corpus: docstrings read with `ast`, one document each; no module is imported."""

import ast
import gc
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from trainer.data.documents import Document, Ledger, is_unicode
from trainer.data.packages import TOPICS, SourceFile
from trainer.errors import DataError

CHUNK_BYTES = 400_000
LONGEST_DEFAULT = 40
LONGEST_SIGNATURE = 400

Function = ast.FunctionDef | ast.AsyncFunctionDef
Described = ast.Module | ast.ClassDef | Function


def read_docstrings(
    files: list[SourceFile],
    minimum_characters: int,
    workers: int | None,
    ledger: Ledger,
    advance: Callable[[int], None] = lambda size: None,
) -> Iterator[Document]:
    """The documents of these files in their order, whatever the number of `workers` (None: every
    core).

    `advance` is told the bytes of source read. Files that are not UTF-8 or do not parse are skipped
    and counted; of a name defined twice the first is kept.
    """
    seen: set[str] = set()
    for size, documents, found in _parse_all(_chunks(files), minimum_characters, workers):
        ledger.absorb(found)
        for document in documents:
            if document.id in seen:
                ledger.drop("repeated name", id=document.id)
                continue
            seen.add(document.id)
            yield document
        advance(size)


def parse_file(file: SourceFile, minimum_characters: int, ledger: Ledger) -> list[Document]:
    """The documents of one file."""
    ledger.files[file.package] += 1
    try:
        with open(file.path, "rb") as opened:
            data = opened.read()
        data.decode("utf-8")
    except UnicodeDecodeError:
        ledger.drop("file not UTF-8", id=file.module)
        return []
    except OSError as error:
        raise DataError(f"cannot read {file.path}: {error.strerror or error}") from None
    try:
        tree = ast.parse(data)
        found = _topics(tree) if file.package == TOPICS else list(_docstrings(tree, file.module))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        ledger.drop("file with a syntax error", id=file.module)
        return []
    documents = []
    for name, heading, body in found:
        ledger.read[file.package] += 1
        if len(body) < max(minimum_characters, 1):
            ledger.drop("too short", id=name, characters=len(body))
        elif not is_unicode(heading + body):
            ledger.drop("not Unicode", id=name)
        else:
            documents.append(Document(name, file.package, heading + body, len(heading)))
    return documents


def _docstrings(tree: ast.Module, module: str) -> Iterator[tuple[str, str, str]]:
    """(qualified name, heading, body) of the module, its classes, functions and methods.

    A function inside a function is left out: no dotted path leads to it.
    """
    for name, node in [(module, tree), *_definitions(tree.body, module)]:
        body = ast.get_docstring(node)
        if body:
            signature = ""
            if isinstance(node, Function):
                signature = _signature(node)
            yield name, f"{name}{signature}\n\n", body


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Described]]:
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


def _signature(node: Function) -> str:
    """The parameters as a caller sees them: no annotations, no self or cls, long defaults as
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
    """The language reference of `help()`: the literal `topics = {label: text}` of pydoc_data."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            return [
                (f"pydoc_data.topics.{label}", "", text.strip()) for label, text in topics.items()
            ]
    return []


Chunk = list[SourceFile]
Parsed = tuple[int, list[Document], Ledger]


def _chunks(files: list[SourceFile]) -> list[Chunk]:
    chunks: list[Chunk] = []
    size = CHUNK_BYTES
    for file in files:
        if size >= CHUNK_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(file)
        size += file.bytes
    return chunks


def _parse_chunk(chunk: Chunk, minimum_characters: int) -> Parsed:
    ledger = Ledger()
    documents = []
    # A syntax tree has no cycles, and the collector's walks over it take a third of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for file in chunk:
                documents.extend(parse_file(file, minimum_characters, ledger))
    finally:
        if collecting:
            gc.enable()
    return sum(file.bytes for file in chunk), documents, ledger


def _parse_all(
    chunks: list[Chunk], minimum_characters: int, workers: int | None
) -> Iterator[Parsed]:
    count = min(workers or len(os.sched_getaffinity(0)), len(chunks))
    if count <= 1:
        for chunk in chunks:
            yield _parse_chunk(chunk, minimum_characters)
        return
    # Worker w has chunks w, w + count, ... and a pipe of its own: results come in order, and a
    # worker whose parent was killed fails at its next send, where a pool's would wait for ever.
    context = multiprocessing.get_context("spawn")
    pipes = []
    processes = []
    try:
        for worker in range(count):
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(
                target=_work,
                args=(chunks[worker::count], minimum_characters, sending),
                daemon=True,
            )
            process.start()
            sending.close()
            pipes.append(receiving)
            processes.append(process)
        for index in range(len(chunks)):
            try:
                parsed = pipes[index % count].recv()
            except EOFError:
                raise DataError("a process that reads docstrings died: run it again") from None
            if isinstance(parsed, DataError):
                raise parsed
            yield parsed
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(chunks: list[Chunk], minimum_characters: int, sending: Connection) -> None:
    # CTRL-C reaches the whole terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for chunk in chunks:
            sending.send(_parse_chunk(chunk, minimum_characters))
    except DataError as error:
        sending.send(error)
    except BrokenPipeError:
        return
