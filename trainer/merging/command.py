"""`lyceum checkpoint merge`: several checkpoints' weights as those of a new one."""

import logging
import shlex
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from trainer.checkpoint import folder_name, verify_checkpoint
from trainer.checkpoint.adapted import TOKENIZER, saved_files, trained_length
from trainer.checkpoint.folders import remove_atomically, remove_leftovers
from trainer.checkpoint.format import Piece, dtype_name
from trainer.checkpoint.merge_record import MergeRecord
from trainer.errors import CheckpointError, RecipeError, TrainingError
from trainer.hub.names import as_written
from trainer.hugging_face.importing import FROM_IMPORT, save_imported
from trainer.merging.blend import Term, blended
from trainer.merging.parents import Parent, leading, require_alike
from trainer.merging.shares import shares_of, what_is_notable
from trainer.merging.vocabularies import what_else_differs
from trainer.recipe import ModelSection, Recipe
from trainer.recipe.own_sets import asks_its_base

_log = logging.getLogger(__name__)


def merge_command(checkpoints: Sequence[Path], weights: Sequence[float] | None, into: Path) -> None:
    """Merge checkpoints into the run directory `into`, and print what came of it.

    Raises as `merge_checkpoints` does.
    """
    folder, record, pieces = _merged(checkpoints, weights, into)
    kinds = " and ".join(sorted({dtype_name(piece.tensor.dtype) for piece in pieces}))
    size = sum(prod(piece.tensor.shape) for piece in pieces)
    print(record.line)
    print(f"{folder}: a whole model of {size:,} parameters in {kinds}, verified")


def merge_checkpoints(
    checkpoints: Sequence[Path], weights: Sequence[float] | None, into: Path
) -> Path:
    """Save the weighted mean of several checkpoints' weights as a new run's first checkpoint.

    `checkpoints`: folders, runs, or other programs' models, as everywhere; `weights`: divided by
    their sum, None: equal ones; `into`: a run directory that is not there yet. The outcome is a
    whole model: adapters are merged into their base first, for the mean of two adapters' factors is
    not the mean of what they add. It is added up in fp32 from fp32 masters where they were saved,
    a part of a tensor at a time, and has no optimizer state. Returns its folder, which is complete
    and verified.

    Raises RecipeError for fewer than two checkpoints, weights that do not fit, and an `into` that
    is in use; CheckpointError for a damaged checkpoint, and for models or tokenizers that differ;
    TrainingError where it cannot be written.
    """
    return _merged(checkpoints, weights, into)[0]


def _merged(
    checkpoints: Sequence[Path], weights: Sequence[float] | None, into: Path
) -> tuple[Path, MergeRecord, list[Piece]]:
    shares = shares_of(weights, len(checkpoints))
    _require_new(into)
    for line in what_is_notable(weights, shares):
        _log.info("%s", line)
    parents = [Parent.open(path) for path in checkpoints]
    lead = leading(parents)
    require_alike(lead, parents)
    _say_what_the_lead_decides(lead, parents)
    tied = all(parent.model.tied_embeddings for parent in parents)
    model = lead.model.model_copy(update={"tied_embeddings": tied})
    terms = [
        Term(parent.named, parent.fitted(lead, model), share, parent.adapted)
        for parent, share in zip(parents, shares, strict=True)
    ]
    pieces = blended(terms)
    recorded = [parent.recorded(share) for parent, share in zip(parents, shares, strict=True)]
    record = MergeRecord(_command(checkpoints, weights, into), tuple(recorded))
    recipe = _recipe(lead, parents, model, into)
    longest = max(trained_length(parent.reader) for parent in parents)
    attachments = _attachments(lead, parents) | record.attachment()
    attachments["recipe.yaml"] = recipe.to_yaml().encode()
    try:
        save_imported(into, pieces, recipe, longest, attachments)
    except CheckpointError as error:
        # A parent that cannot be read, found while its part is written: no fault of the saving.
        raise (error.__cause__ if isinstance(error.__cause__, CheckpointError) else error) from None
    for parent in parents:
        parent.reader.close()
    return _verified(into / "checkpoints" / folder_name(0)), record, pieces


