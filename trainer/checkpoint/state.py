"""A training run's state as pieces of global tensors, and its restoration from them."""

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.checkpoint.adapted import Reader
from trainer.checkpoint.fitted import FittedReader
from trainer.checkpoint.format import AVERAGE, Piece
from trainer.checkpoint.host_copy import ALIGNED_BYTES
from trainer.errors import CheckpointError, NotFiniteError
from trainer.model.lora.targets import is_adapter
from trainer.parallel.finite import all_finite
from trainer.parallel.sharding import Box, ParameterSharding, sharded_parameters
from trainer.parallel.zero import MOMENTS, Optimizer

if TYPE_CHECKING:
    from trainer.model.transformer import LanguageModel


def training_pieces(chunks: list["LanguageModel"], optimizer: Optimizer) -> Iterator[Piece]:
    """The pieces that this rank writes: weights, fp32 masters (of bf16 weights), Adam's moments and
    the weights' average, where the run keeps one.

    The values are views of the live tensors; all but the weights are fp32. Only trained parameters
    are included: a frozen base has its own checkpoint (trainer.checkpoint.lora_base). Collective
    over replicas: every rank must consume the whole iterator.
    """
    for parameter, sharding in sharded_parameters(chunks):
        if not parameter.requires_grad:
            continue
        weight, state = optimizer.weight(parameter), optimizer.state(parameter)
        if not sharding.writes:
            continue
        tensors = {f"model/{sharding.name}": weight}
        if weight.dtype != torch.float32:
            tensors[f"optimizer/master/{sharding.name}"] = state["master"]
        kept = [key for key in (*MOMENTS, AVERAGE) if key in state]
        tensors |= {f"optimizer/{key}/{sharding.name}": state[key] for key in kept}
        for key, tensor in tensors.items():
            for box in sharding.boxes:
                data = box.of(tensor).detach()
                yield Piece(key, box.global_shape, box.offset, data)


def training_bytes(chunks: list["LanguageModel"], averaged: bool) -> int:
    """At most the bytes of this rank's `training_pieces`; `averaged`: with the weights' average."""
    total = 0
    for parameter, sharding in sharded_parameters(chunks):
        if not (parameter.requires_grad and sharding.writes):
            continue
        fp32 = len(MOMENTS) + (parameter.dtype != torch.float32) + averaged
        numbers = sum(prod(box.shape) for box in sharding.boxes)
        total += numbers * (parameter.dtype.itemsize + 4 * fp32)
        total += ALIGNED_BYTES * (fp32 + 1) * len(sharding.boxes)
    return total


def restore_training(
    reader: Reader | FittedReader,
    chunks: list["LanguageModel"],
    optimizer: Optimizer,
    averaged: bool = False,
) -> None:
    """Load weights, masters and moments from a checkpoint, saved at any layout.

    `averaged`: the average too. Of a frozen base only the weights. Raises CheckpointError where a
    tensor is missing or has another shape, NotFiniteError where its values are not finite.
    """
    for parameter, sharding in sharded_parameters(chunks):
        weight = _read(reader, f"model/{sharding.name}", sharding)
        if not parameter.requires_grad:
            optimizer.load(parameter, weight, None)
            continue
        master = f"optimizer/master/{sharding.name}"
        state = {"master": _read(reader, master, sharding) if master in reader else weight.float()}
        for key in (*MOMENTS, AVERAGE) if averaged else MOMENTS:
            state[key] = _read(reader, f"optimizer/{key}/{sharding.name}", sharding)
        optimizer.load(parameter, weight, state)


def holds_optimizer_state(reader: Reader | FittedReader) -> bool:
    """Whether a checkpoint has Adam's moments; imported and merged ones have none."""
    return any(key.startswith("optimizer/exp_avg/") for key in reader.keys())  # noqa: SIM118


def restore_weights(
    reader: Reader | FittedReader, chunks: list["LanguageModel"], optimizer: Optimizer
) -> None:
    """Load the weights alone (from their fp32 masters where saved), with a fresh optimizer state.

    Adapters that the checkpoint does not hold keep their initial weights. Raises CheckpointError
    where a tensor is missing or has another shape.
    """
    for parameter, sharding in sharded_parameters(chunks):
        if is_adapter(sharding.name) and f"model/{sharding.name}" not in reader:
            continue
        optimizer.load(parameter, _best_weight(reader, sharding), None)


def load_weights(reader: Reader, chunks: list["LanguageModel"]) -> None:
    """Load the weights into a model without an optimizer, for inference."""
    with torch.no_grad():
        for parameter, sharding in sharded_parameters(chunks):
            parameter.copy_(_read(reader, f"model/{sharding.name}", sharding))


def load_best_weights(reader: Reader | FittedReader, chunks: list["LanguageModel"]) -> None:
    """As `load_weights`, from their fp32 masters where saved: as a run begins with them."""
    with torch.no_grad():
        for parameter, sharding in sharded_parameters(chunks):
            parameter.copy_(_best_weight(reader, sharding))


def _best_weight(reader: Reader | FittedReader, sharding: ParameterSharding) -> Tensor:
    master = f"optimizer/master/{sharding.name}"
    return _read(reader, master if master in reader else f"model/{sharding.name}", sharding)


def _read(reader: Reader | FittedReader, key: str, sharding: ParameterSharding) -> Tensor:
    """This rank's shard of a global tensor, in the parameter's local shape, on the CPU.

    To be copied from at once: it may be the file's own pages.
    """
    if len(sharding.boxes) == 1 and sharding.boxes[0].shape == sharding.shape:
        whole = _read_box(reader, key, sharding.boxes[0])
    else:
        whole = torch.empty(sharding.shape, dtype=reader.dtype(key))
        for box in sharding.boxes:
            box.of(whole).copy_(_read_box(reader, key, box))
    if not all_finite([whole]):
        raise NotFiniteError(
            f"checkpoint {reader.folder}: {key} holds values that are not finite; choose an "
            "earlier checkpoint"
        )
    return whole


def _read_box(reader: Reader | FittedReader, key: str, box: Box) -> Tensor:
    if reader.shape(key) != box.global_shape:
        raise CheckpointError(
            f"checkpoint {reader.folder} is of another model: {key} has shape "
            f"{list(reader.shape(key))} there and {list(box.global_shape)} here; change the "
            "recipe's model section or choose another checkpoint"
        )
    return reader.read(key, box.offset, box.shape, own=False)
