"""Addresses as messages show them, shards store them and runs compare them."""

import re

TAR = re.compile(r"\.(tar(\.(gz|bz2|xz|zst))?|tgz|tbz2?|txz)$", re.IGNORECASE)
"""The ends of the names of WebDataset's tars."""


def without_signature(source: str) -> str:
    """A path or URL, or several with `::` between them, without the queries of http URLs.

    A query may hold a signature, which ends: a run goes on with a new one, and none is stored. A
    query that alone names a tar, as in `https://host/get?file=a.tar`, stays.
    """
    return "::".join(map(_bare, source.split("::")))


def _bare(address: str) -> str:
    path, _, query = address.partition("?")
    if not query or not re.match("https?://", path, re.IGNORECASE):
        return address
    return address if TAR.search(query) and not TAR.search(path) else path
