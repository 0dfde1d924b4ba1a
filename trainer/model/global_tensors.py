"""The global tensors behind this rank's parameters: names, shapes, and which boxes it holds.

A checkpoint, an export and a comparison of two layouts all speak of the same global tensors; this
is the one place that knows how a rank's parameters are cut from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.parallel.layout import Layout


@dataclass(frozen=True)
class Box:
    """A box of a global tensor, and where it lies in this rank's parameter.

    The parameter's `rows` along dimension `axis` are the global tensor's box at `offset`.
    """

    name: str
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]
    axis: int
    rows: slice

    @property
    def shape(self) -> tuple[int, ...]:
        """The box's extent."""
        shape = list(self.global_shape)
        shape[self.axis] = self.rows.stop - self.rows.start
        return tuple(shape)

    def of(self, parameter: Tensor) -> Tensor:
        """The part of `parameter`, or of a tensor of its shape, that is this box; a view."""
        return parameter.narrow(self.axis, self.rows.start, self.rows.stop - self.rows.start)


@dataclass(frozen=True)
class Logical:
    """A parameter with its boxes. `primary`: this rank writes it, of those who hold it."""

    name: str
    parameter: torch.nn.Parameter
    boxes: tuple[Box, ...]
    primary: bool


def logical_parameters(chunks: list[Any], layout: Layout) -> Iterator[Logical]:
    """Each parameter of this rank's chunks, in order, with its place in the global tensors.

    Of the ranks that hold the same data, one is primary: tensor rank 0 for weights that tensor
    ranks share, the first stage for tied embeddings, and in turn among data replicas, which shares
    out the work of writing.
    """
    turn = 0
    for chunk in chunks:
        for local_name, parameter in chunk.named_parameters():
            name = global_name(chunk, local_name)
            sharded = bool(getattr(parameter, "tensor_model_parallel", False))
            primary = turn % layout.replicas.size == layout.replicas.rank
            primary = primary and (sharded or layout.tensor.rank == 0)
            primary = primary and not getattr(parameter, "ds_pipe_replicated", False)
            boxes = _boxes(name, parameter, layout) if sharded else (_whole(name, parameter),)
            yield Logical(name, parameter, boxes, primary)
            turn += 1


def global_name(chunk: Any, local_name: str) -> str:
    """The parameter's name with its layer's place in the whole model, one name for tied weights."""
    if local_name == "output_layer.weight" and chunk.share_embeddings_and_output_weights:
        return "embedding.word_embeddings.weight"
    if not local_name.startswith("decoder.layers."):
        return local_name
    _, _, index, rest = local_name.split(".", 3)
    layer = chunk.decoder.layers[int(index)].layer_number - 1
    return f"decoder.layers.{layer}.{rest}"


def local_shape(parameter: Tensor) -> tuple[int, ...]:
    """The parameter's own shape, also while ZeRO-3 has it partitioned away."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def _whole(name: str, parameter: Tensor) -> Box:
    shape = local_shape(parameter)
    return Box(name, shape, (0,) * len(shape), 0, slice(0, shape[0]))


def _boxes(name: str, parameter: Any, layout: Layout) -> tuple[Box, ...]:
    """One box; or one each for gate and up, which each rank holds as [its gate; its up]."""
    axis, parts = parameter.partition_dim, parameter.partition_stride
    shape = list(local_shape(parameter))
    rows = shape[axis] // parts
    shape[axis] *= layout.tensor.size
    boxes = []
    for part in range(parts):
        offset = [0] * len(shape)
        offset[axis] = (part * layout.tensor.size + layout.tensor.rank) * rows
        boxes.append(
            Box(name, tuple(shape), tuple(offset), axis, slice(part * rows, (part + 1) * rows))
        )
    return tuple(boxes)
