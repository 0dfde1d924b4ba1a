"""Random WebDataset tars, as many tools write them."""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Iterable
from pathlib import Path

from trainer.corpus.reading.files import InputFile, find_files

Member = tuple[str, bytes] | tarfile.TarInfo
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def write_tar(
    path: Path, members: Iterable[Member], mode: str = "w", form: int = tarfile.PAX_FORMAT
) -> Path:
    """A tar of files (name and content) and of anything else that a header can name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=form) as tar:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            about = tarfile.TarInfo(member[0])
            about.size = len(member[1])
            tar.addfile(about, io.BytesIO(member[1]))
    return path


def other(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is no file: a folder or a link."""
    about = tarfile.TarInfo(name)
    about.type, about.linkname = kind, target
    return about


def texts_tar(path: Path, texts: Iterable[str], first: int = 0) -> Path:
    """A sample a text, with a picture before it and JSON behind it."""
    members: list[Member] = []
    for number, text in enumerate(texts, start=first):
        about = {"text": text[::-1], "meta": {"pages": [text.upper()]}}
        members += [
            (f"{number:06d}.jpg", b"\xff\xd8" + bytes(40)),
            (f"{number:06d}.txt", text.encode()),
            (f"{number:06d}.json", json.dumps(about).encode()),
        ]
    return write_tar(path, members)


def random_members(seed: int, form: int = tarfile.PAX_FORMAT) -> list[Member]:
    """Samples of every shape that WebDataset's rule knows, in some disorder."""
    long = "long" * (18 if form == tarfile.USTAR_FORMAT else 40)
    dice = random.Random(seed)
    folders = ("", "a/", "a.b/c/", "./", "deep/er/", "tag:x/", "été/", "__meta__/", "_a__b__/")
    endings = ("txt", "JSON", "seg.txt", "txt.gz", "json.gz", "PNG", "cls", "meta.json", "")
    found: list[Member] = [("__stats__", b"1"), ("__info__.json", b"{}"), ("README", b"none")]
    for number in range(dice.randint(1, 12)):
        folder = dice.choice(folders)
        stem = dice.choice((f"s{number}", f".hidden{number}", long + str(number), "k"))
        chosen = dice.sample(endings, dice.randint(1, 5))
        for ending in chosen:
            content = bytes(dice.choices(range(256), k=dice.choice((0, 1, 511, 512, 513, 1300))))
            if ending.endswith(".gz"):
                content = gzip.compress(content)
            found.append((f"{folder}{stem}{'.' if ending else ''}{ending}", content))
        if dice.random() < 0.3:
            found.append(other(f"{folder}{stem}.d.txt", tarfile.DIRTYPE))
        if dice.random() < 0.3:
            found.append(other(f"{folder}{stem}.link.txt", tarfile.SYMTYPE, f"{stem}.txt"))
    if dice.random() < 0.3:  # members that do not stand beside their own
        dice.shuffle(found)
    return found


def input_file(path: Path) -> InputFile:
    (file,) = find_files(str(path))
    return file
