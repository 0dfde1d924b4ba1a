"""What a corpus of so much text needs: shards, index, memory and disk, each term by its formula."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.corpus.build.sketches import PERMUTATIONS, band_count

TASK_BYTES = 256 << 20
"""corpus.task_mib: input of one task, and text of one bucket of the shuffle."""
MOST_TASKS = 4096
RANGE_BYTES = 2 << 30
"""Input for which one task matches duplicates."""
SINGLE_TASKS = 4
"""Stages of one task: judge the input, decide on duplicates, fit the tokenizer, finish."""

SHARD_TOKENS = 100_000_000
"""A shard at scale (200 or 400 MB); the recipe's default suits a laptop."""
BLOCK_SHARDS = 8
TAR_BLOCK = 512

INDEX_BYTES_A_DOCUMENT = 32
NPY_HEADER_BYTES = 128
MANIFEST_BYTES_A_SHARD = 265
"""Measured: a manifest of thousands of shards with names of the builder's form."""
HELD_BYTES_A_SHARD = 492
"""Measured: an entry of a loaded manifest, as Python objects."""
ORDER_BYTES_A_SHARD = 8
PIECE_BYTES = 16
ROW_BYTES = 8
PLANNING_BYTES_A_PIECE = 67
"""Measured: the most that plan_block allocates at one time, of 80,000 pieces a shard."""

DIGEST_BYTES = 16
SKETCH_BYTES = 4 * PERMUTATIONS
BAND_BYTES = 12
"""A hash of 64 bits, and the document's number in its task."""
MATCHING_BYTES_A_DOCUMENT = 65
"""Measured: hash and document of one band while they are gathered and sorted."""
DECIDING_BYTES_A_PAIR = 270
"""Measured: pairs of 25 bytes as they are read, joined and sorted, their numbers as Python objects,
and a set of what is removed."""
AUDIT_BYTES_A_ROW = 62
"""Measured: Parquet with zstd; half of it is the text's hash."""


@dataclass(frozen=True, slots=True)
class TextKind:
    """Averages of a kind of text and its tokenizer.

    The defaults are those of the docstrings of the standard library, torch, transformers, sympy,
    numpy and networkx (21,386 documents, 20.5 MB) with the corpus's own tokenizer of 4,096 tokens;
    `duplicate_pairs` is an assumption.
    """

    document_bytes: float = 959.0
    """UTF-8 bytes of text a document."""
    token_bytes: float = 3.16
    """UTF-8 bytes of text a token, without the two tokens at a document's ends."""
    metadata_bytes: float = 102.5
    """Bytes of JSON stored with a document."""
    stored_token_bytes: int = 2
    """2 for a tokenizer of at most 65,536 tokens, else 4."""
    duplicate_pairs: float = 0.5
    """Pairs of duplicates a document."""


@dataclass(frozen=True, slots=True)
class ScaleRow:
    """One line of the table: a term's values, in `unit` ("" or "B"), one an amount of text."""

    term: str
    unit: str
    values: tuple[float, ...]


def document_count(text_bytes: float, kind: TextKind) -> float:
    """Documents: text bytes / bytes a document."""
    return text_bytes / kind.document_bytes


def token_count(text_bytes: float, kind: TextKind) -> float:
    """Stored tokens: text bytes / bytes a token, and 2 more a document, one at each end."""
    return text_bytes / kind.token_bytes + 2 * document_count(text_bytes, kind)


def task_count(text_bytes: float, task_bytes: int = TASK_BYTES) -> int:
    """Tasks that read and clean, and buckets that are made into shards:
    min(ceil(text bytes / task bytes), MOST_TASKS); above that, tasks grow.
    """
    return min(_ceil(text_bytes / task_bytes), MOST_TASKS)


def shard_count(tokens: float, shard_tokens: int = SHARD_TOKENS, buckets: int = 1) -> int:
    """Shards: buckets x ceil(tokens / buckets / tokens a shard).

    At most so many: a shard holds up to one document more than `shard_tokens`.
    """
    return buckets * _ceil(tokens / buckets / shard_tokens)


