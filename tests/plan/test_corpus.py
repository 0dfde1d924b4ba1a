"""Every term of the scale table is held against what a small corpus really takes."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import webdataset

from tests.traced import traced
from trainer.cli import main
from trainer.corpus.build import plan
from trainer.corpus.build.duplicates import MATCHES, PAIR, decide, match_range
from trainer.corpus.build.record import TaskRecord
from trainer.corpus.build.sketches import PERMUTATIONS, Sketches, array_path, band_count
from trainer.corpus.build.staged import save_array
from trainer.corpus.rules.rule import Finding
from trainer.data.manifest import Manifest, Shard, load_manifest, total_split, write_manifest
from trainer.data.order import shard_order
from trainer.data.packing import plan_block
from trainer.data.shards import ShardReader, seal_shard
from trainer.data.tokenizer import Tokenizer, train_tokenizer
from trainer.plan import corpus as scale
from trainer.plan.corpus import (
    MOST_TASKS,
    TextKind,
    audit_bytes,
    block_documents,
    cache_bytes,
    deciding_memory,
    document_count,
    index_bytes,
    manifest_bytes,
    markdown_table,
    matching_memory,
    order_memory,
    plan_memory,
    planning_memory,
    range_count,
    scale_table,
    shard_bytes,
    shard_count,
    shown,
    signature_bytes,
    slurm_tasks,
    task_count,
    token_count,
)
from trainer.recipe import CorpusSection

SHARD_TOKENS = 2_000
DOCUMENTS = 400


class Built:
    """A corpus of random words, written as the builder writes, and what was put into it."""

    def __init__(self, folder: Path):
        dice = np.random.default_rng(0)
        words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]
        texts = [
            " ".join(dice.choice(words, size)) for size in dice.integers(5, 200, DOCUMENTS).tolist()
        ]
        self.folder = folder
        self.tokenizer: Tokenizer = train_tokenizer(texts, 300)
        self.bytes = sum(len(text.encode()) for text in texts)
        self.tokens_inside = 0
        self.metadata = 0
        self.shards: list[Shard] = []
        (folder / "train").mkdir(parents=True)
        rest = iter(enumerate(texts))
        for number in range(10**6):
            self._write(f"train/shard-00000-{number:05d}.tar", rest)
            if sum(shard.documents for shard in self.shards) == DOCUMENTS:
                break

    def _write(self, name: str, rest) -> None:
        size = 0
        with webdataset.TarWriter(str(self.folder / name), mtime=0) as tar:
            for number, text in rest:
                ids = self.tokenizer.encode(text)
                about = {"id": f"document {number}", "source": "test", "characters": len(text)}
                data = json.dumps(about).encode()
                tokens = np.array([0, *ids, 0], dtype="uint16").tobytes()
                tar.write({"__key__": f"{number:014d}", "json": data, "tokens": tokens})
                self.metadata += len(data)
                self.tokens_inside += len(ids)
                size += len(ids) + 2
                if size >= SHARD_TOKENS:
                    break
        self.shards.append(seal_shard(self.folder, name, "uint16"))

    @property
    def kind(self) -> TextKind:
        """The averages of this very text."""
        return TextKind(
            document_bytes=self.bytes / DOCUMENTS,
            token_bytes=self.bytes / self.tokens_inside,
            metadata_bytes=self.metadata / DOCUMENTS,
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    return Built(tmp_path_factory.mktemp("scale") / "corpus")


def test_documents_and_tokens_are_those_stored(built: Built) -> None:
    """Would catch the tokens at a document's ends forgotten."""
    assert document_count(built.bytes, built.kind) == pytest.approx(DOCUMENTS)
    stored = sum(shard.tokens for shard in built.shards)
    assert token_count(built.bytes, built.kind) == pytest.approx(stored)
    assert token_count(built.bytes, built.kind) - built.tokens_inside == pytest.approx(800)


def test_shards_are_at_most_those_computed(built: Built) -> None:
    """Would catch a count that rounds down, or forgets that each bucket has a last, short shard."""
    tokens = sum(shard.tokens for shard in built.shards)
    longest = max(shard.tokens for shard in built.shards)
    # A shard holds up to a document more than it should, so that there may be fewer.
    least = tokens / longest
    assert least <= len(built.shards) <= shard_count(tokens, SHARD_TOKENS) <= least * 1.25 + 1
    assert shard_count(10_001, 1_000) == 11
    assert shard_count(10_001, 1_000, buckets=4) == 12


