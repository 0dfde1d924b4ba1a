"""Build a corpus: read, judge, deduplicate, tokenize, write shards; stop anywhere, continue."""

import logging
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from trainer.corpus.build.plan import Plan, make_plan
from trainer.corpus.build.provenance import corpus_inputs, corpus_key, corpus_settings, input_files
from trainer.corpus.build.unfinished import (
    existing_corpus,
    is_taken,
    is_whole,
    open_partial,
    publish,
)
from trainer.data.manifest import Manifest, load_manifest
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import DataError, RecipeError
from trainer.files import build_lock, cache_folder
from trainer.recipe import CorpusSection, Recipe

log = logging.getLogger(__name__)

Place = Literal["local", "slurm"]


def build_from_recipe(recipe: Recipe, progress: bool = True, on: Place = "local") -> Path:
    """ensure_corpus, and a line on standard output that says what there is and where."""
    folder, manifest = ensure_corpus(recipe, progress, on)
    counts = [
        f"{name} {split.documents:,} documents, {split.tokens:,} tokens, {len(split.shards)} shards"
        for name, split in manifest.splits.items()
    ]
    print(f"{folder}: {'; '.join(counts)}")
    return folder


def ensure_corpus(
    recipe: Recipe, progress: bool = True, on: Place = "local"
) -> tuple[Path, Manifest]:
    """The recipe's own corpus, built if absent; of several processes one builds.

    Raises RecipeError when the recipe has no `corpus` section, and what build_corpus raises.
    """
    if recipe.corpus is None:
        raise RecipeError("the recipe has no corpus section: add `corpus:` to say what to build")
    folder = corpus_folder(recipe.corpus, recipe.tokenizer)
    return folder, build_corpus(recipe.corpus, recipe.tokenizer, folder, progress, on)


def corpus_folder(section: CorpusSection, tokenizer: str | None = None) -> Path:
    """Where the section's corpus lies: its `path`, or the cache, named by settings and versions.

    `tokenizer` is the Hugging Face folder that the recipe names, or None.
    """
    if section.path is not None:
        return Path(section.path).expanduser()
    fingerprint = load_tokenizer(tokenizer).fingerprint if tokenizer else None
    return cache_folder("corpora") / corpus_key(section, fingerprint)


def build_corpus(
    section: CorpusSection,
    tokenizer: str | None,
    out: str | Path,
    progress: bool = True,
    on: Place = "local",
) -> Manifest:
    """Build the corpus into `out`, under a lock, by way of `out`.partial; a stopped build
    continues.

    `tokenizer` is a Hugging Face folder, or None to train one of `section.vocab` tokens. `on` says
    where its tasks run: in processes of this machine, or as jobs of a SLURM cluster, which must see
    `out` under the same path. A corpus that is already at `out` is returned as it is. Raises
    DataError, and leaves what is there intact, when `out` holds something else, when the sources
    are bad or empty, or when the disk refuses; ClusterError when the cluster does.
    """
    if on == "slurm" and section.slurm is None:
        raise RecipeError(
            "corpus.slurm: says what to ask of the cluster, and is absent; at least name a"
            " partition: corpus.slurm.partition=NAME"
        )
    out = Path(out).absolute()
    fingerprint = load_tokenizer(tokenizer).fingerprint if tokenizer else None
    settings = corpus_settings(section, fingerprint)
    files = input_files(section)
    inputs = corpus_inputs(section, files)
    try:
        with build_lock(out):
            if is_taken(out):
                return existing_corpus(out, settings, inputs)
            key = corpus_key(section, fingerprint, files)
            partial, continued = open_partial(out, key, settings, inputs)
            log.info("%s the corpus %s", "continuing" if continued else "building", out)
            if not is_whole(partial):
                about = (section, tokenizer, settings, inputs)
                plan = make_plan(partial, out, files, *about)
                _run(plan, on, progress)
            publish(partial, out)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise DataError(
            f"cannot build the corpus {out}: {error.strerror or error}{where}; what is done is"
            " kept, build it again to continue"
        ) from error
    return load_manifest(out)


def _run(plan: Plan, on: Place, progress: bool) -> None:
    from trainer.corpus.build.execute import run_locally, run_on_slurm

    with _progress(progress) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, ended: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=ended)

        (run_locally if on == "local" else run_on_slurm)(plan, advance)


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
