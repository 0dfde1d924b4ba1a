"""Files of the hub's repositories, fetched by huggingface_hub into its own cache.

Where the hub cannot be asked, what that cache holds is used, if it is complete.
"""

import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

from trainer.errors import DataError
from trainer.hub.names import HubName

log = logging.getLogger(__name__)

FileChoice = Callable[[Sequence[str], Callable[[str], bytes]], list[str]]
"""From a repository's file names, and a function that reads one of them, those that are wanted."""

TIMEOUT_SECONDS = 20.0
_SHARD = re.compile(r"(?P<name>.*)-\d{5}-of-(?P<all>\d{5})\b.*")


def fetch(name: HubName, choose: FileChoice) -> tuple[Path, list[str]]:
    """A folder with the chosen files of a repository, and their names in it, as `choose` has them.

    Raises DataError with one line where the hub has no such repository or revision, does not let
    us read it, or cannot be reached and the cache holds not all; and what `choose` raises.
    """
    hub = _package()
    where: dict[str, Any] = {
        **{"repo_id": name.repository, "repo_type": name.kind, "revision": name.revision}
    }
    problem: Exception | None = None
    commit = name.revision
    try:
        found = hub.HfApi().repo_info(**where, timeout=TIMEOUT_SECONDS)
        names, commit = [one.rfilename for one in found.siblings or ()], found.sha
    except Exception as error:
        if not _is_theirs(error):
            raise
        names, problem = _cached_names(hub, name, error), error
        where["local_files_only"] = True

    def read(file: str) -> bytes:
        path = _called(name, problem, hub.hf_hub_download, filename=file, **where)
        return Path(path).read_bytes()

    try:
        chosen = choose(names, read)
    except DataError:
        if problem:  # the cache may lack what the hub has
            raise _named(name, problem) from None
        raise
    if problem:
        if _lacks_shards(chosen):
            raise _named(name, problem)
        log.info("%s: read from the hub's cache (%s)", name.text, _reason(problem))
    elif (folder := _cached_folder(hub, name, commit, chosen)) is not None:
        return folder, chosen
    else:
        log.info(
            "%s: fetched from %s (files: %d, revision %s)",
            *(name.text, hub.constants.ENDPOINT, len(chosen), commit),
        )
    where["allow_patterns"] = None if len(chosen) == len(names) else [escape(f) for f in chosen]
    folder = Path(_called(name, problem, hub.snapshot_download, **where))
    if lacking := [file for file in chosen if not (folder / file).is_file()]:
        raise _named(name, problem or FileNotFoundError(f"{lacking[0]} is missing in {folder}"))
    return folder, chosen


def _lacks_shards(files: Sequence[str]) -> bool:
    """Whether of files called NAME-00001-of-00008 not all are there."""
    numbered = [found for file in files if (found := _SHARD.fullmatch(file))]
    counts = Counter((found["name"], int(found["all"])) for found in numbered)
    return any(count < whole for (_, whole), count in counts.items())


def _cached_folder(
    hub: Any, name: HubName, commit: str | None, files: Sequence[str]
) -> Path | None:
    """The folder of the cache that has all these files of a commit; None if it lacks one."""
    folder = None
    for file in files:
        found = hub.try_to_load_from_cache(
            name.repository, file, revision=commit, repo_type=name.kind
        )
        if not isinstance(found, str):
            return None
        folder = Path(found).parents[file.count("/")]
    return folder


def _called(name: HubName, problem: Exception | None, call: Any, **options: Any) -> Any:
    try:
        return call(**options)
    except Exception as error:
        if not _is_theirs(error):
            raise
        raise _named(name, problem or error) from None


def _cached_names(hub: Any, name: HubName, problem: Exception) -> list[str]:
    """The names of all files of a cached revision. Raises DataError where none is cached."""
    where = {"repo_id": name.repository, "repo_type": name.kind, "revision": name.revision}
    if isinstance(problem, hub.errors.RevisionNotFoundError):
        raise _named(name, problem)
    # A list of all files lies beside what newer releases fetched; else only what is there is known.
    with suppress(AttributeError, OSError, ValueError, hub.errors.CachedRepoTreeNotFoundError):
        return [file.path for file in hub.get_cached_repo_tree(**where)]
    try:
        folder = Path(hub.snapshot_download(**where, local_files_only=True))
    except Exception as error:
        if not _is_theirs(error):
            raise
        raise _named(name, problem) from None
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _package() -> Any:
    """huggingface_hub, which says nothing of its own, and shows bars only to who looks."""
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors
    import huggingface_hub.utils

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        huggingface_hub.utils.disable_progress_bars()
    return huggingface_hub


def _is_theirs(error: Exception) -> bool:
    """Whether the hub, the network or the disk failed, rather than our own code."""
    package = type(error).__module__.partition(".")[0]
    return package in ("huggingface_hub", "httpx", "httpx2", "hf_xet") or isinstance(error, OSError)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _named(name: HubName, error: Exception) -> DataError:
    """What went wrong and what to do, in one line."""
    hub = _package()
    errors, constants = hub.errors, hub.constants
    page = f"{constants.ENDPOINT}/{name.page}"
    here = "no such folder here, and " if name.kind == "model" and "hf:" not in name.text else ""
    login = "`hf auth login`, or set HF_TOKEN"
    if isinstance(error, errors.HFValidationError):
        return DataError(f"{name.text}: {here}the hub has no such names ({_reason(error)})")
    if isinstance(error, errors.GatedRepoError):
        return DataError(f"{name.text}: {page} is gated: ask for access there, then {login}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return DataError(
            f"{name.text}: {here}there is no {page}, or it is private: mend the name, or {login}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DataError(f"{name.text}: {page} has no revision {name.revision}: name another")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return DataError(f"{name.text}: {constants.ENDPOINT} refuses access ({status}): {login}")
    if status is not None:
        return DataError(f"{name.text}: {constants.ENDPOINT} answers {status}: try again later")
    kind = " --repo-type dataset" if name.kind == "dataset" else ""
    revision = f" --revision {name.revision}" if name.revision else ""
    fetch_it = f"`hf download{kind} {name.repository}{revision}`"
    if isinstance(error, errors.OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        return DataError(
            f"{name.text}: {here}HF_HUB_OFFLINE forbids asking the hub, and its cache"
            f" ({constants.HF_HUB_CACHE}) has no whole copy: {fetch_it} where there is a network"
        )
    if isinstance(error, OSError) and error.errno is not None and not _is_network(error):
        return DataError(f"{name.text}: cannot be kept in {constants.HF_HUB_CACHE}: {error}")
    return DataError(
        f"{name.text}: {here}{constants.ENDPOINT} cannot be reached ({_reason(error)}), and the"
        f" hub's cache has no whole copy: {fetch_it} where there is a network, or name local files"
    )


def _is_network(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError)