def test_bytes_on_disk_are_those_of_the_files(built: Built) -> None:
    """Would catch tar's headers and padding left out, or an index of another width."""
    tokens, shards = sum(shard.tokens for shard in built.shards), len(built.shards)
    real = sum(shard.bytes for shard in built.shards)
    # The padding behind the tokens is half a block on average, and 400 documents are not many;
    # the end of each tar is padded to 10 KiB.
    ends = shards * 10_240
    assert real - ends < shard_bytes(DOCUMENTS, tokens, built.kind) < real
    assert shard_bytes(DOCUMENTS, tokens, built.kind) == pytest.approx(real - ends / 2, rel=0.05)
    index = sum((built.folder / shard.index_name).stat().st_size for shard in built.shards)
    assert index_bytes(DOCUMENTS, shards) == index


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A manifest alone, of 2,000 shards as large as those of a large corpus."""
    folder = tmp_path_factory.mktemp("manifest")
    shards = [
        Shard(
            f"train/shard-{n // 80:05d}-{n % 80:05d}.tar",
            *(2 * 10**8 + n, f"{n:064x}", f"{n + 1:064x}", 300_000 + n, 10**8 + n),
        )
        for n in range(2000)
    ]
    splits = {"train": total_split(shards), "validation": total_split([])}
    write_manifest(folder, Manifest("a" * 64, 50_000, 0, "uint16", splits))
    return folder


def test_the_manifest_takes_what_is_computed(large: Path) -> None:
    """Would catch a hash counted in bytes instead of hex, or Python's own cost forgotten."""
    real = (large / "manifest.json").stat().st_size
    assert manifest_bytes(2000) == pytest.approx(real, rel=0.05)

    def load() -> tuple[Manifest, list[int]]:
        manifest = load_manifest(large)
        return manifest, shard_order(len(manifest.splits["train"].shards), 0, 0, 0)

    took = traced(load, lambda loaded: len(loaded[1]))
    assert took.result == 2000
    assert order_memory(2000) == pytest.approx(took.held, rel=0.05)


def test_a_block_takes_what_is_computed() -> None:
    """Would catch a plan that has come to hold more a document than the table says."""
    dice = np.random.default_rng(0)
    lengths = [dice.integers(2, 600, 40_000) for _ in range(2)]
    took = traced(
        lambda: plan_block(lengths, 4096, "best_fit", 0, (0, 0, 0)), lambda plan: plan.rows
    )
    # The lengths were made before, as columns of the index.
    index = 32 * 80_000
    assert plan_memory(80_000, rows=took.result) == pytest.approx(took.held + index, rel=0.05)
    # numpy's version decides how many temporary arrays there are.
    assert planning_memory(80_000) == pytest.approx(took.most + index, rel=0.25)


def test_the_index_of_an_open_shard_is_in_memory(built: Built) -> None:
    """Would catch the index left out of a block's memory."""
    shard = built.shards[0]
    took = traced(lambda: ShardReader(built.folder, shard, "uint16", verify="size"))
    assert took.held > 32 * shard.documents


def test_blocks_and_caches_are_bounded_by_what_there_is() -> None:
    """Would catch a small corpus that is said to need more cache than it is large."""
    assert block_documents(1000, 10, 4) == 400
    assert block_documents(1000, 2, 8) == 1000
    assert cache_bytes(1e9, 100, block_shards=8, ahead=1) == 1.6e8
    assert cache_bytes(1e9, 10, block_shards=8, ahead=1) == 1e9


@pytest.mark.parametrize("near", [0.8, None])
def test_signatures_are_those_on_disk(tmp_path: Path, near: float | None) -> None:
    """Would catch a band, the exact digest or the document's number left out."""
    sketches = Sketches(tmp_path, 0, 0, near)
    sketches.add([f"words of document {number} and others" for number in range(500)])
    sketches.save()
    files = list(array_path(tmp_path, 0, "digests").parent.glob("*.npy"))
    real = sum(path.stat().st_size for path in files) - 128 * len(files)
    assert signature_bytes(500, near) == real


def write_hashes(folder: Path, tasks: int, documents: int) -> None:
    """Random hashes of so many documents a task, none of them alike."""
    dice = np.random.default_rng(0)
    bands = 1 + band_count(0.8)
    for rank in range(tasks):
        hashes = np.sort(dice.integers(0, 2**64, (bands, documents), dtype=np.uint64), axis=1)
        arrays = {
            "hashes": hashes,
            "documents": np.tile(np.arange(documents, dtype=np.uint32), (bands, 1)),
            "digests": np.zeros((documents, 2), np.uint64),
            "sketches": np.zeros((documents, PERMUTATIONS), np.uint32),
        }
        for name, array in arrays.items():
            save_array(array_path(folder, rank, name), array)


