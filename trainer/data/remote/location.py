"""The location of a corpus: a local folder, or the URL of a remote one."""

import re
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from trainer.errors import DataError
from trainer.hub.names import page_of

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
SCHEMES = ("s3", "https", "http")


class Url(str):
    """The URL of a remote folder or file; `url / "name"` appends to its path.

    What follows a `?` in an http URL, such as a signature, stays at its end.
    """

    __slots__ = ()

    def __truediv__(self, name: str) -> "Url":
        if self.scheme == "s3":
            return Url(f"{self.rstrip('/')}/{name}")
        parts = urlsplit(self)
        path = f"{parts.path.rstrip('/')}/{quote(name)}"
        return Url(urlunsplit(parts._replace(path=path)))

    @property
    def scheme(self) -> str:
        """`s3`, `https` or `http`."""
        return self.partition(":")[0]

    @property
    def shown(self) -> str:
        """The URL for messages: without its query, which may hold a signature."""
        return str(self) if self.scheme == "s3" else self.partition("?")[0]


Place = Path | Url


def place(folder: str | Path) -> Place:
    """The folder as a Path, or as a Url where it begins with a scheme.

    Raises DataError for a scheme that is not supported, and for a password in the URL.
    """
    if isinstance(folder, Url):
        return folder
    found = _SCHEME.match(str(folder))
    if not found:
        return Path(folder)
    scheme = found[1].lower()
    if scheme == "hf":
        raise DataError(
            f"{folder}: is a set of examples, which stages sft and preference read; to pre-train on"
            f" its text, build a corpus of it: corpus.files=[{folder}], or name its tars, as"
            " hf://org/set/*.tar"
        )
    if (page := page_of(folder)) is not None:
        raise DataError(f"{folder}: is a page of the hub; write {page}")
    if scheme not in SCHEMES:
        raise DataError(
            f"cannot read {folder}: corpora lie in folders or behind"
            f" {', '.join(f'{name}://' for name in SCHEMES)}"
        )
    # Where a URL passed through a Path, pathlib has collapsed its two slashes into one.
    url = Url(f"{scheme}://{str(folder)[found.end() :].rstrip('/')}")
    if scheme != "s3" and "@" in urlsplit(url).netloc:
        raise DataError(
            f"the URL of {urlsplit(url).hostname} holds a user or password, which would be saved"
            " with the run: put them into ~/.netrc"
        )
    return url


def local_folder(folder: str | Path) -> Path:
    """The folder, for commands that read the whole corpus; raises DataError for a URL."""
    where = place(folder)
    if isinstance(where, Url):
        raise DataError(
            f"{where.shown} is remote, and this reads whole corpora from a local folder: copy it"
            " first (`aws s3 sync`, `wget -r`), or train on it by its URL"
        )
    return where
