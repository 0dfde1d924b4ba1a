"""What a checkpoint holds of a training run, as pieces of global tensors, and back."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from trainer.checkpoint.adapted import Reader
from trainer.checkpoint.format import Piece
from trainer.errors import CheckpointError
from trainer.model.global_tensors import Box, Logical, local_shape, logical_parameters
from trainer.model.lora.targets import is_adapter
from trainer.parallel.layout import Layout
from trainer.parallel.zero import Optimizer

MOMENTS = ("exp_avg", "exp_avg_sq")


def training_pieces(chunks: list[Any], optimizer: Optimizer, layout: Layout) -> Iterator[Piece]:
    """The pieces that this rank writes: weights, fp32 masters (of bf16 weights), Adam's moments.

    Of what learns: a frozen base stands in a checkpoint of its own (trainer.checkpoint.lora_base).
    Collective over replicas: every rank must take all of them, in order.
    """
    for logical in logical_parameters(chunks, layout):
        if not logical.parameter.requires_grad:
            continue
        weight, state = optimizer.weight(logical.parameter), optimizer.state(logical.parameter)
        if not logical.primary:
            continue
        tensors = {f"model/{logical.name}": weight}
        if weight.dtype != torch.float32:
            tensors[f"optimizer/master/{logical.name}"] = state["master"]
        tensors |= {f"optimizer/{key}/{logical.name}": state[key] for key in MOMENTS}
        for key, tensor in tensors.items():
            for box in logical.boxes:
                data = box.of(tensor).detach().to("cpu").contiguous()
                yield Piece(key, box.global_shape, box.offset, data)


def restore_training(
    reader: Reader, chunks: list[Any], optimizer: Optimizer, layout: Layout
) -> None:
    """Put weights, masters and moments of a checkpoint in place, at whatever layout this is."""
    for logical in logical_parameters(chunks, layout):
        weight = _read(reader, f"model/{logical.name}", logical)
        if not logical.parameter.requires_grad:
            optimizer.load(logical.parameter, weight, None)
            continue
        master = f"optimizer/master/{logical.name}"
        state = {"master": _read(reader, master, logical) if master in reader else weight.float()}
        state |= {key: _read(reader, f"optimizer/{key}/{logical.name}", logical) for key in MOMENTS}
        optimizer.load(logical.parameter, weight, state)


def restore_weights(
    reader: Reader, chunks: list[Any], optimizer: Optimizer, layout: Layout
) -> None:
    """Put the weights alone in place (fp32 masters where they were saved): a fresh optimizer.

    Adapters of which the checkpoint has none keep their first weights.
    """
    for logical in logical_parameters(chunks, layout):
        if is_adapter(logical.name) and f"model/{logical.name}" not in reader:
            continue
        optimizer.load(logical.parameter, _best_weight(reader, logical), None)


def load_weights(reader: Reader, chunks: list[Any], layout: Layout) -> None:
    """Put the weights into a model that is only read from: no optimizer."""
    with torch.no_grad():
        for logical in logical_parameters(chunks, layout):
            logical.parameter.copy_(_read(reader, f"model/{logical.name}", logical))


def _best_weight(reader: Reader, logical: Logical) -> Tensor:
    master = f"optimizer/master/{logical.name}"
    return _read(reader, master if master in reader else f"model/{logical.name}", logical)


def _read(reader: Reader, key: str, logical: Logical) -> Tensor:
    """This rank's part of a global tensor, in the parameter's full local shape, on the CPU."""
    whole = torch.empty(local_shape(logical.parameter), dtype=reader.dtype(key))
    for box in logical.boxes:
        box.of(whole).copy_(_read_box(reader, key, box))
    return whole


def _read_box(reader: Reader, key: str, box: Box) -> Tensor:
    if reader.shape(key) != box.global_shape:
        raise CheckpointError(
            f"checkpoint {reader.folder} is of another model: {key} has shape "
            f"{list(reader.shape(key))} there and {list(box.global_shape)} here; change the "
            "recipe's model section or choose another checkpoint"
        )
    return reader.read(key, box.offset, box.shape)
