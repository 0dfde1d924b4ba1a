"""Our fast tar members are those of WebDataset's writer, and a strange tar is left to tarfile."""

import io
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.tar import PlainTarWriter, plain_members


def ours(members: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    writer = PlainTarWriter(file, "owner")
    for name, content in members:
        writer.add(name, content)
    writer.close()
    return file.getvalue()


@given(st.lists(st.tuples(st.text("ab9._-", min_size=1, max_size=40), st.binary(max_size=1500))))
@settings(max_examples=80, deadline=None)
def test_bytes_are_those_of_webdataset(documents: list[tuple[str, bytes]]) -> None:
    """Would catch a header, padding or end that other readers of the shards do not know."""
    theirs = io.BytesIO()
    # Its members are sorted by kind, so one of each key keeps the order given here.
    tar = webdataset.TarWriter(theirs, encoder=False, mtime=0, user="owner", group="owner")
    for number, (name, content) in enumerate(documents):
        tar.write({"__key__": f"{number}{name}", "tokens": content})
    tar.close()
    members = [(f"{n}{name}.tokens", content) for n, (name, content) in enumerate(documents)]
    assert ours(members) == theirs.getvalue()


def test_members_are_listed_as_tarfile_lists_them(tmp_path: Path) -> None:
    """Would catch an offset that is off by a block."""
    path = tmp_path / "a.tar"
    path.write_bytes(ours([("a.json", b"x" * 512), ("a.tokens", b""), ("b.json", b"y" * 513)]))
    with tarfile.open(path) as tar:
        expected = [(member.name, member.offset_data, member.size) for member in tar]
    assert plain_members(path) == expected and len(expected) == 3


@pytest.mark.parametrize("damage", ["checksum", "cut header", "cut content", "no end", "size"])
def test_a_damaged_tar_is_left_to_tarfile(tmp_path: Path, damage: str) -> None:
    """Would catch a damaged shard that is indexed as though it were whole."""
    content = bytearray(ours([("a.json", b"x" * 100), ("a.tokens", b"y" * 700)]))
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    assert plain_members(path) is not None, "undamaged, it is listed"
    if damage == "checksum":
        content[1024] ^= 1
    elif damage == "size":
        content[1024 + 124 : 1024 + 136] = b"x" * 12
    else:
        del content[{"cut header": 1300, "cut content": 1800, "no end": 2560}[damage] :]
    path.write_bytes(content)
    assert plain_members(path) is None


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b", "n" * 120])
def test_a_name_that_is_not_plain_is_left_to_tarfile(tmp_path: Path, name: str) -> None:
    """Would catch a member with a harmful or long name that slips past the checks of the index."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("good"))
        tar.addfile(tarfile.TarInfo(name))
    assert plain_members(path) is None


def test_a_link_is_left_to_tarfile(tmp_path: Path) -> None:
    """Would catch a link taken for a file."""
    path = tmp_path / "a.tar"
    link = tarfile.TarInfo("a.json")
    link.type, link.linkname = tarfile.SYMTYPE, "b"
    with tarfile.open(path, "w") as tar:
        tar.addfile(link)
    assert plain_members(path) is None
