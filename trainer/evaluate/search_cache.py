"""What searching a corpus found, kept in the cache: evaluations inside a run read it once."""

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from trainer.evaluate.corpora import HELD
from trainer.files import build_lock, cache_folder, write_whole

log = logging.getLogger(__name__)


def cached_search(parts: list[Any], search: Callable[[], Any]) -> Any:
    """The JSON value that `search` returns; from the cache where it was found for the same `parts`.

    `parts`: JSON values that name what was searched, for what, and by which rules. Of several
    processes of a machine one searches, and the others wait for it. Where the cache cannot be
    written, each searches for itself.
    """
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    path = cache_folder("evaluate") / f"{digest[:24]}.json"
    with suppress(OSError, ValueError):
        return json.loads(path.read_bytes())
    try:
        with build_lock(path):
            with suppress(OSError, ValueError):
                return json.loads(path.read_bytes())
            found = json.dumps(search(), ensure_ascii=False)
            write_whole(path, found)
    except OSError as error:
        log.warning("%s: what was searched for is not kept: %s", path, error.strerror or error)
        return json.loads(json.dumps(search()))
    return json.loads(found)


class CachedSearches(ABC):
    """The searches of a SearchableText, each made once for the same text, passages and rules."""

    @property
    @abstractmethod
    def rules(self) -> tuple[Any, ...]:
        """JSON values that change whenever the same text would be searched otherwise."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """What changes with any document."""

    @abstractmethod
    def _searched(self, passages: tuple[str, ...], limit: int) -> dict[str, Any]:
        """`counts` and `holders`, as PassageTally's, of each passage."""

    @abstractmethod
    def _counted(self, pairs: tuple[tuple[str, str], ...]) -> list[int]:
        """In how many sentences each pair stands."""

    def occurrences(self, passages: Sequence[str]) -> list[int]:
        """How many training documents hold each passage: see SearchableText."""
        return list(self._search(passages, HELD)["counts"])

    def holding(self, passages: Sequence[str], limit: int = HELD) -> list[list[str]]:
        """For each passage, ids of the first `limit` training documents that hold it."""
        found = self._search(passages, max(limit, HELD))["holders"]
        return [list(ids[:limit]) for ids in found]

    def together(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """In how many sentences of training documents both passages of each pair stand."""
        parts = ["pairs", *self.rules, self.fingerprint, [list(pair) for pair in pairs]]
        return list(cached_search(parts, lambda: self._counted(tuple(pairs))))

    def _search(self, passages: Sequence[str], limit: int) -> dict[str, Any]:
        parts = ["passages", *self.rules, self.fingerprint, limit, list(passages)]
        return dict(cached_search(parts, lambda: self._searched(tuple(passages), limit)))
