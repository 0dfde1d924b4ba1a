"""`lyceum import` of a LoRA adapter in PEFT's format, onto a base."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import CheckpointReader, folder_name, resolve_checkpoint
from trainer.checkpoint.adapted import (
    TOKENIZER,
    read_merged,
    saved_files,
    saved_recipe,
    trained_length,
)
from trainer.checkpoint.fitted import FittedReader, used_rows
from trainer.checkpoint.lora_base import LoraBase, holds_adapters
from trainer.errors import CheckpointError, DataError, LyceumError
from trainer.gguf.model import gguf_file
from trainer.hub.models import model_folder
from trainer.hub.names import model_name
from trainer.hugging_face.adapter_config import lora_of, with_saved
from trainer.hugging_face.adapter_files import AdapterFile
from trainer.hugging_face.adapter_keys import BASE_FOLDER, CONFIG, read_adapter_config
from trainer.hugging_face.adapter_tensors import PeftTensors, adapter_pieces
from trainer.hugging_face.adapter_tokenizer import adapter_tokenizer
from trainer.hugging_face.config import FILE, conversion_recipe, describe
from trainer.hugging_face.importing import (
    FROM_IMPORT,
    begin,
    finish,
    import_command,
    open_source,
    save_imported,
)
from trainer.hugging_face.names import EMBEDDING as OUR_EMBEDDING
from trainer.hugging_face.parity import measure, report, require
from trainer.hugging_face.small_files import small_files
from trainer.hugging_face.weights import CheckpointWeights
from trainer.recipe import Recipe
from trainer.recipe.lora import TABLES, LoraSection, means_whole
from trainer.recipe.model import ModelSection
from trainer.recipe.shape import EMBEDDING, HEAD


def is_adapter_folder(folder: Path, based: bool) -> bool:
    """Whether an adapter in PEFT's format is meant by a folder; `based`: a base was named.

    Beside a whole model in the folder only then. Raises CheckpointError where neither is there, but
    in folders below, as a trainer leaves them for each step, and PEFT for each adapter.
    """
    held = [(folder / name).is_file() for name in (CONFIG, FILE)]
    if not any(held):
        inside = sorted({one.parent for name in (CONFIG, FILE) for one in folder.glob(f"*/{name}")})
        if inside:
            raise CheckpointError(
                f"{folder}: holds no {CONFIG} or {FILE} itself; name one of the folders in it:"
                f" {', '.join(map(str, inside[:8]))}{', ...' * (len(inside) > 8)}"
            )
    return held[0] and (based or not held[1])


def import_adapter_command(folder: Path, checkpoint: Path, base: Path | None = None) -> None:
    """Write the adapter in `folder` as the run directory `checkpoint`; check and print the parity.

    `base`: a checkpoint, a run, or a Hugging Face model folder, its name on the hub or a GGUF file,
    which is then imported to `checkpoint`/base; None: the one that the adapter names. Raises
    CheckpointError for an adapter that is not computed here or of another base, and what
    `import_command` raises.
    """
    keys = read_adapter_config(folder)
    file = AdapterFile.open(folder)
    named = model_folder(base) if base is not None else _named_base(keys, folder)
    said = keys.get("base_model_name_or_path")
    if base is not None and said and Path(said).resolve() != base.resolve():
        print(f"the adapter names its base {said!r}; shapes and tokens of {base} are checked alone")
    partial_folder = begin(checkpoint)
    in_a_file = gguf_file(named) is not None
    theirs = in_a_file or ((named / FILE).is_file() and not (named / "checkpoints").is_dir())
    if theirs:
        model = open_source(named).described.model
        _fitting(keys, file, model, folder)  # before the base is copied
    try:
        if theirs:
            import_command(named, partial_folder / BASE_FOLDER)
            step = Path(BASE_FOLDER) / "checkpoints" / folder_name(0)
            opened = _OpenBase(partial_folder / step, checkpoint / step)
        else:
            found = resolve_checkpoint(named)
            opened = _OpenBase(found, found)
        _write(folder, keys, file, opened, partial_folder, checkpoint)
    except LyceumError:
        shutil.rmtree(partial_folder, ignore_errors=True)
        raise
    finish(partial_folder, checkpoint)


def _named_base(keys: dict[str, Any], folder: Path) -> Path:
    """The base that the adapter names, a folder or a model of the hub."""
    named = keys.get("base_model_name_or_path")
    why = ""
    if named:
        if Path(named).is_dir():
            return Path(named)
        beside = folder / BASE_FOLDER
        if Path(named).name == BASE_FOLDER and (beside / FILE).is_file():
            return beside  # a folder of ours that was moved
        try:
            if model_name(named) is not None:
                revision = f"@{keys['revision']}" if keys.get("revision") else ""
                return model_folder(Path(f"{named}{revision}"))
        except DataError as error:
            why = f" ({error})"
    raise CheckpointError(
        f"{folder / CONFIG}: names the base {named!r}, which is no folder here{why}; give it with"
        " --base (a checkpoint, or a model folder)"
    )


@dataclass(frozen=True)
class _OpenBase:
    """The base's checkpoint: where it is now, and where it will be."""

    now: Path
    then: Path


def _fitting(
    keys: dict[str, Any], file: AdapterFile, base: ModelSection, folder: Path
) -> tuple[LoraSection, ModelSection]:
    """The adapter as the recipe has it, and the base's model with it; refuses what does not fit."""
    path = folder / CONFIG
    lora = lora_of(keys, base, path)
    if base.tied_embeddings and lora.ensure_weight_tying and any(map(lora.adapts, TABLES)):
        raise CheckpointError(
            f"{path}: ensure_weight_tying is true, and makes one adapter of those of embed_tokens"
            " and lm_head, which is not computed here; merge it with PEFT, and import the model"
        )
    file.check(lora, base)
    lora = with_saved(lora, keys, file.modules_to_save(), base, path)
    changed: dict[str, Any] = {"vocab": file.vocabulary(base)}
    if lora.unties(base):
        changed["tied_embeddings"] = False
    return lora, base.model_copy(update=changed)