def shard_bytes(documents: float, tokens: float, kind: TextKind) -> float:
    """All tars: tokens x their size, the JSON, and for each of a document's two members a header of
    512 bytes and, on average, half a block of padding: documents x (JSON rounded up + 3/2 x 512 +
    512) + tokens x bytes.
    """
    metadata = _ceil(kind.metadata_bytes / TAR_BLOCK) * TAR_BLOCK
    return documents * (metadata + 2.5 * TAR_BLOCK) + tokens * kind.stored_token_bytes


def index_bytes(documents: float, shards: float) -> float:
    """All indexes on disk: 32 bytes a document (4 int64) + a header of 128 bytes a shard."""
    return documents * INDEX_BYTES_A_DOCUMENT + shards * NPY_HEADER_BYTES


def manifest_bytes(shards: float) -> float:
    """The manifest's size on disk: MANIFEST_BYTES_A_SHARD (two hashes in hex, name, counts)."""
    return shards * MANIFEST_BYTES_A_SHARD


def order_memory(shards: float) -> float:
    """Memory of a stream whatever block it is in: the manifest's entries as Python objects and the
    epoch's order of shards, shards x (492 + 8) bytes.
    """
    return shards * (HELD_BYTES_A_SHARD + ORDER_BYTES_A_SHARD)


def block_documents(documents: float, shards: float, block_shards: int = BLOCK_SHARDS) -> float:
    """Documents of one block: documents / shards x shards a block."""
    return documents / shards * min(block_shards, shards)


def plan_memory(documents: float, pieces: float | None = None, rows: float = 0) -> float:
    """Memory of one open block: the index (32 bytes a document) and the plan (16 bytes a piece,
    8 a row). `pieces` is one a document unless documents are longer than a sequence.
    """
    pieces = documents if pieces is None else pieces
    return documents * INDEX_BYTES_A_DOCUMENT + pieces * PIECE_BYTES + rows * ROW_BYTES


def planning_memory(documents: float, pieces: float | None = None) -> float:
    """The most memory while a block is planned: the index, and 67 bytes a piece."""
    pieces = documents if pieces is None else pieces
    return documents * INDEX_BYTES_A_DOCUMENT + pieces * PLANNING_BYTES_A_PIECE


def cache_bytes(
    all_shards_bytes: float, shards: float, block_shards: int = BLOCK_SHARDS, ahead: int = 1
) -> float:
    """Local cache of remote shards: the block that is read and `ahead` blocks read ahead,
    (1 + ahead) x shards a block x bytes a shard.
    """
    return min(all_shards_bytes, (1 + ahead) * block_shards * all_shards_bytes / shards)


def signature_bytes(documents: float, near: float | None = 0.8) -> float:
    """Disk for finding duplicates: a digest of 16 bytes, a sketch of 128 x 4 bytes, and
    (1 + bands) x 12 bytes of sorted hashes a document. `near` is the similarity sought, which
    decides the bands; None for exact duplicates alone.
    """
    bands = 0 if near is None else band_count(near)
    sketch = 0 if near is None else SKETCH_BYTES
    return documents * (DIGEST_BYTES + sketch + (1 + bands) * BAND_BYTES)


def range_count(text_bytes: float, range_bytes: int = RANGE_BYTES) -> int:
    """Tasks that match duplicates, each in one range of hashes: ceil(text bytes / range bytes)."""
    return _ceil(text_bytes / range_bytes)


def matching_memory(documents: float, ranges: int) -> float:
    """Memory of a task that matches: documents / ranges x 65 bytes, a band at a time; the pairs
    that it finds come on top.
    """
    return documents / ranges * MATCHING_BYTES_A_DOCUMENT


def deciding_memory(documents: float, kind: TextKind) -> float:
    """Memory of the one task that decides which duplicate stays: it holds the pairs of one reading
    task's `documents` at a time, pairs x 270 bytes.
    """
    return documents * kind.duplicate_pairs * DECIDING_BYTES_A_PAIR


def slurm_tasks(tasks: int, ranges: int, validation: float = 0.02) -> int:
    """Tasks of a whole build: tasks that read + tasks that clean + ranges + buckets + those of the
    validation split + 4 of one task each.
    """
    return 3 * tasks + ranges + max(1, round(tasks * validation)) + SINGLE_TASKS


def audit_bytes(rows: float) -> float:
    """Size of the audit: 62 bytes for each document dropped or changed, once a rule."""
    return rows * AUDIT_BYTES_A_ROW


