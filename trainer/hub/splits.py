"""Which files of a set's repository hold a split: by its card's YAML, else by their names.

The rules are those of `datasets` (data_files.py): its `configs`, then folders and files that are
called after a split, then all files as the training split.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from trainer.errors import DataError
from trainer.hub.names import HubName
from trainer.parsing import read_yaml

CARD = "README.md"
READ = ("parquet", "jsonl", "ndjson", "json")
_ABOUT = {
    *(CARD, "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"),
    "dummy_data.zip",
}
_ADVICE = ": load it by datasets.load_dataset and write it by to_parquet"
_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SHARDED = re.compile(r"data/(?P<split>\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_COMPRESSED = (".gz", ".zst")
_FAMILIES = {
    **{kind: kind for kind in ("parquet", "arrow", "csv", "tsv", "txt", "tar", "zip", "xml")},
    **dict.fromkeys(("jsonl", "ndjson", "json"), "json"),
}


def files_of(
    name: HubName, names: Sequence[str], read: Callable[[str], bytes], split: str | None = None
) -> list[str]:
    """The files of a set's config and split, sorted; of its `files` pattern, where it has one.

    `split`: that to take where the address names none. Raises DataError for a config or a split
    that is not there, naming those that are, and for files of a kind that is not read.
    """
    data = [file for file in names if _is_data(file)]
    if name.files:
        found = _matching([name.files], "", data)
    else:
        config = _config(name, names, read)
        splits = _splits(config, data)
        wanted = (name.options.get("split") or split or "train").split("+")
        if strange := [one for one in wanted if one not in splits]:
            if not splits:
                raise DataError(f"{name.text}: holds no file of {', '.join(READ)}{_ADVICE}")
            known = ", ".join(sorted(splits))
            raise DataError(f"{name.text}: has no split {strange[0]}, but {known}: add ?split=NAME")
        found = sorted({file for one in wanted for file in splits[one]})
    if not found:
        raise DataError(f"{name.text}: names no file of {name.page}: mend the address")
    if tars := [file for file in found if _kind(file) == "tar"]:
        raise DataError(
            f"{name.text}: {tars[0]} is a tar of samples: name it in data.mixture, as"
            f" hf://{name.repository}/*.tar, or set corpus.source=webdataset"
        )
    if unread := [file for file in found if _kind(file) not in READ]:
        raise DataError(f"{name.text}: {unread[0]} is not one of {', '.join(READ)}{_ADVICE}")
    return found


def _config(name: HubName, names: Sequence[str], read: Callable[[str], bytes]) -> dict[str, Any]:
    """The chosen one of the card's configs; {} where the card names none."""
    configs = {}
    if CARD in names:
        for one in _card(name, read(CARD)).get("configs") or ():
            if isinstance(one, Mapping) and "config_name" in one:
                configs[str(one["config_name"])] = dict(one)
    wanted = name.options.get("config")
    if wanted is None:
        if not configs:
            return {}
        marked = [key for key, one in configs.items() if one.get("default") or key == "default"]
        chosen = marked or list(configs)
        if len(chosen) > 1:
            raise DataError(f"{name.text}: has the configs {', '.join(configs)}: add ?config=NAME")
        return configs[chosen[0]]
    if wanted == "default" and not configs:
        return {}
    if wanted not in configs:
        raise DataError(
            f"{name.text}: has no config {wanted}, but {', '.join(configs) or 'default'}"
        )
    return configs[wanted]


def _card(name: HubName, raw: bytes) -> Mapping[str, Any]:
    found = re.match(r"\s*---\s*\n(.*?)\n---", raw.decode("utf-8", "replace"), re.DOTALL)
    if not found:
        return {}
    try:
        card = read_yaml(found[1])
    except ValueError as error:
        raise DataError(f"{name.text}: the YAML of its {CARD} is damaged ({error})") from None
    return card if isinstance(card, Mapping) else {}


def _splits(config: Mapping[str, Any], data: Sequence[str]) -> dict[str, list[str]]:
    """The files of each split that a config has."""
    folder = str(config.get("data_dir") or "").strip("/")
    if (given := config.get("data_files")) is None:
        inside = [file for file in data if not folder or file.startswith(f"{folder}/")]
        return _by_name(_of_one_kind(inside), folder)
    found = {split: _matching(some, folder, data) for split, some in _patterns(given).items()}
    return {split: files for split, files in found.items() if files}


def _patterns(given: Any) -> dict[str, list[str]]:
    if isinstance(given, Mapping):
        return {str(split): _listed(some) for split, some in given.items()}
    patterns: dict[str, list[str]] = {}
    for one in _listed(given):
        split, some = ("train", one)
        if isinstance(one, Mapping):
            split, some = str(one.get("split", "train")), one.get("path", [])
        patterns.setdefault(split, []).extend(map(str, _listed(some)))
    return patterns


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def matching_files(pattern: str, names: Sequence[str]) -> list[str]:
    """The files of a repository that a path or a glob names, sorted."""
    return _matching([pattern], "", names)


def _matching(patterns: Sequence[str], folder: str, data: Sequence[str]) -> list[str]:
    from fsspec.utils import glob_translate

    found: set[str] = set()
    for pattern in patterns:
        whole = str(PurePosixPath(folder) / pattern.removeprefix("./"))
        matches = re.compile(glob_translate(whole)).match
        found.update(file for file in data if matches(file))
    return sorted(found)


def _by_name(data: Sequence[str], folder: str) -> dict[str, list[str]]:
    """As `datasets` guesses: shards that name their split, then folders, then files, then all."""
    inside = {file.removeprefix(f"{folder}/") if folder else file: file for file in data}
    sharded: dict[str, list[str]] = {}
    for short, file in sorted(inside.items()):
        if found := _SHARDED.fullmatch(short):
            sharded.setdefault(found["split"], []).append(file)
    if sharded:
        return sharded
    for parts in (_folders, _file):
        splits = {
            split: sorted(file for short, file in inside.items() if _called(parts(short), words))
            for split, words in _KEYWORDS.items()
        }
        if any(splits.values()):
            return {split: files for split, files in splits.items() if files}
    return {"train": sorted(data)} if data else {}


def _folders(file: str) -> list[str]:
    return file.split("/")[:-1]


def _file(file: str) -> list[str]:
    return file.split("/")[-1:]


def _called(parts: Sequence[str], words: Sequence[str]) -> bool:
    """Whether a part of a path has one of the words, set off by what is no letter."""
    word = re.compile(rf"(^|[-._ 0-9])({'|'.join(words)})($|[-._ 0-9])")
    return any(word.search(part) for part in parts)


def _of_one_kind(data: Sequence[str]) -> list[str]:
    """Where nothing says which files are the set's: those of the kind that most of them are of."""
    counts = Counter(_FAMILIES[kind] for kind in map(_kind, data) if kind in _FAMILIES)
    if not counts:
        return []
    favoured = ("parquet", "json")
    best = max(counts, key=lambda one: (counts[one], *(one == other for other in favoured)))
    return [file for file in data if _FAMILIES.get(_kind(file)) == best]


def _kind(file: str) -> str:
    name = PurePosixPath(file).name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return name.rpartition(".")[2] if "." in name else ""


def _is_data(file: str) -> bool:
    parts = file.split("/")
    hidden = any(part.startswith(".") for part in parts)
    special = any(part.startswith("__") for part in parts[:-1])
    return not (hidden or special or parts[-1] in _ABOUT)
