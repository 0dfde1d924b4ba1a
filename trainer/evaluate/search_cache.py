"""What searching a corpus found, kept in the cache: evaluations inside a run read it once."""

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

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
