"""What a run reads, opened once: its corpora, their manifests, and its tokenizer."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.addresses import without_secrets
from trainer.data.added_tokens import grown_folder
from trainer.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    check_tokenizer,
    check_tokenizer_files,
    load_manifest,
)
from trainer.data.remote.location import Place, place
from trainer.data.tokenizer import Tokenizer, load_tokenizer
from trainer.errors import DataError, RecipeError
from trainer.mixture_folders import check_kind, lists_tars, mixture_folders
from trainer.parsing import read_json
from trainer.recipe import CorpusSection, Recipe
from trainer.recipe.data import RemoteSection
from trainer.recipe.own_sets import without_own_entries

if TYPE_CHECKING:
    from trainer.corpus.build.provenance import Input

Where = Literal["local", "slurm"]
RECORD = "sources.json"
"""In a run: where each of its corpora lies."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """The corpora of a recipe, one per entry of its mixture, and their common tokenizer.

    A process parses each manifest once: at 100 TB that takes a second, too long for a step or an
    evaluation. The stream's workers inherit them by fork.
    """

    folders: tuple[Place, ...]
    manifests: tuple[Manifest, ...]
    tokenizer: Tokenizer

    def stream_arguments(self, recipe: Recipe) -> dict[str, Any]:
        """The arguments of `Stream` for the training split of a recipe over these corpora."""
        return stream_arguments(recipe, self.folders) | {"manifests": self.manifests}

    def record(self, recipe: Recipe) -> str:
        """RUN/sources.json: where each corpus lies, how much it holds, what its examples became."""
        named = recipe.data.mixture or [None] * len(self.folders)
        names = recipe.data.names() or ("corpus",) * len(self.folders)
        described = [
            {
                "name": name,
                "corpus": None if entry is None else without_secrets(entry.corpus),
                "folder": str(folder.resolve()) if isinstance(folder, Path) else folder.shown,
                "kind": manifest.kind,
                "splits": {
                    split: {"documents": part.documents, "tokens": part.tokens}
                    for split, part in manifest.splits.items()
                },
                "examples": manifest.provenance.get("examples"),
            }
            for name, entry, folder, manifest in zip(
                names, named, self.folders, self.manifests, strict=True
            )
        ]
        return json.dumps({"sources": described}, indent=1) + "\n"


Finder = Callable[[Callable[[], list[str]]], list[str]]
"""Calls the function that finds the corpora, or has another rank call it; returns its result."""


def open_sources(
    recipe: Recipe,
    find: Finder = lambda action: action(),
    tokenizer: Tokenizer | None = None,
    run: Path | None = None,
) -> Sources:
    """Open the recipe's corpora, building those that are absent and can be built.

    `find` lets one rank build for all; `tokenizer`: the model's, where there is one already; `run`:
    the run that has read them, whose recipe does not hold the secrets of its addresses: where they
    cannot be asked, what it made of them is opened. Raises
    DataError naming the mixture entry whose corpus is missing, does not fit the recipe's stage, or
    was built with another tokenizer; RecipeError as `ensure_set` does.
    """
    parsed: dict[Place, Manifest] = {}

    def folders_of() -> list[str]:
        try:
            return [str(folder) for folder in corpus_folders(recipe, parsed)]
        except DataError as error:
            if run is None or not (made := _recorded(run)):
                raise
            log.warning("%s; going on with what %s has read, in %s", error, run, ", ".join(made))
            return made

    found = find(folders_of)
    folders = [place(folder) for folder in found]
    manifests = [parsed.get(folder) or _manifest(folder, recipe) for folder in folders]
    check_kinds(recipe, manifests)
    tokenizer = tokenizer or _tokenizer(recipe, folders, manifests)
    for folder, manifest in zip(folders, manifests, strict=True):
        check_tokenizer(manifest, tokenizer.fingerprint, folder)
    return Sources(tuple(folders), tuple(manifests), tokenizer)


def _recorded(run: Path) -> list[str]:
    """The local folders that RUN/sources.json names, where all are there; else none."""
    try:
        sources = read_json((run / RECORD).read_bytes())["sources"]
        folders = [str(source["folder"]) for source in sources]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return folders if all((Path(one) / MANIFEST_NAME).is_file() for one in folders) else []


def _manifest(folder: Place, recipe: Recipe) -> Manifest:
    """The manifest of a corpus that the first rank found; DataError where this one has it not."""
    if isinstance(folder, Path) and not folder.exists():
        raise DataError(
            f"{folder}: the first rank has it, and this node does not see it: put it, or"
            " LYCEUM_CACHE, where all nodes of a run do"
        )
    return load_manifest(folder, recipe.data.remote)


def corpus_folders(recipe: Recipe, parsed: dict[Place, Manifest] | None = None) -> list[Place]:
    """The corpora's locations, one per entry of the mixture; the recipe's own is built if absent.

    So is a set of conversations or preferences that the mixture names by its files, and so are
    WebDataset's tars. The manifests that building reads are added to `parsed`. Raises DataError
    naming the mixture entry whose corpus is missing. A stage that asks questions has none.
    """
    if recipe.stage_traits.asks:
        return []
    if recipe.data.mixture or recipe.stage_traits.reads_sets:
        return mixture_folders(recipe, {} if parsed is None else parsed)
    folder, manifest = ensure_corpus(recipe)
    if parsed is not None:
        parsed[folder] = manifest
    return [folder]


def build_from_recipe(recipe: Recipe, progress: bool = True, on: Where = "local") -> Path:
    """Run `ensure_corpus`, and print the corpus's folder and counts in one line.

    Where a recipe has no corpus of its own, the tars of its mixture are tokenised, a line each.
    """
    if recipe.corpus is None and any(map(lists_tars, recipe.data.mixture)):
        if on != "local":
            raise RecipeError(
                "--on: the tars of a mixture are tokenised on this machine; a cluster builds a"
                " corpus of them, with corpus.source=webdataset"
            )
        parsed: dict[Place, Manifest] = {}
        recipe = without_own_entries(recipe)
        folders = corpus_folders(recipe, parsed)
        made = [
            folder
            for folder, part in zip(folders, recipe.data.mixture, strict=True)
            if isinstance(folder, Path) and lists_tars(part)
        ]
        for folder in made:
            _print_counts(folder, load_manifest(folder))
        return made[0]
    folder, manifest = ensure_corpus(recipe, progress, on)
    _print_counts(folder, manifest)
    return folder


def _print_counts(folder: Path, manifest: Manifest) -> None:
    counts = [
        f"{name} {split.documents:,} documents, {split.tokens:,} tokens, {len(split.shards)} shards"
        for name, split in manifest.splits.items()
    ]
    print(f"{folder}: {'; '.join(counts)}")


def ensure_corpus(
    recipe: Recipe, progress: bool = True, on: Where = "local"
) -> tuple[Path, Manifest]:
    """The recipe's own corpus, built if absent; of several processes one builds.

    `on` says where a build's tasks run. Raises RecipeError when the recipe has no `corpus` section,
    and what build_corpus raises.
    """
    from trainer.corpus.build.corpus import build_corpus, corpus_folder

    section = recipe.corpus
    if section is None:
        raise RecipeError("the recipe has no corpus section: add `corpus:` to say what to build")
    given, tokenizer = _input(section, recipe.data.remote), _tokenizer_to_build_with(recipe)
    folder = corpus_folder(section, tokenizer, given)
    return folder, build_corpus(section, tokenizer, folder, progress, on, given)


def _tokenizer_to_build_with(recipe: Recipe) -> str | None:
    """The recipe's tokenizer, with its added tokens; None: one is trained."""
    if not (recipe.added_tokens or recipe.added_special_tokens):
        return recipe.tokenizer
    folder = recipe.tokenizer
    if folder is None:
        from trainer.checkpoint import resolve_checkpoint

        assert recipe.init_from is not None, "a recipe that adds tokens has it"
        folder = str(resolve_checkpoint(Path(recipe.init_from)) / "tokenizer")
    names = (recipe.added_tokens, recipe.added_special_tokens)
    return grown_folder(folder, *names, recipe.data.remote)


