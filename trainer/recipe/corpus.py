"""`corpus`: how `lyceum corpus build` makes shards out of documents."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.recipe.section import Count, Names, Positive, Section


class CorpusSection(Section):
    """Where documents come from and what becomes of them."""

    source: Literal["embedded", "text"] = "embedded"
    """`embedded`: docstrings of this machine's Python packages; `text`: the files below."""
    files: Names = ()
    """source text: paths or globs of .txt, .md and .jsonl files."""
    packages: Names = ("stdlib",)
    """source embedded: "stdlib", "topics", "all", or names of installed packages."""
    path: str | None = None
    """Where the shards go; none: the cache, under the fingerprint of this section."""
    vocab: Annotated[int, Field(ge=257)] = 4096
    """Size of the tokenizer trained on the documents, where the recipe names no tokenizer."""
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.02
    """Share of the documents held out, chosen by their hash."""
    shard_tokens: Positive = 1_000_000
    """Tokens after which a shard is closed."""
    minimum_characters: Count = 200
    """Shorter documents are left out."""
    near_duplicates: Annotated[float, Field(gt=0.0, le=1.0)] | None = 0.8
    """Jaccard similarity above which the later of two documents is dropped; none: all are kept."""
    workers: Positive | None = None
    """Processes that read documents; none: one a core."""
    seed: Count = 0
    """Decides the hash functions that near-duplicates are found by."""