def scale_table(
    bytes_of_text: Sequence[float],
    kind: TextKind | None = None,
    shard_tokens: int = SHARD_TOKENS,
    block_shards: int = BLOCK_SHARDS,
) -> list[ScaleRow]:
    """Every term for each amount of text (UTF-8 bytes), as if no document were dropped."""
    kind = kind or TextKind()
    columns = [_column(size, kind, shard_tokens, block_shards) for size in bytes_of_text]
    terms = columns[0] if columns else {}
    return [
        ScaleRow(term, unit, tuple(column[term, unit] for column in columns))
        for term, unit in terms
    ]


def _column(
    size: float, kind: TextKind, shard_tokens: int, block_shards: int
) -> dict[tuple[str, str], float]:
    documents, tokens = document_count(size, kind), token_count(size, kind)
    tasks, ranges = task_count(size), range_count(size)
    shards = shard_count(tokens, shard_tokens, tasks)
    stored = shard_bytes(documents, tokens, kind)
    block = block_documents(documents, shards, block_shards)
    return {
        ("documents", ""): documents,
        ("tokens", ""): tokens,
        ("shards", ""): shards,
        ("shards on disk", "B"): stored,
        ("index on disk", "B"): index_bytes(documents, shards),
        ("manifest", "B"): manifest_bytes(shards),
        ("memory of a stream: manifest and order", "B"): order_memory(shards),
        (f"memory of a stream: a block of {block_shards} shards", "B"): plan_memory(block),
        ("memory of a stream: most, while it plans", "B"): planning_memory(block),
        ("cache of remote shards: a block, and one ahead", "B"): cache_bytes(
            stored, shards, block_shards
        ),
        ("duplicates: digests, sketches and hashes on disk", "B"): signature_bytes(documents),
        ("duplicates: memory of a matching task", "B"): matching_memory(documents, ranges),
        ("duplicates: memory of the deciding task", "B"): deciding_memory(documents / tasks, kind),
        ("SLURM tasks: reading (and as many cleaning)", ""): tasks,
        ("SLURM tasks: matching", ""): ranges,
        ("SLURM tasks: all", ""): slurm_tasks(tasks, ranges),
        ("audit, a row for every document", "B"): audit_bytes(documents),
    }


def markdown_table(rows: Sequence[ScaleRow], bytes_of_text: Sequence[float]) -> str:
    """The rows as a Markdown table, decimal units (1 kB is 1,000 bytes)."""
    heads = " | ".join(f"{shown(size, 'B')} of text" for size in bytes_of_text)
    lines = [f"| | {heads} |", "|---|" + "---:|" * len(bytes_of_text)]
    for row in rows:
        values = " | ".join(shown(value, row.unit) for value in row.values)
        lines.append(f"| {row.term} | {values} |")
    return "\n".join(lines)


def shown(value: float, unit: str) -> str:
    """A number with three digits and a decimal prefix: 1.04 billion, 33.4 GB; small counts
    whole.
    """
    names = ("B", "kB", "MB", "GB", "TB", "PB") if unit else ("", "", "million", "billion")
    if not unit and value < 1e6:
        return f"{value:,.0f}"
    power = 0
    while value >= 999.5 and power < len(names) - 1:
        value, power = value / 1000, power + 1
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    text = f"{value:,.{digits}f}" if power else f"{value:,.0f}"
    return f"{text} {names[power]}"


def scale_command(
    bytes_of_text: Sequence[float],
    document_bytes: float | None = None,
    token_bytes: float | None = None,
) -> None:
    """Print the table as Markdown, and what it was computed from; None: as measured."""
    usual = TextKind()
    kind = TextKind(document_bytes or usual.document_bytes, token_bytes or usual.token_bytes)
    print(markdown_table(scale_table(bytes_of_text, kind), bytes_of_text))
    print(
        f"\n{kind.document_bytes:g} bytes a document, {kind.token_bytes:g} bytes a token, stored in"
        f" {kind.stored_token_bytes} bytes, {SHARD_TOKENS:,} tokens a shard,"
        f" {kind.duplicate_pairs:g} pairs of duplicates a document, nothing dropped"
    )


def _ceil(value: float) -> int:
    return max(1, -int(-value // 1))
