"""Where each entry of `data.mixture` lies: corpora, and what becomes one when it is first named."""

from collections.abc import Sequence
from pathlib import Path

from trainer.addresses import TAR
from trainer.data.manifest import MANIFEST_NAME, Manifest, load_manifest
from trainer.data.remote.location import Place, place
from trainer.data.remote.storage import Absent
from trainer.errors import DataError, RecipeError
from trainer.recipe import Recipe
from trainer.recipe.data import MixtureSource, RemoteSection


def mixture_folders(recipe: Recipe, parsed: dict[Place, Manifest]) -> list[Place]:
    """The location of each entry's corpus; sets of examples and tars become one where they are not
    yet. The manifests of remote ones are added to `parsed`.

    Raises DataError naming the entry whose corpus is missing or of another kind than the stage
    reads; RecipeError as `ensure_set` does, and for tars without a tokenizer.
    """
    # Tars come last: the others may have the tokenizer.
    parts = {f"data.mixture.{n}.corpus": part for n, part in enumerate(recipe.data.mixture)}
    found: dict[str, Place | None] = {
        key: _folder(recipe, key, part, parsed) for key, part in parts.items()
    }
    tokenizer = recipe.tokenizer or next(
        (str(folder / "tokenizer") for folder in found.values() if folder is not None), None
    )
    return [
        folder or _tokenised(recipe, key, parts[key], tokenizer) for key, folder in found.items()
    ]


def _folder(
    recipe: Recipe, key: str, part: MixtureSource, parsed: dict[Place, Manifest]
) -> Place | None:
    """The corpus of an entry; None where it lists tars."""
    source = part.corpus
    entry = key.removesuffix(".corpus")
    if lists_tars(part):
        _refuse(part, entry, ("columns", "roles"), "a set of conversations or preferences", "tars")
        return None
    if "::" in source:
        raise RecipeError(
            f"{key}: only WebDataset's tars are listed together, and {source} names none: give each"
            " corpus or set an entry of its own"
        )
    found: Place | None = None
    if recipe.stage_traits.reads_sets:
        from trainer.conversations.sets import ensure_set, is_set

        if is_set(source):
            _refuse(part, entry, ("text", "validation"), "WebDataset's tars", "examples")
            found = ensure_set(recipe, source)
    found = found or _corpus_at(key, source, recipe.data.remote, parsed)
    if found is not None:
        _refuse(part, entry, ("text", "validation"), "WebDataset's tars", "no .tar")
    return found


def _refuse(part: MixtureSource, entry: str, names: Sequence[str], whose: str, found: str) -> None:
    """Raise RecipeError where an entry sets a key that only entries of another kind have."""
    unset = MixtureSource(corpus=part.corpus)
    for name in names:
        if getattr(part, name) != getattr(unset, name):
            raise RecipeError(
                f"{entry}.{name}: belongs to {whose}, and {part.corpus} names {found}: leave it"
                " out, or name what it was meant for"
            )


def lists_tars(part: MixtureSource) -> bool:
    """Whether an entry lists WebDataset's tars, or names a local folder of energon's."""
    from trainer.corpus.reading.webdataset import is_webdataset

    return is_webdataset(part.corpus)


def _tokenised(recipe: Recipe, key: str, part: MixtureSource, tokenizer: str | None) -> Path:
    """The shards made of the tars of an entry; raises RecipeError without a tokenizer."""
    from trainer.corpus.build.tars import ensure_tars

    check_kind(recipe, key, "documents")
    if tokenizer is None:
        raise RecipeError(
            f"tokenizer: {key} lists tars of text, and the recipe names no tokenizer for them: name"
            " a Hugging Face folder, or a base in init_from, or train one with"
            " `corpus.source: webdataset`"
        )
    return ensure_tars(part, key, tokenizer, recipe.data.remote)


def _corpus_at(
    key: str, corpus: str, remote: RemoteSection, parsed: dict[Place, Manifest]
) -> Place | None:
    """The location of a corpus; None where a remote folder is one of energon's.

    Raises DataError where there is none.
    """
    try:
        found = place(corpus)
        if isinstance(found, Path):
            if found.is_file():
                raise DataError(f"{found} is a file, and no corpus")
            if not (found / MANIFEST_NAME).exists():
                load_manifest(found)
            return found
        parsed[found] = load_manifest(found, remote)
        return found
    except Absent as error:
        from trainer.corpus.reading.energon import is_energon

        if is_energon(place(corpus), remote):
            return None
        raise type(error)(f"{key}: {error}") from None
    except DataError as error:
        raise DataError(f"{key}: {error}{_hint(corpus)}") from None


def _hint(corpus: str) -> str:
    """What a folder of tars that is no corpus of ours is asked for, or a file."""
    if Path(corpus).is_file():
        blend = corpus.endswith((".yaml", ".yml"))
        return (
            ": of a blend of energon's (a metadataset), name the folders that it blends"
            if blend
            else f": build one of it, with corpus.source=text and corpus.files=[{corpus}]"
        )
    try:
        names = sorted(entry.name for entry in Path(corpus).iterdir())
    except OSError:
        names = []
    end = next((found[0] for found in map(TAR.search, names) if found), None)
    return f"; for WebDataset's tars name them: {corpus.rstrip('/')}/*{end}" if end else ""


def check_kind(recipe: Recipe, key: str, kind: str) -> None:
    """Raise DataError where a corpus of this kind, named by `key`, does not fit the stage."""
    wanted = recipe.stage_traits.corpora(recipe)
    if kind not in wanted:
        raise DataError(
            f"{key}: holds {kind}, and stage {recipe.stage} reads {' and '.join(wanted)}; name"
            " another, or set the stage that it was made for"
        )
