"""Energon's folders: a WebDataset whose `.nv-meta` says which tars are for what.

Source: the format on disk as megatron-energon documents it (`data_on_disk`), and its older form
with `.info.yaml`. Nothing of a `.nv-meta` is run: where a sample loader in Python finds the text,
the recipe has to name it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from braceexpand import braceexpand

from trainer.data.remote.location import Place, Url
from trainer.errors import DataError
from trainer.parsing import read_json, read_yaml
from trainer.recipe.data import RemoteSection

META = ".nv-meta"
SPLIT_FILES = ("split.yaml", "split.json")
TAR_MEMBER = ".tar/"
SPLITS = {"train": "train", "val": "validation"}
"""The parts that are read, and what a corpus calls them."""


@dataclass(frozen=True)
class EnergonFolder:
    """What a `.nv-meta` says.

    `tars`: the tars of `train` and `validation`, as paths or URLs; `excluded`: samples that are
    left out, TAR:KEY; `samples`: how many each tar holds, where it is said; `text`: the field_map's
    entry for `text` or else `caption`, None without one; `mapped`: the fields that the field_map
    fills; `loader`: whether Python of its own finds the fields of a sample; `passed_over`: parts
    that are not read, and how many tars they have.
    """

    tars: dict[str, list[str]]
    excluded: frozenset[str]
    samples: dict[str, int]
    text: str | None
    mapped: tuple[str, ...]
    loader: bool
    passed_over: dict[str, int]


def is_energon(folder: Place, remote: RemoteSection | None = None) -> bool:
    """Whether a folder is one of energon's; one at a URL is asked for the file of its splits."""
    if isinstance(folder, Url):
        files = _Files(folder, "data.mixture", remote or RemoteSection())
        return files.mapping(*SPLIT_FILES) is not None
    return (folder / META).is_dir()


def read_energon(folder: Place, key: str, remote: RemoteSection | None = None) -> EnergonFolder:
    """Read the `.nv-meta` of a folder, or of one at a URL.

    Raises DataError, beginning with `key`, where it is missing or damaged, is a blend of other
    folders, or names no tar to train on.
    """
    files = _Files(folder, key, remote or RemoteSection())
    split = files.mapping(*SPLIT_FILES)
    if split is None:
        raise DataError(
            f"{key}: {_shown(folder)} has no {META}/split.yaml: run `energon prepare` there, or"
            " name its tars"
        )
    about = files.mapping("dataset.yaml") or {}
    if "splits" in about or str(about.get("__class__", "")).lower().startswith("metadataset"):
        raise DataError(
            f"{key}: {_shown(folder)} is a blend (a metadataset): name the folders that it blends"
            " in data.mixture, with their weights"
        )
    try:
        parts = {name: _names(listed) for name, listed in split["split_parts"].items()}
        excluded = set(_names(split.get("exclude") or []))
        info = files.mapping(".info.json", ".info.yaml") or {}
        counts = {str(tar): int(count) for tar, count in info.get("shard_counts", {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise DataError(
            f"{key}: {_shown(folder)}/{META} is damaged ({type(error).__name__}: {error}): run"
            " `energon prepare` again, or name its tars"
        ) from None
    tars = {
        ours: [str(folder / name) for name in parts.get(theirs, []) if name not in excluded]
        for theirs, ours in SPLITS.items()
    }
    if not tars["train"]:
        raise DataError(f"{key}: {_shown(folder)}/{META} names no tar of its part train: add one")
    mapped = about.get("field_map")
    mapped = mapped if isinstance(mapped, dict) else {}
    found = mapped.get("text") or mapped.get("caption")
    return EnergonFolder(
        tars=tars,
        excluded=frozenset(_sample(folder, name) for name in excluded if TAR_MEMBER in name),
        samples={str(folder / name): count for name, count in counts.items()},
        text=found if isinstance(found, str) else None,
        mapped=tuple(map(str, mapped)),
        loader="sample_loader" in about,
        passed_over={
            name: len(listed) for name, listed in parts.items() if listed and name not in SPLITS
        },
    )


def _sample(folder: Place, name: str) -> str:
    """TAR:KEY of an excluded TAR/KEY; the key may have folders of its own."""
    tar, _, key = name.partition(TAR_MEMBER)
    return f"{folder / (tar + '.tar')}:{key}"


def _names(listed: Any) -> list[str]:
    return [name for entry in listed for name in braceexpand(str(entry))]


def _shown(folder: Place) -> str:
    return folder.shown if isinstance(folder, Url) else str(folder)


def _yaml(content: bytes) -> Any:
    return read_yaml(content.decode("utf-8"))


class _Files:
    def __init__(self, folder: Place, key: str, remote: RemoteSection) -> None:
        self._folder, self._key, self._remote = folder / META, key, remote

    def mapping(self, *names: str) -> dict[str, Any] | None:
        """The object in the first of these files that is there; None where none is."""
        for name in names:
            content = self._read(name)
            if content is None:
                continue
            load: Callable[[bytes], Any] = read_json if name.endswith(".json") else _yaml
            try:
                found = load(content)
            except ValueError as error:
                reason = " ".join(str(error).split())
                raise DataError(
                    f"{self._key}: {_shown(self._folder)}/{name} is damaged ({reason}): mend it"
                ) from None
            if not isinstance(found, dict):
                raise DataError(
                    f"{self._key}: {_shown(self._folder)}/{name} holds no object: mend it"
                )
            return found
        return None

    def _read(self, name: str) -> bytes | None:
        path = self._folder / name
        if isinstance(path, Url):
            from trainer.data.remote.storage import Absent
            from trainer.data.remote.transfer import Attempts, read_whole

            try:
                return read_whole(path, Attempts(self._remote))
            except Absent:
                return None
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{self._key}: {path} cannot be read: {error.strerror}") from None
