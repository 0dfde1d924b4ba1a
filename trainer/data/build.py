"""Build a corpus: read, drop, deduplicate, train the tokenizer, write shards; stop anywhere,
continue.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from trainer import __version__
from trainer.data.docstrings import read_docstrings
from trainer.data.documents import Document, Ledger, read_text_files, text_files
from trainer.data.duplicates import remove_duplicates
from trainer.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    load_manifest,
    token_dtype_for,
    write_manifest,
)
from trainer.data.packages import resolve_packages, source_files
from trainer.data.partial import build_lock, existing_corpus, is_taken, open_partial, publish
from trainer.data.provenance import corpus_inputs, corpus_key, corpus_settings
from trainer.data.staging import StagedDocuments, stage_documents, staged_summary
from trainer.data.tokenizer import MAIN_FILE, Tokenizer, load_tokenizer, train_tokenizer
from trainer.data.writer import write_split
from trainer.errors import DataError, RecipeError
from trainer.recipe import CorpusSection, Recipe

log = logging.getLogger(__name__)

TOKENIZER = "tokenizer"
SPLITS = ("train", "validation")
TOKENIZER_CHARACTERS = 200_000_000
"""The tokenizer is trained on the first training documents that hold this much text."""


def build_from_recipe(recipe: Recipe, progress: bool = True) -> Path:
    """ensure_corpus, and a line on standard output that says what there is and where."""
    folder = ensure_corpus(recipe, progress)
    counts = [
        f"{name} {split.documents:,} documents, {split.tokens:,} tokens, {len(split.shards)} shards"
        for name, split in load_manifest(folder).splits.items()
    ]
    print(f"{folder}: {'; '.join(counts)}")
    return folder


def ensure_corpus(recipe: Recipe, progress: bool = True) -> Path:
    """The folder of the recipe's own corpus, built if absent; of several processes one builds.

    Raises RecipeError when the recipe has no `corpus` section, and what build_corpus raises.
    """
    if recipe.corpus is None:
        raise RecipeError("the recipe has no corpus section: add `corpus:` to say what to build")
    folder = corpus_folder(recipe.corpus, recipe.tokenizer)
    build_corpus(recipe.corpus, recipe.tokenizer, folder, progress)
    return folder


def corpus_folder(section: CorpusSection, tokenizer: str | None = None) -> Path:
    """Where the section's corpus lies: its `path`, or the cache, named by settings and versions.

    `tokenizer` is the Hugging Face folder that the recipe names, or None.
    """
    if section.path is not None:
        return Path(section.path).expanduser()
    cache = Path(os.environ.get("LYCEUM_CACHE") or "~/.cache/lyceum").expanduser()
    fingerprint = load_tokenizer(tokenizer).fingerprint if tokenizer else None
    return cache / "corpora" / corpus_key(section, fingerprint)


def build_corpus(
    section: CorpusSection, tokenizer: str | None, out: str | Path, progress: bool = True
) -> Manifest:
    """Build the corpus into `out`, under a lock, by way of `out`.partial; a stopped build
    continues.

    `tokenizer` is a Hugging Face folder, or None to train one of `section.vocab` tokens. A corpus
    that is already at `out` is returned as it is. Raises DataError, and leaves what is there
    intact, when `out` holds something else, when the sources are bad or empty, or when the disk
    refuses.
    """
    out = Path(out)
    given = load_tokenizer(tokenizer) if tokenizer else None
    settings = corpus_settings(section, given.fingerprint if given else None)
    inputs = corpus_inputs(section)
    try:
        with build_lock(out):
            if is_taken(out):
                return existing_corpus(out, settings, inputs)
            key = corpus_key(section, settings["tokenizer"])
            partial, continued = open_partial(out, key, settings, inputs)
            log.info("%s the corpus %s", "continuing" if continued else "building", out)
            if not (partial / MANIFEST_NAME).is_file():
                with _progress(progress) as bar:
                    manifest = _fill(partial, section, given, settings, inputs, bar)
                write_manifest(partial, manifest)
            publish(partial, out)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise DataError(
            f"cannot build the corpus {out}: {error.strerror or error}{where}; what is done is"
            " kept, build it again to continue"
        ) from error
    return load_manifest(out)


def _fill(
    partial: Path,
    section: CorpusSection,
    given: Tokenizer | None,
    settings: dict[str, Any],
    inputs: dict[str, Any],
    bar: Progress,
) -> Manifest:
    summary = staged_summary(partial) or _stage(partial, section, bar)
    documents = StagedDocuments(partial, section.seed, section.validation)
    tokenizer = _tokenizer(partial, section, given, documents, bar)
    task = bar.add_task("shards", total=sum(documents.count(split) for split in SPLITS))

    def advance(count: int) -> None:
        bar.advance(task, count)

    splits = {
        split: write_split(partial, split, documents, tokenizer, section.shard_tokens, advance)
        for split in SPLITS
    }
    return Manifest(
        tokenizer_fingerprint=tokenizer.fingerprint,
        tokenizer_size=tokenizer.size,
        end_of_text=tokenizer.end_of_text,
        token_dtype=token_dtype_for(tokenizer.size),
        splits=splits,
        provenance={
            "builder": f"lyceum {__version__}",
            "settings": settings,
            "inputs": inputs,
            "documents": summary,
        },
    )


def _stage(partial: Path, section: CorpusSection, bar: Progress) -> dict[str, Any]:
    ledger = Ledger()
    documents: Iterator[Document]
    if section.source == "embedded":
        files = source_files(resolve_packages(section.packages))
        task = bar.add_task("docstrings", total=sum(file.bytes for file in files))
        documents = read_docstrings(
            files,
            section.minimum_characters,
            section.workers,
            ledger,
            lambda size: bar.advance(task, size),
        )
    else:
        paths = text_files(section.files)
        task = bar.add_task("texts", total=sum(path.stat().st_size for path in paths))
        documents = read_text_files(
            paths, section.minimum_characters, ledger, lambda size: bar.advance(task, size)
        )
    if section.near_duplicates is not None:
        documents = remove_duplicates(documents, section.near_duplicates, section.seed, ledger)
    return stage_documents(partial, documents, ledger)


def _tokenizer(
    partial: Path,
    section: CorpusSection,
    given: Tokenizer | None,
    documents: StagedDocuments,
    bar: Progress,
) -> Tokenizer:
    folder = partial / TOKENIZER
    if (folder / MAIN_FILE).is_file():
        return load_tokenizer(folder)
    task = bar.add_task("tokenizer", total=1)
    # Validation documents stay unseen by everything that is fitted.
    tokenizer = given or train_tokenizer(_beginning(documents.read("train")), section.vocab)
    tokenizer.save(folder)
    bar.advance(task)
    return tokenizer


def _beginning(records: Iterator[dict[str, str]]) -> Iterator[str]:
    characters = 0
    for record in records:
        yield record["text"]
        characters += len(record["text"])
        if characters >= TOKENIZER_CHARACTERS:
            return


def _progress(shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not shown or not console.is_terminal,
    )