def _input(section: CorpusSection, remote: RemoteSection) -> "Input":
    """The documents of each source; the documentation of this machine's packages is the demo's."""
    if section.source == "embedded":
        from trainer.demo.documentation import documentation

        return documentation(section)
    from trainer.corpus.build.provenance import text_input

    return text_input(section, remote)


def check_kinds(recipe: Recipe, manifests: Sequence[Manifest]) -> None:
    """Raise DataError where a corpus's kind does not fit the recipe's stage."""
    for number, manifest in enumerate(manifests):
        check_kind(recipe, f"data.mixture.{number}.corpus", manifest.kind)


def _tokenizer(recipe: Recipe, folders: list[Place], manifests: list[Manifest]) -> Tokenizer:
    """That of a set, which has the chat template of its conversations; or the recipe's; or that
    of the corpus.
    """
    sets = [number for number, manifest in enumerate(manifests) if manifest.marked]
    if recipe.tokenizer is not None and not sets:
        return load_tokenizer(recipe.tokenizer, recipe.data.remote)
    own = sets[0] if sets else 0
    tokenizer = load_tokenizer(folders[own] / "tokenizer", recipe.data.remote)
    check_tokenizer_files(manifests[own], tokenizer.hashes, folders[own])
    return tokenizer


def stream_arguments(recipe: Recipe, folders: Sequence[str | Path]) -> dict[str, Any]:
    """The arguments of `Stream` for a recipe over the corpora in these folders: plain values."""
    weights, model = [part.weight for part in recipe.data.mixture] or [1.0], recipe.model
    return {
        "sources": [
            [str(folder), float(weight)] for folder, weight in zip(folders, weights, strict=True)
        ],
        "split": "train",
        "sequence_length": recipe.sequence_length,
        "seed": recipe.seed,
        "block_shards": recipe.data.block_shards,
        "packing": recipe.data.packing,
        "epochs": [part.epochs for part in recipe.data.mixture] or [None],
        "curriculum": [
            [first, list(changed)]
            for first, changed in recipe.data.stage_weights(recipe.batch.sequences)
        ],
        "remote": recipe.data.remote.model_dump(mode="json"),
        "vocab": None if model.vocab is None else model.vocab - model.padding_rows,
    }