def test_a_matching_task_takes_what_is_computed(tmp_path: Path) -> None:
    """Would catch all bands, or all ranges, in memory at one time."""
    write_hashes(tmp_path, tasks=2, documents=40_000)
    for ranges in (1, 4):
        took = traced(partial(match_range, tmp_path, 2, 0, ranges, True, 0.8))
        # A range has its share of the hashes give or take their chance, and a fixed rest.
        assert matching_memory(80_000, ranges) == pytest.approx(took.most, rel=0.2)


def test_the_deciding_task_takes_what_is_computed(tmp_path: Path) -> None:
    """Would catch the one task that holds all pairs counted too small."""
    pairs = np.empty(50_000, PAIR)
    pairs["first"] = np.arange(50_000) * 2
    pairs["later"] = np.arange(50_000) * 2 + 1
    pairs["similarity"], pairs["exact"] = 0.9, False
    save_array(tmp_path / MATCHES / "00000.npy", pairs)
    took = traced(lambda: decide(tmp_path, 1, 1))
    kind = replace(TextKind(), duplicate_pairs=0.5)
    # Every pair removes a document here; where documents are in several pairs, fewer go.
    assert deciding_memory(100_000, kind) == pytest.approx(took.most, rel=0.25)


def test_the_audit_takes_what_is_computed(tmp_path: Path) -> None:
    """Would catch a column added to every row, or compression lost."""
    record = TaskRecord(str(tmp_path), "read")
    dice = np.random.default_rng(0)
    reasons = ["stop words", "email", "language"]
    words = [f"{word:x}" for word in dice.integers(0, 2**24, 3000).tolist()]
    for number in range(20_000):
        finding = Finding(reasons[number % 3], float(dice.random()), 0.3)
        name = ".".join(words[place] for place in dice.integers(0, 3000, 4).tolist())
        record.found(name, name.partition(".")[0], "quality", "dropped", finding, name)
    record.finish()
    real = sum(path.stat().st_size for path in (tmp_path / "audit").glob("*.parquet"))
    # Half a row is the hash, which does not compress; the names do as they come.
    assert audit_bytes(20_000) == pytest.approx(real, rel=0.25)


def test_tasks_are_those_of_the_plan() -> None:
    """Would catch a table that computes by other constants than the builder."""
    assert plan.MOST_TASKS == scale.MOST_TASKS
    assert plan.RANGE_BYTES == scale.RANGE_BYTES
    assert CorpusSection().task_mib << 20 == scale.TASK_BYTES
    assert task_count(1) == 1 and task_count(2**28 * 10 + 1) == 11 and task_count(1e15) == 4096
    assert range_count(2**31) == 1 and range_count(2**31 + 1) == 2
    assert slurm_tasks(tasks=100, ranges=7) == 100 + 100 + 7 + 100 + 2 + 4


def test_the_table_has_every_amount_and_grows_with_it() -> None:
    """Would catch a column computed for another column's amount."""
    rows = scale_table([1e12, 1e14])
    by_term = {row.term: row.values for row in rows}
    assert by_term["documents"][1] == pytest.approx(100 * by_term["documents"][0])
    assert by_term["SLURM tasks: reading (and as many cleaning)"][1] == MOST_TASKS
    assert all(first <= second for first, second in by_term.values())
    assert scale_table([1e14])[2].values == (by_term["shards"][1],)
    table = markdown_table(rows, [1e12, 1e14]).splitlines()
    assert table[0] == "| | 1.00 TB of text | 100 TB of text |"
    assert len(table) == len(rows) + 2


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        *((999, "B", "999 B"), (1000, "B", "1.00 kB"), (33.4e9, "B", "33.4 GB")),
        *((999_999, "", "999,999"), (1.04e9, "", "1.04 billion"), (5e12, "", "5,000 billion")),
        (999.6e6, "B", "1.00 GB"),
    ],
)
def test_numbers_are_shown_with_three_digits(value: float, unit: str, text: str) -> None:
    """Would catch 1000 MB, or a count that reads as bytes."""
    assert shown(value, unit) == text


def test_the_command_prints_the_table(capsys) -> None:
    """Would catch averages given on the command line that change nothing."""
    assert main(["corpus", "scale", "--bytes", "3e12", "--document-bytes", "3000"]) == 0
    printed = capsys.readouterr().out
    assert "| documents | 1.00 billion |" in printed and "3.00 TB of text" in printed
    assert main(["corpus", "scale", "--bytes", "much"]) == 2
    assert main(["corpus", "scale", "--bytes", "nan"]) == 2
