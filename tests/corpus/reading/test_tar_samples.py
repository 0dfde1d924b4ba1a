"""Tars are read as the webdataset package reads them, and never less of them."""

import struct
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import webdataset
from webdataset.shardlists import expand_urls

from tests.corpus.reading.tars import (
    FORMATS,
    input_file,
    other,
    random_members,
    texts_tar,
    write_tar,
)
from trainer.corpus.reading import tar_opening
from trainer.corpus.reading.record import ReadOptions
from trainer.corpus.reading.tar_list import expanded, list_tars, names_tars
from trainer.corpus.reading.tar_samples import LINKS, read_samples
from trainer.errors import DataError

OPTIONS = ReadOptions()


def theirs(path: Path) -> list[tuple[str, dict[str, bytes]]]:
    """The samples that the webdataset package yields: keys and fields."""
    found = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    return [
        (
            sample["__key__"],
            {name: value for name, value in sample.items() if isinstance(value, bytes)},
        )
        for sample in found
    ]


def ours(path: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(one.key, one.members) for one in read_samples(input_file(path), OPTIONS)]


def test_samples_are_those_of_the_webdataset_package(tmp_path: Path) -> None:
    """Would catch another key or extension, a group too many, a hidden file, folder or link taken
    for a member, and a header of one of the three formats misread.
    """
    twice = counted = 0
    for seed in range(60):
        mode = ("w", "w:gz", "w:bz2", "w:xz")[seed % 4]
        name = f"{seed}.tar" if seed % 8 else f"{seed}.packed-without-saying.tar"
        form = FORMATS[seed % 3]
        path = write_tar(tmp_path / name, random_members(seed, form), mode, form)
        try:
            expected = theirs(path)
        except ValueError:  # the package: "duplicate file name in tar file"
            twice += 1
            with pytest.raises(DataError, match="two members"):
                ours(path)
            continue
        assert ours(path) == expected
        counted += len(expected)
    assert twice and counted > 150, "both kinds were there"


def test_only_wanted_members_are_read(tmp_path: Path) -> None:
    """Would catch pictures held in memory where a text is wanted."""
    path = texts_tar(tmp_path / "a.tar", ["one", "two"])
    (first, _) = read_samples(input_file(path), OPTIONS, {"txt"}.__contains__)
    assert first.members == {"jpg": None, "txt": b"one", "json": None}


def test_pictures_are_not_read_for_their_captions(tmp_path: Path, monkeypatch) -> None:
    """Would catch a terabyte fetched from the disk for the gigabyte of text in it."""
    members = [(f"{n}.{kind}", content) for n in range(3) for kind, content in KINDS.items()]
    path = write_tar(tmp_path / "a.tar", members)
    read = []
    readinto = tar_opening._Jumping.readinto

    def counted(self: Any, buffer: Any) -> int:
        read.append(readinto(self, buffer))
        return read[-1]

    monkeypatch.setattr(tar_opening._Jumping, "readinto", counted)
    found = list(read_samples(input_file(path), OPTIONS, {"txt"}.__contains__))
    assert [one.members["txt"] for one in found] == [KINDS["txt"]] * 3
    assert 0 < sum(read) < 0.1 * path.stat().st_size


KINDS = {"jpg": bytes(1 << 20), "txt": b"caption"}


def test_no_cut_goes_unseen(tmp_path: Path) -> None:
    """Would catch a tar that lost its end and passes for a shorter one: at no byte may it."""
    whole = texts_tar(tmp_path / "a.tar", [f"text {n} " * 30 for n in range(3)])
    content = whole.read_bytes()
    with tarfile.open(whole) as tar:
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in tar)
    path = tmp_path / "cut.tar"
    silent = 0
    for size in [*range(0, end + 1, 256), *range(1, end, 1021), end + 511]:
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"cut\.tar.*(cut short|is no tar)"):
            ours(path)
        if size and size % 512 == 0:
            silent += len(theirs(path)) < 3 if _readable(path) else 0
    assert silent, "negative control: the package itself takes some of them for whole"
    path.write_bytes(content[: end + 512])  # a lone block of zeros ends a tar too
    assert len(ours(path)) == 3


def _readable(path: Path) -> bool:
    try:
        theirs(path)
    except tarfile.TarError:
        return False
    return True


def test_a_damaged_header_stops_the_reading(tmp_path: Path) -> None:
    """Would catch the members behind it lost in silence, as tarfile loses them."""
    whole = texts_tar(tmp_path / "a.tar", ["one", "two", "three"])
    content = bytearray(whole.read_bytes())
    with tarfile.open(whole) as tar:
        headers = [member.offset for member in tar]
    for at in headers[1:]:
        damaged = bytearray(content)
        damaged[at + 3] ^= 0x41
        path = tmp_path / "damaged.tar"
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"damaged\.tar: damaged at byte {at}"):
            ours(path)
    assert len(theirs(path)) < 4, "negative control: the package says nothing"


