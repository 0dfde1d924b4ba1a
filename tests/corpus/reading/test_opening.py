"""Packed files: damage, bombs, and files that are not what their name says."""

import gzip
import io
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.corpus.reading.samples import PACKERS, lines, options, peak_mib, read, write
from trainer.corpus.reading.files import InputFile, list_files
from trainer.corpus.reading.opening import FREE_EXPANSION, Counted, check_expansion
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import ReadOptions
from trainer.errors import DataError
from trainer.recipe.curation import Limits

RANDOM = random.Random(0)
CONTENT = lines(*({"text": RANDOM.randbytes(2000).hex()} for _ in range(500)))


def checked_zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut in the middle": lambda packed: packed[: len(packed) // 2],
    "cut by a byte": lambda packed: packed[:-1],
    "cut in the header": lambda packed: packed[:5],
    "a bit flipped": lambda packed: packed[:9000] + bytes([packed[9000] ^ 1]) + packed[9001:],
    "the second member cut": lambda packed: packed + packed[:-4],
    "something behind": lambda packed: packed + b"something else",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_damaged_or_cut_file_is_an_error(tmp_path: Path, packing: str, damage: str) -> None:
    """Would catch half a file taken for a whole one: zstandard's reader takes a cut for the end."""
    packed = DAMAGE[damage]({".gz": gzip.compress, ".zst": checked_zstd}[packing](CONTENT))
    path = write(tmp_path / f"x.jsonl{packing}", packed)
    with pytest.raises(DataError, match=rf"x\.jsonl{packing}: damaged or cut short near byte \d+"):
        read(path)


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_the_records_before_the_damage_are_given_first(tmp_path: Path, packing: str) -> None:
    """Would catch a file held whole before its first record is given."""
    packed = PACKERS[packing](CONTENT)
    path = write(tmp_path / f"x.jsonl{packing}", packed[: len(packed) // 2])
    documents = read_file(list_files([str(path)])[0], ReadOptions(), Quarantine())
    seen = 0
    with pytest.raises(DataError):
        for _ in documents:
            seen += 1
    assert seen > 100


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_file_of_many_members_is_read_to_its_end(tmp_path: Path, packing: str) -> None:
    """Would catch reading that stops behind the first member, as crawls' files have thousands."""
    member = PACKERS[packing](CONTENT)
    documents, _ = read(write(tmp_path / f"x.jsonl{packing}", member * 3))
    assert len(documents) == 1500


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.jsonl.gz", CONTENT, "is not gzip, which its name says, but something else"),
        ("x.jsonl.zst", gzip.compress(CONTENT), "is not zstd, which its name says, but gzip"),
        ("x.jsonl", gzip.compress(CONTENT), "is gzip, which its name does not say"),
        ("x.txt", zstandard.compress(CONTENT), "is zstd, which its name does not say"),
        ("x.json", b"PK\3\4" + CONTENT, "is zip, which its name does not say"),
        ("x.jsonl.gz", gzip.compress(gzip.compress(CONTENT)), "holds gzip inside its compression"),
        ("x.jsonl.gz", gzip.compress(b"PK\3\4...", mtime=0), "holds zip inside its compression"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_named(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    """Would catch packed bytes read as text, or a bomb inside a bomb."""
    with pytest.raises(DataError, match=rf"{name}: {told}"):
        read(write(tmp_path / name, content))


def test_a_connection_that_has_ended_is_not_asked_again() -> None:
    """Would catch a warning of aiohttp's for each time that a buffer looks behind a file's end."""
    answers = iter([b"all of it", b"", b""])
    stored = io.BytesIO()
    stored.read = lambda size=-1: next(answers)  # type: ignore[method-assign]
    counted = Counted(InputFile("http://host/x.txt", 9, ""), stored)
    with io.BufferedReader(counted) as stream:
        assert stream.read() == b"all of it"
        assert [stream.peek(1), stream.read(1), stream.readline()] == [b""] * 3


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    "name", ["x.jsonl", "x.json", "x.txt", "x.warc.gz", "x.jsonl.zst", "x.parquet"]
)
def test_a_pointer_of_git_lfs_is_no_file(tmp_path: Path, name: str) -> None:
    """Would catch three lines in a set's stead taken for a text, or called damage."""
    with pytest.raises(DataError, match=rf"{name}: is a pointer of Git LFS.*git lfs pull"):
        read(write(tmp_path / name, POINTER))


SKIPPED = b"\x50\x2a\x4d\x18\4\0\0\0size"


RECORDS = [lines({"text": f"{number} {RANDOM.randbytes(900).hex()}"}) for number in range(20)]


def with_dictionary(records: list[bytes], packed: bool = True) -> bytes:
    """The records, a frame each, behind the dictionary that they are packed with."""
    dictionary = zstandard.train_dictionary(2000, RECORDS * 20)
    packer = zstandard.ZstdCompressor(dict_data=dictionary)
    content = dictionary.as_bytes()
    content = zstandard.compress(content) if packed else content
    head = b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little")
    return head + content + SKIPPED.join(map(packer.compress, records))


@pytest.mark.parametrize("packed", [True, False])
def test_frames_of_zstd_that_hold_no_text_are_read_past(tmp_path: Path, packed: bool) -> None:
    """Would catch what pzstd writes called no zstd, and archives that begin with the dictionary of
    their frames.
    """
    path = write(tmp_path / "x.jsonl.zst", SKIPPED + PACKERS[".zst"](CONTENT) + SKIPPED)
    assert len(read(path)[0]) == 500
    content = with_dictionary(RECORDS, packed)
    documents, _ = read(write(path, content))
    assert lines(*({"text": document.text} for document in documents)) == b"".join(RECORDS)
    for end in (6, 300, len(content) // 2, len(content) - 1):
        with pytest.raises(DataError, match=r"x\.jsonl\.zst: damaged or cut short near byte"):
            read(write(path, content[:end]))
    broken = content.replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe")
    with pytest.raises(DataError, match="damaged or cut short"):
        read(write(path, broken))


def test_a_window_too_large_is_no_damage(tmp_path: Path) -> None:
    """Would catch a user sent to fetch a file again that `zstd --long=31` packed."""
    for log, told in ((27, ""), (28, "window of more than 128 MiB"), (31, "window of more than")):
        how = zstandard.ZstdCompressionParameters(window_log=log)
        packer = zstandard.ZstdCompressor(compression_params=how).compressobj()
        content = packer.compress(CONTENT) + packer.flush()
        path = write(tmp_path / "x.jsonl.zst", content)
        if not told:
            assert len(read(path)[0]) == 500
            continue
        with pytest.raises(DataError, match=rf"x\.jsonl\.zst: was packed with a {told}"):
            read(path)


def test_a_bomb_behind_a_dictionary_is_refused(tmp_path: Path) -> None:
    """Would catch a frame unpacked whole before its size is judged."""
    path = write(tmp_path / "x.jsonl.zst", with_dictionary([*RECORDS, b"\0" * (2**26 + 2**23)]))
    with pytest.raises(DataError, match="as a zip bomb does"):
        read(path, options(expansion=1))


def bomb(packing: str, size: int, line: bytes) -> bytes:
    """A packed file that unpacks to `size` bytes of one line again and again, made in pieces."""
    target = io.BytesIO()
    piece = line * (2**20 // len(line))
    if packing == ".gz":
        with gzip.GzipFile(fileobj=target, mode="wb") as packer:
            for _ in range(size // len(piece)):
                packer.write(piece)
    else:
        with zstandard.ZstdCompressor().stream_writer(target, closefd=False) as writer:
            for _ in range(size // len(piece)):
                writer.write(piece)
    return target.getvalue()


@pytest.mark.parametrize(
    "line", [b"\0", b'{"text": "' + b"a" * 4080 + b'"}\n'], ids=["zeros", "records"]
)
@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path, packing: str, line: bytes) -> None:
    """Would catch a file that is unpacked whole, or read to its end, before anyone counts."""
    path = write(tmp_path / f"x.jsonl{packing}", bomb(packing, 300 * 2**20, line))
    peak, told = peak_mib(path, "record_mib=8, expansion=10")
    assert "x.jsonl" in told and "as a zip bomb does" in told
    assert "corpus.limits.expansion" in told
    # A record of 8 MiB, once more where it is joined, and slack; unpacked there are 300 MiB, and
    # the first 64 MiB are free.
    assert peak < 48


def test_what_may_expand_is_read(tmp_path: Path) -> None:
    """Negative control: the same file passes under a limit that allows it."""
    path = write(
        tmp_path / "x.jsonl.gz", bomb(".gz", 80 * 2**20, b'{"text": "' + b"a" * 4080 + b'"}\n')
    )
    documents, _ = read(path, options(expansion=1000))
    assert len(documents) > 10_000
    with pytest.raises(DataError, match="zip bomb"):
        read(path, options(expansion=1))


def test_the_bound_is_the_expansion_beyond_64_mib(tmp_path: Path) -> None:
    """Would catch small files refused, or a bound off by a factor."""
    (file,) = list_files([str(write(tmp_path / "x.jsonl.gz", b"x" * 1000))])
    bound = 200 * 1000 + FREE_EXPANSION
    check_expansion(file, 0, bound, Limits())
    with pytest.raises(DataError, match=f"1000 bytes unpack to more than {bound}"):
        check_expansion(file, 0, bound + 1, Limits())


def test_a_file_that_changed_or_went_since_it_was_listed_is_an_error(tmp_path: Path) -> None:
    """Would catch a corpus whose fingerprint tells of other bytes than those that were read."""
    path = write(tmp_path / "x.jsonl", CONTENT)
    (file,) = list_files([str(path)])
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(DataError, match=r"x\.jsonl: has changed since the build began"):
        list(read_file(file, ReadOptions(), Quarantine()))
    path.unlink()
    with pytest.raises(DataError, match=r"x\.jsonl: cannot be read: No such file"):
        list(read_file(file, ReadOptions(), Quarantine()))
