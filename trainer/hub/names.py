"""What names a repository of the hub: `org/name`, or an address that begins with hf://."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from trainer.errors import DataError

RepositoryKind = Literal["model", "dataset"]

_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*(@[^/@?]+)?")
# A path has only one slash left of two.
_ADDRESS = re.compile(r"hf:/+", re.IGNORECASE)
_SLASHES = re.compile(r":/+")
_PAGE = re.compile(
    r"https?:/+(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<set>datasets/)?(?P<name>[^/?#]+/[^/?#]+)"
    r"(?:/tree/(?P<revision>[^/?#]+))?/?(?:[?#].*)?"
)
_OPTIONS = ("config", "split", "revision")


@dataclass(frozen=True)
class HubName:
    """A repository, or some files of it.

    `text`: as it was written; `revision`: a branch, tag or commit, None: the default branch;
    `files`: a pattern of files inside, "" for none; `options`: what follows the question mark.
    """

    text: str
    kind: RepositoryKind
    repository: str
    revision: str | None = None
    files: str = ""
    options: dict[str, str] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """The path of its page on the hub."""
        return ("datasets/" if self.kind == "dataset" else "") + self.repository


def is_address(text: str) -> bool:
    """Whether a text begins with hf://."""
    return _ADDRESS.match(text) is not None


def as_written(path: Path) -> str:
    """A path as text, an address of the hub with both its slashes."""
    return _ADDRESS.sub("hf://", str(path))


def page_of(text: str | Path) -> str | None:
    """The name by which a repository is read whose page on the hub a text is; None for others."""
    found = _PAGE.fullmatch(str(text))
    if found is None or not _PLAIN.fullmatch(found["name"]):
        return None
    revision = f"@{found['revision']}" if found["revision"] not in (None, "main") else ""
    return f"hf://{found['name']}{revision}" if found["set"] else found["name"] + revision


def set_meant(text: str) -> str:
    """Words for behind a path that names nothing here, where the hub may have a set so called."""
    known = _PLAIN.fullmatch(text) and not Path(text).exists()
    return f" (a set of the Hugging Face hub is hf://{text})" if known else ""


def model_name(text: str | Path) -> HubName | None:
    """The model that `org/name`, `org/name@revision` or hf://org/name names.

    None for any other text, and where a file or folder has that path: that one is meant. Raises
    DataError for an hf:// address of anything else, and for a page of the hub.
    """
    text = _ADDRESS.sub("hf://", str(text))
    if (page := page_of(text)) is not None and not page.startswith("hf:"):
        raise DataError(
            f"{_SLASHES.sub('://', text, 1)}: is a model's page on the hub; write {page}"
        )
    if is_address(text):
        found = _parsed(text, "model")
        if found.files or found.options:
            raise DataError(f"{text}: a model's address is hf://org/name or hf://org/name@revision")
        return found
    if Path(text).exists() or not _PLAIN.fullmatch(text):
        return None
    repository, _, revision = text.partition("@")
    return HubName(text, "model", repository, revision or None)


def set_name(text: str) -> HubName:
    """The set behind hf://org/set?config=..&split=..&revision=.., or hf://org/set/FILES.

    hf://datasets/org/set@revision/FILES is the same. Raises DataError for any other address.
    """
    found = _parsed(text, "dataset")
    strange = [name for name in found.options if name not in _OPTIONS]
    if strange:
        raise DataError(f"{text}: {strange[0]}= is unknown; an address takes {', '.join(_OPTIONS)}")
    return found


def _parsed(text: str, kind: RepositoryKind) -> HubName:
    rest, _, query = _ADDRESS.sub("", text, count=1).partition("?")
    rest = rest.removeprefix("datasets/") if kind == "dataset" else rest.removeprefix("models/")
    org, _, behind = rest.partition("/")
    name, _, files = behind.partition("/")
    if not _PLAIN.fullmatch(f"{org}/{name}"):
        raise DataError(f"{text}: is no address on the hub; write hf://org/name")
    name, _, revision = name.partition("@")
    options = dict(parse_qsl(query, keep_blank_values=True))
    revision = options.pop("revision", "") or revision
    return HubName(text, kind, f"{org}/{name}", revision or None, files, options)
