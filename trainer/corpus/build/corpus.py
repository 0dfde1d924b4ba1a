"""Build a corpus: read, filter, deduplicate, tokenize, write shards; a stopped build continues."""

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

from trainer.corpus.build.plan import QUARANTINE, BuildPlan, make_plan
from trainer.corpus.build.provenance import (
    Input,
    corpus_inputs,
    corpus_key,
    corpus_settings,
    text_input,
)
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
from trainer.recipe import CorpusSection

log = logging.getLogger(__name__)

Executor = Literal["local", "slurm"]
LANGUAGES_SHOWN = 8


def corpus_folder(
    section: CorpusSection, tokenizer: str | None = None, given: Input | None = None
) -> Path:
    """The folder of the section's corpus: its `path`, or one in the cache named by `corpus_key`.

    `tokenizer`: the Hugging Face folder that the recipe names, or None; `given`: the documents
    (None: the section's files).
    """
    if section.path is not None:
        return Path(section.path).expanduser()
    fingerprint = load_tokenizer(tokenizer).fingerprint if tokenizer else None
    return cache_folder("corpora") / corpus_key(section, fingerprint, given or text_input(section))


def build_corpus(
    section: CorpusSection,
    tokenizer: str | None,
    out: str | Path,
    progress: bool = True,
    on: Executor = "local",
    given: Input | None = None,
) -> Manifest:
    """Build the corpus `out` in the folder `out`.partial, under a lock; returns its manifest.

    `tokenizer`: a Hugging Face folder, or None to train one of `section.vocab` tokens; `given`: the
    documents (None: the section's files); `progress`: whether a terminal shows bars; `on`: run the
    tasks in processes of this machine, or as jobs of a SLURM cluster, which must see `out` under
    the same path. An interrupted build continues; a finished corpus at `out` is returned as it is.

    Raises DataError, leaving existing files intact, when `out` holds something else, the sources
    are bad or empty, or a write fails; ClusterError when SLURM refuses or loses a job; RecipeError
    without a `slurm` section, or for a rule that cannot work.
    """
    if on == "slurm" and section.slurm is None:
        raise RecipeError(
            "corpus.slurm: says what to ask of the cluster, and is absent; at least name a"
            " partition: corpus.slurm.partition=NAME"
        )
    out = Path(out).absolute()
    fingerprint = load_tokenizer(tokenizer).fingerprint if tokenizer else None
    given = given or text_input(section)
    settings, inputs = corpus_settings(section, fingerprint, given), corpus_inputs(given)
    try:
        with build_lock(out):
            if is_taken(out):
                return existing_corpus(out, settings, inputs)
            key = corpus_key(section, fingerprint, given)
            partial, continued = open_partial(out, key, settings, inputs)
            log.info("%s the corpus %s", "continuing" if continued else "building", out)
            if not is_whole(partial):
                about = (section, tokenizer, settings, inputs)
                plan = make_plan(partial, out, given, *about)
                _run(plan, on, progress)
            publish(partial, out)
            _say_what_was_passed_over(out, section)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise DataError(
            f"cannot build the corpus {out}: {error.strerror or error}{where}; what is done is"
            " kept, build it again to continue"
        ) from error
    return load_manifest(out)


def _say_what_was_passed_over(out: Path, section: CorpusSection) -> None:
    """Rules that are left out for a language; records that are set aside; samples of tars without a
    text: what other sources pass over is no text by its kind.
    """
    from trainer.corpus.inspect.curation import load_curation

    curation = load_curation(out)
    assert curation is not None, "a build writes it"
    for line in curation.left_out_lines(LANGUAGES_SHOWN):
        log.warning("%s: %s", out, line)
    if malformed := curation.malformed.get("malformed"):
        counts = curation.malformed["reasons"].items()
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts)
        of_all = f"{malformed:,} of {curation.malformed['records']:,} records"
        log.warning("%s: %s are not in it: %s; see %s", out, of_all, reasons, out / QUARANTINE)
    passed_over = curation.malformed.get("passed_over")
    if section.source == "webdataset" and passed_over:
        listed = "; ".join(f"{count:,} {kind}" for kind, count in passed_over.items())
        log.warning("%s: samples that are not in it: %s", out, listed)


def _run(plan: BuildPlan, on: Executor, progress: bool) -> None:
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