def test_a_cut_in_the_compression_is_found(tmp_path: Path) -> None:
    """Would catch a .tar.gz whose last bytes, behind the tar's own end, are missing."""
    members = [("a.txt", b"text")]
    for mode in ("w:gz", "w:bz2", "w:xz"):
        path = write_tar(tmp_path / "a.tar.gz", members, mode)
        assert len(ours(path)) == 1
        path.write_bytes(path.read_bytes()[:-2])
        with pytest.raises(DataError, match=r"a\.tar\.gz: damaged or cut short"):
            ours(path)


def test_frames_to_skip_are_skipped(tmp_path: Path) -> None:
    """Would catch what pzstd writes, a frame to skip before each of its own, taken for no tar."""
    whole = texts_tar(tmp_path / "a.tar", ["one"]).read_bytes()
    path = tmp_path / "a.tar.zst"
    path.write_bytes(
        b"".join(
            struct.pack("<IIQ", 0x184D2A50, 8, 0) + pyarrow.compress(part, "zstd", asbytes=True)
            for part in (whole[:900], whole[900:])
        )
    )
    assert ours(path) == ours(tmp_path / "a.tar")


def test_what_stands_behind_the_end_is_said(tmp_path: Path, caplog) -> None:
    """Would catch joined tars of which the package, too, reads the first alone."""
    path = texts_tar(tmp_path / "a.tar", ["one"])
    path.write_bytes(path.read_bytes() * 2)
    assert ours(path) == theirs(path)
    assert "bytes behind its end marker are not read" in caplog.text


def test_links_are_counted(tmp_path: Path) -> None:
    """Would catch texts that a tar holds as links to one file, and that nobody reads."""
    links = [other(f"{n}.txt", kind, "a.txt") for n, kind in enumerate((b"1", b"2"))]
    path = write_tar(tmp_path / "a.tar", [("a.txt", b"one"), *links])
    counts = Counter[str]()
    (sample,) = read_samples(input_file(path), OPTIONS, passed_over=counts)
    assert [(sample.key, sample.members)] == theirs(path)
    assert counts == {LINKS: 2}


LISTS = [
    "a.tar",
    "shards/{000000..000011}.tar",
    "s-{8..11}.tar::t-{a,b{1..3}}.tar",
    "x/{train,val}-{0..6..3}.tar.gz",
    "s3://bucket/{01..03}.tar::https://host/{a,b}.tar?signed={x}",
    "${DATA}/{0..1}.tar",
    r"esc\{0\}.tar",
    "one{}.tar",
]


@pytest.mark.parametrize("source", LISTS)
def test_lists_are_expanded_as_the_package_does(source: str, monkeypatch) -> None:
    """Would catch a shard too few, an order of another kind, or a variable left as it is."""
    monkeypatch.setenv("WDS_DATA", "${ROOT}/d")
    monkeypatch.setenv("WDS_ROOT", "root")
    assert expanded(source, "key") == expand_urls(source)
    assert names_tars(source)


def test_what_cannot_be_listed_is_one_line(tmp_path: Path) -> None:
    """Would catch a command run for a recipe, and tracebacks."""
    for source, said in (
        ("pipe:rm -rf x.tar", "would run a command"),
        ("gs://bucket/a.tar", "is not read"),
        ("hf://org", "is no address on the hub"),
        ("{0..3.tar", "braces do not close"),
        ("${NOT_SET_ANYWHERE}/a.tar", "WDS_NOT_SET_ANYWHERE"),
        (f"{tmp_path}/{{0..9}}.tar", r"0.tar is missing \(and 9 more\), of 10"),
    ):
        with pytest.raises(DataError, match=f"^key: .*{said}"):
            list_tars([source], "key")


def test_tars_are_listed_in_order_and_once(tmp_path: Path, caplog) -> None:
    """Would catch a sorted list, a tar read twice, a glob or `file:` that is not understood."""
    paths = [texts_tar(tmp_path / f"{n}.tar", ["one"]) for n in range(3)]
    listed = list_tars([f"{tmp_path}/{{2..1}}.tar::file:{tmp_path}/*.tar"], "key")
    assert [file.path for file in listed] == [str(paths[n]) for n in (2, 1, 0)]
    assert "2 tars are listed twice" in caplog.text


def test_a_tar_whose_name_is_not_unicode_is_refused(tmp_path: Path) -> None:
    """Would catch a stack trace where a sample's source is stored."""
    texts_tar(tmp_path / "\udcff.tar", ["one"])
    with pytest.raises(DataError, match=r"^key: .*its name is not Unicode: rename it"):
        list_tars([f"{tmp_path}/*.tar"], "key")


def test_other_names_are_no_tars() -> None:
    """Would catch a corpus or a set of examples taken for tars."""
    for source in ("corpora/web", "set.jsonl", "s3://bucket/corpus", "a.tar.jsonl", "tar"):
        assert not names_tars(source)