def _require_new(into: Path) -> None:
    """Raise RecipeError unless `into` can be made; what a killed merge left in it is removed."""
    above = next(parent for parent in into.absolute().parents if parent.exists())
    if not above.is_dir():
        raise RecipeError(f"--into: {into} cannot be made, as {above} is a file; name another one")
    remove_leftovers(into / "checkpoints")
    held = set(into.iterdir()) if into.is_dir() else set()
    empty = not any((into / "checkpoints").glob("*"))
    if (into.exists() and not into.is_dir()) or held - {into / "checkpoints"} or not empty:
        raise RecipeError(f"--into: {into} exists and is not empty; name a new folder")
    if not into.exists():
        try:
            first = above / into.absolute().relative_to(above).parts[0]
            first.mkdir()
            first.rmdir()
        except OSError as error:
            raise RecipeError(
                f"--into: {into} cannot be made ({error.strerror}); name another one"
            ) from None


def _say_what_the_lead_decides(lead: Parent, parents: Sequence[Parent]) -> None:
    rotated = {parent.model.rope_angles: parent.named for parent in reversed(parents)}
    if len(rotated) > 1:
        _log.info(
            "model.rope_angles is exact in %s and fp32 in %s: the merged model takes %s, as %s",
            *(rotated["exact"], rotated["fp32"], lead.model.rope_angles, lead.named),
        )
    for other in parents:
        differing = what_else_differs(lead.tokenizer, other.tokenizer) if other is not lead else []
        if differing:
            _log.warning(
                "%s are others in %s: those of %s are taken",
                *(" and ".join(differing), other.named, lead.named),
            )
        if grown := lead.tokenizer.size - other.tokenizer.size:
            _log.info(
                "%s lacks %d tokens of %s: their rows are the mean of its others there",
                *(other.named, grown, lead.named),
            )


def _recipe(lead: Parent, parents: Sequence[Parent], model: ModelSection, into: Path) -> Recipe:
    """The lead's recipe, without what only its training needs: a base, adapters, gates."""
    keys = lead.recipe.model_dump(mode="json")
    whole: dict[str, Any] = {
        "run": str(into),
        "model": model.model_dump(mode="json"),
        "init_from": lead.recipe.init_from if asks_its_base(lead.recipe) else None,
        "lora": None,
        **{"added_tokens": [], "added_special_tokens": [], "resume": "auto"},
        **{"parallel": {}, "zero": {}, "kernels": {}},
    }
    keys["evaluate"]["gates"] = []
    # A frozen base is no more.
    keys["preference"].pop("reference", None)
    keys["reinforce"].pop("beta", None)
    if any(parent.recipe.precision == "fp32" for parent in parents):
        whole["precision"] = "fp32"
    return Recipe.from_keys(keys | whole, "the merged recipe")


def _attachments(lead: Parent, parents: Sequence[Parent]) -> dict[str, bytes]:
    """The lead's tokenizer, and all parents' files of an import: of one name the lead's."""
    files = {f"{TOKENIZER}{name}": content for name, content in lead.tokenizer.files.items()}
    for parent in (*reversed(parents), lead):
        imported = saved_files(parent.reader, FROM_IMPORT)
        files |= {f"{FROM_IMPORT}{name}": content for name, content in imported.items()}
    return files


def _command(checkpoints: Sequence[Path], weights: Sequence[float] | None, into: Path) -> str:
    words = ["lyceum", "checkpoint", "merge", *map(as_written, checkpoints)]
    if weights is not None:
        words += ["--weights", *(f"{weight:.17g}" for weight in weights)]
    return shlex.join([*words, "--into", str(into)])


def _verified(folder: Path) -> Path:
    """The checkpoint, read back; one that is not what was written is removed."""
    faults = verify_checkpoint(folder)
    if faults:
        with suppress(CheckpointError):
            remove_atomically(folder)
        raise TrainingError(f"{faults[0]}, though just written; is the disk sound?")
    return folder
