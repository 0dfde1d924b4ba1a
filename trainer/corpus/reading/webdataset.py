"""What a recipe names as a WebDataset: tars, or folders that energon prepared, and their texts."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.addresses import without_secrets
from trainer.corpus.reading.energon import META, EnergonFolder, is_energon, read_energon
from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.remote import scheme_of
from trainer.corpus.reading.tar_list import list_tars, names_tars
from trainer.data.remote.location import place
from trainer.errors import DataError
from trainer.hub.names import is_address
from trainer.recipe.data import RemoteSection
from trainer.recipe.text_member import USUAL, TextMember, text_members

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TarInput:
    """The tars that a recipe names.

    `files`: those to train on and, where energon chose them, to validate on, by split; `members`:
    where a sample's text stands; `excluded`: samples that are left out, TAR:KEY; `samples`: how
    many a tar holds, where energon counted them.
    """

    files: dict[str, list[InputFile]]
    members: tuple[TextMember, ...]
    excluded: frozenset[str] = frozenset()
    samples: dict[str, int] = field(default_factory=dict)


def is_webdataset(source: str) -> bool:
    """Whether a string lists tars, or is a local folder that energon prepared."""
    local = Path(source).expanduser()
    return is_energon(local) if local.is_dir() else names_tars(source)


def tar_input(
    sources: Sequence[str],
    text: str | None,
    key: str,
    remote: RemoteSection | None = None,
    train_only: bool = False,
) -> TarInput:
    """The tars of `sources`: lists of tars, or energon folders.

    `text`: as the recipe writes it, None: where the folder says, or the usual; `key`: what an error
    begins with; `train_only`: energon's validation part is not wanted. Raises DataError as
    `list_tars` and `read_energon` do.
    """
    remote = remote or RemoteSection()
    names: dict[str, list[str]] = {"train": [], "validation": []}
    folders = []
    for source in sources:
        if is_address(source) and not names_tars(source):
            raise DataError(f"{key}: {source} names no tar: name some, as hf://org/set/*.tar")
        if not _is_folder(source):
            names["train"].append(source)
            continue
        folder = read_energon(place(os.path.expanduser(source)), key, remote)
        folders.append(folder)
        for split, tars in folder.tars.items():
            names[split] += tars
        _say_what_is_left(source, folder, train_only)
    if train_only:
        names["validation"] = []
    files = {split: list_tars(listed, key, remote) for split, listed in names.items()}
    return TarInput(
        files={split: found for split, found in files.items() if found},
        members=text_members(text or _said(folders, key) or USUAL, key),
        excluded=frozenset().union(*(folder.excluded for folder in folders)),
        samples={tar: count for folder in folders for tar, count in folder.samples.items()},
    )


def _is_folder(source: str) -> bool:
    """Whether a string names a folder and no tars."""
    if scheme_of(source):
        return not names_tars(source)
    return Path(source).expanduser().is_dir()


def _said(folders: Sequence[EnergonFolder], key: str) -> str | None:
    """What the folders say of their text; DataError where only Python of their own knows, or what
    they map is no text but the parts of one, such as question and answer.
    """
    said = {folder.text for folder in folders}
    if len(said) > 1:
        raise DataError(
            f"{key}: the folders' field maps differ ({', '.join(map(str, said))}): name the member"
            " that is the text"
        )
    if any(folder.loader and folder.text is None for folder in folders):
        raise DataError(
            f"{key}: a sample loader in {META} finds the text, and its Python is not run: name the"
            " member that is the text, as txt or json[text]"
        )
    for folder in folders:
        if folder.text is None and folder.mapped:
            raise DataError(
                f"{key}: the folder's field map fills {', '.join(folder.mapped)}, and neither text"
                " nor caption: name the member that is the text, as txt or json[text]"
            )
    return said.pop() if said else None


def _say_what_is_left(source: str, folder: EnergonFolder, train_only: bool) -> None:
    left = dict(folder.passed_over)
    if train_only and folder.tars["validation"]:
        left["val"] = len(folder.tars["validation"])
    if left:
        listed = ", ".join(f"{name} ({count:,} tars)" for name, count in left.items())
        log.warning("%s: its parts %s are not read", without_secrets(source), listed)
