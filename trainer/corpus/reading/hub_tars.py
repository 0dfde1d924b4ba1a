"""WebDataset's tars in a repository of the Hugging Face hub, fetched into the hub's own cache."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from trainer.corpus.reading.files import InputFile, local_version
from trainer.errors import DataError
from trainer.hub.names import HubName, set_name
from trainer.hub.snapshots import fetch
from trainer.hub.splits import matching_files


def hub_tars(addresses: Sequence[str]) -> dict[str, list[InputFile]]:
    """The tars that hf://org/set/FILES addresses name, by address; FILES: a path or a glob.

    Each repository is asked once, however many of its tars are named. Raises DataError for an
    address that names no file, and as `fetch` does.
    """
    names = {address: set_name(address) for address in addresses}
    found: dict[str, list[InputFile]] = {}
    for repository, revision in dict.fromkeys(_repository(name) for name in names.values()):
        found |= _fetched(
            {
                key: name
                for key, name in names.items()
                if _repository(name) == (repository, revision)
            }
        )
    return found


def _repository(name: HubName) -> tuple[str, str | None]:
    return name.repository, name.revision


def _fetched(names: Mapping[str, HubName]) -> dict[str, list[InputFile]]:
    """The tars of one repository by address."""
    matched: dict[str, list[str]] = {}

    def choose(files: Sequence[str], _: Callable[[str], bytes]) -> list[str]:
        for address, name in names.items():
            matched[address] = matching_files(name.files, files)
        missing = [address for address, inside in matched.items() if not inside]
        if missing:
            more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
            raise DataError(f"{missing[0]}: names no file{more}: mend the address")
        return sorted({file for inside in matched.values() for file in inside})

    first = next(iter(names.values()))
    folder, _ = fetch(replace(first, text=f"hf://{first.repository}", files=""), choose)
    return {
        address: [
            _tar(os.path.join(folder, file), f"hf://{first.repository}/{file}") for file in inside
        ]
        for address, inside in matched.items()
    }


def _tar(path: str, address: str) -> InputFile:
    status = os.stat(path)
    return InputFile(path, status.st_size, local_version(status), copy_of=address)