def _write(
    folder: Path,
    keys: dict[str, Any],
    file: AdapterFile,
    base: _OpenBase,
    partial_folder: Path,
    checkpoint: Path,
) -> None:
    reader = CheckpointReader(base.now)
    if holds_adapters(reader):
        raise CheckpointError(f"{base.now}: holds adapters itself; name their base, or merge them")
    known = ModelSection(**reader.model)
    known = known.model_copy(update={"vocab": used_rows(known), "padding_rows": 0})
    untied = known.model_copy(update={"tied_embeddings": False})
    _drop_copies(file, keys, FittedReader(reader, untied))
    lora, model = _fitting(keys, file, known, folder)
    _check_tied(file, model)
    _say_what_is_unnamed(file, keys, lora)
    earlier = saved_recipe(reader)
    recipe = _recipe(model, lora, earlier, base.then, checkpoint)
    tokenizer = adapter_tokenizer(folder, reader, model)
    run = checkpoint / "checkpoints" / folder_name(0)
    attachments = {
        **{f"{FROM_IMPORT}{k}": v for k, v in saved_files(reader, FROM_IMPORT).items()},
        **{f"{TOKENIZER}{name}": content for name, content in tokenizer.files.items()},
        **LoraBase(base.then, LoraBase.of(base.now).seal).attachment(run),
        "recipe.yaml": recipe.to_yaml().encode(),
    }
    pieces = list(adapter_pieces(file, lora, model))
    save_imported(partial_folder, pieces, recipe, trained_length(reader), attachments)
    if keys.get("lora_dropout"):
        print(
            f"lora_dropout {keys['lora_dropout']} is PEFT's while it trains; none is applied here"
        )
    saved = CheckpointReader(partial_folder / "checkpoints" / folder_name(0))
    merged = CheckpointWeights(read_merged(saved), torch.float32)
    dtype = reader.dtype(f"model/{OUR_EMBEDDING}")
    config = small_files(saved, recipe, dtype, tokenizer)[FILE]
    described = describe(config, str(checkpoint / FILE))
    peft = PeftTensors(file, lora, model, CheckpointWeights(FittedReader(reader, model)))
    parity = measure(described, model, merged, peft)
    report(parity, f"{folder} on {base.then} -> {checkpoint}", described.family, peft)
    require(parity, folder, None)


def _say_what_is_unnamed(file: AdapterFile, keys: dict[str, Any], lora: LoraSection) -> None:
    """Print the tables that PEFT saved because they were resized: here they train on."""
    ends = keys.get("modules_to_save") or ()
    saved = file.modules_to_save()
    unnamed = [name for name in saved if not any(means_whole(end, name) for end in ends)]
    if unnamed and not (lora.ensure_weight_tying and ends):
        print(
            f"{', '.join(unnamed)}: saved whole as the adapter's base was resized; a run that goes"
            " on trains them too (lora.modules_to_save)"
        )


def _drop_copies(file: AdapterFile, keys: dict[str, Any], base: FittedReader) -> None:
    """Leave out tables that PEFT saves beside an adapter though they are the base's, unless
    `modules_to_save` names them: what trains whole may not have learned yet.

    Raises CheckpointError where a copy beside an adapter of it is not the base's.
    """
    ours = {EMBEDDING: "embedding.word_embeddings.weight", HEAD: "output_layer.weight"}
    for name, key in ours.items():
        weight = f"{name}.weight"
        trains = any(means_whole(end, name) for end in keys.get("modules_to_save") or ())
        for held in (file.copies, file.whole):
            if weight not in held or (trains and held is file.whole):
                continue
            same = file.shapes[held[weight]] == base.shape(f"model/{key}")
            if same:
                values = base.read(f"model/{key}", dtype=torch.float32)
                same = torch.equal(file.read(held[weight]).float(), values)
            if same:
                del held[weight]
            elif held is file.copies:
                raise CheckpointError(
                    f"{file.path}: its copy of {name} is not that of the base: the base was resized"
                    " or trained; give that base, or merge the adapter with PEFT"
                )
    if file.copies:
        raise CheckpointError(
            f"{file.path}: holds {next(iter(file.copies.values()))}, a weight of its base, which is"
            " not read; save the adapter without"
        )


def _check_tied(file: AdapterFile, model: ModelSection) -> None:
    """Raise CheckpointError where what stays one matrix was saved as two different ones."""
    tables = [file.whole.get(f"{name}.weight") for name in (EMBEDDING, HEAD)]
    if model.tied_embeddings and tables[0] and tables[1]:
        one, two = (file.read(name) for name in tables if name is not None)
        if not torch.equal(one, two):
            raise CheckpointError(
                f"{file.path}: ensure_weight_tying is true, and embed_tokens and lm_head differ;"
                " set it to false"
            )


def _recipe(
    model: ModelSection, lora: LoraSection, earlier: Recipe, base: Path, checkpoint: Path
) -> Recipe:
    plain = conversion_recipe(model, earlier.sequence_length, earlier.precision, str(checkpoint))
    keys = plain.model_dump(mode="json")
    return Recipe.from_keys(
        keys | {"init_from": str(base.absolute()), "lora": lora.model_dump(mode="json")}
    )
