"""`corpus`: how `lyceum corpus build` makes shards out of documents."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.recipe.canaries import CanariesSection
from trainer.recipe.curation import CurationRules, Limits
from trainer.recipe.section import Count, Names, Positive, Section

SOURCE_KEYS = {"embedded": "packages", "text": "files", "webdataset": "files"}
"""The key that names what each source reads."""


class SlurmSection(Section):
    """What a build asks of a cluster: `lyceum corpus build RECIPE --on slurm`."""

    partition: str
    """Where the jobs go."""
    time: str = "24:00:00"
    """Time limit of a task."""
    memory_gib: Positive = 4
    """Memory of a task."""
    cpus: Positive = 1
    """Cores of a task; the tokenizer uses them all."""
    tasks_at_once: Positive | None = None
    """Most tasks of a stage that run at the same time; none: as many as fit."""
    setup: str | None = None
    """Shell line that prepares a job's environment; none: this environment is activated."""
    arguments: dict[str, str] = Field(default_factory=dict)
    """Further options of sbatch, by their long names."""


class CorpusSection(Section):
    """Where documents come from and what becomes of them."""

    source: Literal["embedded", "text", "webdataset"] = "embedded"
    """`embedded`: docstrings of this machine's Python packages; `text`: the files below;
    `webdataset`: the samples of the tars below."""
    files: Names = ()
    """source text: paths, globs, s3:// and https:// addresses of .jsonl, .json, .parquet, .txt,
    .md, .html, .warc and .wet files, plain or with .gz or .zst; hf://org/set for a set of the
    Hugging Face hub. Of a .warc the pages (a body packed by gzip, deflate, br or zstd is unpacked,
    one that is cut is set aside) and the texts of conversion records, which are what a .wet holds.
    Source webdataset: tars, as `shards/{000..999}.tar`, and energon folders, as in
    `data.mixture`."""
    packages: Names = ("stdlib",)
    """source embedded: "stdlib", "topics", "all", or names of installed packages."""
    text_key: str = "text"
    """source text: the field or column that holds the text; source webdataset: the member, as in
    `data.mixture.[].text`, where the default `text` stands for `txt, text, json[text]`."""
    id_key: str = "id"
    """source text: the field or column that names a document; absent: file and line do."""
    anonymous: bool = False
    """Read s3:// without credentials."""
    path: str | None = None
    """Where the shards go; none: the cache, under the fingerprint of this section."""
    vocab: Annotated[int, Field(ge=259)] = 4096
    """Size of the tokenizer trained on the documents, where the recipe names no tokenizer."""
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.02
    """Share of the documents held out, chosen by their hash."""
    shard_tokens: Positive = 1_000_000
    """Tokens after which a shard is closed."""
    minimum_characters: Count = 200
    """Shorter documents are left out."""
    exact_duplicates: bool = True
    """Drop a document whose text, white space aside, is that of an earlier one."""
    near_duplicates: Annotated[float, Field(gt=0.0, le=1.0)] | None = 0.8
    """Jaccard similarity, of runs of three words, above which the later of two documents is
    dropped; none: all are kept. Where no spaces part words (Chinese, Japanese, Thai, Lao, Khmer,
    Burmese), a letter counts as a word."""
    rules: CurationRules | None = CurationRules()
    """What a document must pass; none: every document passes."""
    limits: Limits = Limits()
    """What a build refuses to swallow."""
    canaries: CanariesSection | None = None
    """What is planted to measure how much a model memorises; none: nothing is."""
    workers: Positive | None = None
    """Local processes; none: one a core."""
    task_mib: Positive = 256
    """Input of one task; a larger file is one task all the same."""
    slurm: SlurmSection | None = None
    """What `--on slurm` asks of the cluster."""
    seed: Count = 0
    """Decides the hash functions that near-duplicates are found by, and the documents' order."""
