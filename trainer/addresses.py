"""Addresses without their secrets: as messages show them, files store them and runs compare them.

A secret is a user and password before the host, and what a query or fragment holds, such as a
signature or a token. Whatever this program prints or writes passes through here: what its errors
say (`LyceumError`), its log lines (`PlainFormatter`), and every address that it stores. A run goes
on with another secret, since none is part of what a run or a corpus is known by.
"""

import logging
import re
from typing import Any
from urllib.parse import parse_qsl, unquote

TAR = re.compile(r"\.(tar(\.(gz|bz2|xz|zst))?|tgz|tbz2?|txz)$", re.IGNORECASE)
"""The ends of the names of WebDataset's tars."""
REMOVED = "REDACTED"
"""Stands for the value of a parameter whose name has to stay."""

_HTTP = re.compile(r"https?:/", re.IGNORECASE)
# Behind a password that holds a slash the @ stands later than it may.
_USER = re.compile(
    r"(?P<scheme>\b(?:(?:https?|s3|hf|ftp):/{1,2}|[a-z][a-z0-9+.-]+://))"
    r"(?:[^\s/?#@\"'<>]*@(?:[^\s/?#@\"'<>]*@)*|[^\s/?#@:\"'<>]*:(?!\d+/)[^\s@?#\"'<>]*@)",
    re.IGNORECASE,
)
_IN_TEXT = re.compile(r"https?:/+(?:[^\s\"'<>]|'(?=\w))+", re.IGNORECASE)
_BEHIND = ".,:;!)]}"
"""What a sentence may put behind an address that is no part of it."""
_PARAMETER = re.compile(
    r"(?P<name>[?&;#](?:x-(?:amz|goog|ms|oss|cos)-[\w-]+|[\w.-]*(?:signature|token|secret|password|"
    r"passwd|credential|api[_-]?key|access[_-]?key|session)[\w-]*|sig|auth|authorization|pwd|jwt|"
    r"hmac|awsaccesskeyid|googleaccessid|policy|key-pair-id)=)[^\s&;#\"'<>]+",
    re.IGNORECASE,
)
_PLACES = {
    *("file", "filename", "name", "path", "set", "split", "part", "shard", "number", "id"),
    *("version", "versionid", "revision", "rev", "ref", "branch", "config", "dataset", "format"),
}
"""Parameters, beside one that names a tar, that say which file is meant."""


def without_secrets(source: str) -> str:
    """A path or URL, or several with `::` between them, without users, passwords and queries.

    The query of an http URL goes as a whole: a signature can have any name. One that alone names a
    tar, as `https://host/get?file=a.tar&token=x`, keeps what says which file is meant.
    """
    if ":/" not in source:
        return source
    return "::".join(map(_bare, _USER.sub(_without_user, source).split("::")))


def without_named_secrets(source: str) -> str:
    """A path or URL whose query stays, without users and passwords, and without the values of the
    parameters that are secret by their names.

    Tells files apart that only a query does, of a server that says nothing of their versions.
    """
    return _PARAMETER.sub(rf"\g<name>{REMOVED}", _USER.sub(_without_user, source))


def redacted(text: str) -> str:
    """A text with every address in it without its secrets, and no secret parameter's value."""
    if ":/" in text:
        text = _IN_TEXT.sub(lambda found: _within(found[0]), _USER.sub(_without_user, text))
    return _PARAMETER.sub(rf"\g<name>{REMOVED}", text) if "=" in text else text


def redacted_values(value: Any) -> Any:
    """JSON values with every text in them as `redacted` gives it, or an address as a whole."""
    if isinstance(value, str):
        return redacted(without_secrets(value)) if _HTTP.search(value) else redacted(value)
    if isinstance(value, dict):
        return {key: redacted_values(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_values(held) for held in value]
    return value


class PlainFormatter(logging.Formatter):
    """Formats log records, stack traces too, without the secrets of addresses."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return redacted(super().format(record))


def _bare(address: str) -> str:
    path, _, query = re.sub("[?#]", "?", address, count=1).partition("?")
    if not _HTTP.match(path):
        if ":/" not in address:
            return address
        return _PARAMETER.sub(rf"\g<name>{REMOVED}", address)
    kept = [] if TAR.search(path) else _naming(query)
    return f"{path}?{'&'.join(kept)}" if kept else path


def _naming(query: str) -> list[str]:
    """The parameters of a query that names a tar which say what it is; none of any other query."""
    parts = [part for part in query.partition("#")[0].split("&") if "@" not in unquote(part)]
    named = [part for part in parts if TAR.search(part)]
    return [part for part in parts if part in named or _is_place(part)] if named else []


def _is_place(part: str) -> bool:
    pairs = parse_qsl(part)
    return len(pairs) == 1 and pairs[0][0].lower() in _PLACES


def _without_user(found: re.Match[str]) -> str:
    return found["scheme"]


def _within(address: str) -> str:
    """An address in a text, of which the signs at its end belong to the sentence."""
    plain = address.rstrip(_BEHIND)
    return without_secrets(plain) + address[len(plain) :]
