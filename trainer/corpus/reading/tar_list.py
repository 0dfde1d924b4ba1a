"""The tars of a WebDataset: one string that lists them as WebDataset does, or an energon folder."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from braceexpand import braceexpand

from trainer.addresses import TAR, without_secrets
from trainer.corpus.reading.files import InputFile, find_files
from trainer.corpus.reading.hub_tars import hub_tars
from trainer.corpus.reading.remote import SCHEMES, Transient, Unreachable, scheme_of
from trainer.corpus.reading.unicode import unicode_fault
from trainer.data.remote.location import place
from trainer.data.remote.transfer import Attempts
from trainer.errors import DataError
from trainer.hub.names import is_address
from trainer.recipe.data import RemoteSection

log = logging.getLogger(__name__)

LISTED_AT_ONCE = 16
"""Remote files asked for their size at the same time."""
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_COMMAND = re.compile(r"pipe:", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+:", re.IGNORECASE)


def names_tars(source: str) -> bool:
    """Whether a string lists tars, by the names' ends; a query behind a URL's `?` plays no part."""
    return any(
        TAR.search(name.partition("?")[0] if scheme_of(name) in ("http", "https", "hf") else name)
        or TAR.search(name)
        for part in source.split("::")
        for name in _braces(part)
    )


def expanded(source: str, key: str) -> list[str]:
    """The names that a WebDataset string lists: `::` between lists, `{000..999}` and `{a,b}` inside
    them, `${NAME}` for the environment's WDS_NAME; `file:` is taken off a local one.

    Raises DataError, beginning with `key`, for braces that do not close, for a variable that is not
    set, and for what WebDataset would run as a command or fetch by a program of its own.
    """
    names = []
    for part in source.split("::"):
        try:
            names += list(braceexpand(_with_variables(part, key)))
        except ValueError:
            raise DataError(f"{key}: {part}: its braces do not close: mend them") from None
    return [_local_name(name, key) for name in names]


def list_tars(
    sources: Iterable[str], key: str, remote: RemoteSection | None = None
) -> list[InputFile]:
    """The tars that strings or globs list, in their order, each once, the string as `pattern`.

    Raises DataError, beginning with `key`, as `expanded` does, and for a tar that is missing.
    """
    names = [(name, source) for source in sources for name in expanded(source, key)]
    remote = remote or RemoteSection()
    asked = _asked([name for name, _ in names if scheme_of(name)], key, remote)
    found: dict[str, InputFile] = {}
    missing: list[str] = []
    twice = 0
    for name, source in names:
        files = asked[name] if name in asked else _found(name, remote, key)
        if isinstance(files, DataError):
            said = str(files).removeprefix(f"{key}: ").replace(name, without_secrets(name))
            raise type(files)(f"{key}: {said}") from None
        if not files:
            missing.append(without_secrets(name))
        for file in files:
            if unicode_fault(file.path):
                raise DataError(f"{key}: {file.path!r}: its name is not Unicode: rename it")
            local = file.path if scheme_of(file.path) else os.path.realpath(file.path)
            identity = file.copy_of or local
            twice += identity in found
            found.setdefault(identity, replace(file, pattern=without_secrets(source)))
    if twice:
        log.warning(
            "%s: %s tars are listed twice, and read once: give `weight` for more", key, twice
        )
    if missing:
        others = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise DataError(
            f"{key}: {missing[0]} is missing{others}, of {len(names):,} that are listed: bring it,"
            " or mend the list"
        )
    return list(found.values())


def _asked(
    names: list[str], key: str, remote: RemoteSection
) -> dict[str, list[InputFile] | DataError]:
    """The files of each remote name or glob, or why there are none."""
    asked: dict[str, list[InputFile] | DataError] = {}
    try:
        asked |= hub_tars([name for name in names if is_address(name)])
    except DataError as error:
        raise DataError(f"{key}: {error}") from None
    others = [name for name in names if name not in asked]
    silent: list[DataError] = []

    def ask(name: str) -> list[InputFile] | DataError:
        if silent:  # a thousand others need not wait for the same server
            return silent[0]
        answer = _found(name, remote, key)
        if isinstance(answer, Transient | Unreachable):
            silent.append(answer)
        return answer

    with ThreadPoolExecutor(LISTED_AT_ONCE) as threads:
        return asked | dict(zip(others, threads.map(ask, others), strict=True))


def _found(name: str, remote: RemoteSection, key: str) -> list[InputFile] | DataError:
    """The files of a name or glob; an error is returned, to be raised in the list's order.

    Of a thousand requests one fails now and then: it is made as often as a transfer is.
    """
    failures = 0
    while True:
        try:
            return sorted(find_files(name, remote.access, key))
        except Transient as error:
            failures += 1
            if failures >= remote.attempts:
                return error
            log.info("%s; trying again", str(error).replace(name, without_secrets(name)))
            Attempts(remote).pause(failures, 0.0)
        except DataError as error:
            return error


def _braces(part: str) -> Iterator[str]:
    try:
        yield from braceexpand(part)
    except ValueError:
        yield part


def _with_variables(part: str, key: str) -> str:
    def value(found: re.Match[str]) -> str:
        name = f"WDS_{found[1]}"
        if name not in os.environ:
            raise DataError(f"{key}: {part} asks for the variable {name}, which is not set: set it")
        return os.environ[name]

    for _ in range(10):  # as often as WebDataset does: a value may name another variable
        before, part = part, _VARIABLE.sub(value, part)
        if part == before:
            break
    return part


def _local_name(name: str, key: str) -> str:
    if _COMMAND.match(name):
        raise DataError(
            f"{key}: {name} would run a command, which a recipe may not: name files, s3:// or"
            " https:// addresses"
        )
    if name.startswith("file:"):
        return re.sub("^file:(//(localhost(?=/))?)?", "", name)
    if is_address(name):
        return name
    if _OTHER_SCHEME.match(name) and scheme_of(name) not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise DataError(f"{key}: {name} is not read: use a local path, {known}")
    if scheme_of(name):
        try:
            place(name)
        except DataError as error:
            raise DataError(f"{key}: {error}") from None
    return name
