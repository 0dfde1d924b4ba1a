"""How a parameter is sharded over the ranks of a layout: described once, at model build."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Parameter

from trainer.parallel.layout import Layout

if TYPE_CHECKING:
    from trainer.parallel.megatron import HiddenStatesModel


@dataclass(frozen=True)
class Box:
    """A box of a global tensor, and the slice of this rank's parameter that holds it.

    The parameter's `rows` along dimension `axis` are the box at `offset` of the global tensor
    `name`, whose shape is `global_shape`.
    """

    name: str
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]
    axis: int
    rows: slice

    @property
    def shape(self) -> tuple[int, ...]:
        """The box's shape."""
        shape = list(self.global_shape)
        shape[self.axis] = self.rows.stop - self.rows.start
        return tuple(shape)

    def of(self, parameter: Tensor) -> Tensor:
        """The part of `parameter`, or of a tensor of its shape, that is this box; a view."""
        return parameter.narrow(self.axis, self.rows.start, self.rows.stop - self.rows.start)


@dataclass(frozen=True)
class ParameterSharding:
    """How one parameter is sharded, and what this rank has to do for it.

    Attributes:
        name: The global tensor's name, the same on every rank; tied weights have one.
        shape: This rank's own shape, also while ZeRO-3 has the parameter partitioned away.
        boxes: The boxes of the global tensor that it is made of: one, or one each for gate and up,
            which a tensor rank holds as [its gate; its up].
        gradient_is_partial: Backward leaves each tensor rank a partial gradient, to be summed over
            the tensor ranks.
        in_norm: Whether this rank counts the gradient in the global norm, so that each weight
            counts once.
        writes: Whether this rank, of those that hold the parameter, writes it into a checkpoint.

    """

    name: str
    shape: tuple[int, ...]
    boxes: tuple[Box, ...]
    gradient_is_partial: bool
    in_norm: bool
    writes: bool


def sharding_of(parameter: Parameter) -> ParameterSharding:
    """The description that `describe_shardings` attached to the parameter."""
    sharding: ParameterSharding = parameter.sharding  # type: ignore[attr-defined]
    return sharding


def sharded_parameters(
    chunks: Iterable[Any],
) -> Iterator[tuple[Parameter, ParameterSharding]]:
    """Each parameter of these model chunks, in order, with its sharding."""
    for chunk in chunks:
        for parameter in chunk.parameters():
            yield parameter, sharding_of(parameter)


def describe_shardings(chunks: Sequence["HiddenStatesModel"], layout: Layout) -> None:
    """Describe every parameter of this rank's chunks, before ZeRO partitions any of them.

    megatron-core's linears mark how their weights are sharded; a module of ours lists the
    parameters with partial gradients in `partial_gradients`. Of the ranks with equal data, tensor
    rank 0 writes weights that are replicated over tensor ranks, the first stage writes tied
    embeddings, and replicas alternate by parameter. A weight that is replicated over tensor ranks
    counts in the norm on tensor rank 0; the last stage's copy of tied embeddings does not count.
    """
    turn = 0
    for chunk in chunks:
        partial = {
            id(getattr(module, name))
            for module in chunk.modules()
            for name in getattr(module, "partial_gradients", ())
        }
        copy = _copy_of_tied_embeddings(chunk)
        for local_name, parameter in chunk.named_parameters():
            cut = bool(getattr(parameter, "tensor_model_parallel", False))
            counts = (cut or layout.tensor.rank == 0) and parameter is not copy
            in_turn = turn % layout.replicas.size == layout.replicas.rank
            name = global_name(chunk, local_name)
            parameter.sharding = ParameterSharding(
                name=name,
                shape=tuple(parameter.shape),
                boxes=_cut_boxes(name, parameter, layout) if cut else (_whole(name, parameter),),
                gradient_is_partial=id(parameter) in partial,
                in_norm=counts,
                writes=counts and in_turn,
            )
            # DeepSpeed's attributes for the same, which its gradient clipping reads.
            if not cut:
                parameter.model_parallel = layout.tensor.rank == 0
            if parameter is copy:
                copy.ds_pipe_replicated = True
            turn += 1


def global_name(chunk: Any, local_name: str) -> str:
    """The parameter's name with the layer's index in the whole model; tied weights share one."""
    if local_name == "output_layer.weight" and chunk.share_embeddings_and_output_weights:
        return "embedding.word_embeddings.weight"
    if not local_name.startswith("decoder.layers."):
        return local_name
    _, _, index, rest = local_name.split(".", 3)
    layer = chunk.decoder.layers[int(index)].layer_number - 1
    return f"decoder.layers.{layer}.{rest}"


def _copy_of_tied_embeddings(chunk: Any) -> Any:
    """The last stage's copy of the first stage's embeddings; None on other chunks."""
    if not chunk.share_embeddings_and_output_weights or chunk.pre_process:
        return None
    return chunk.shared_embedding_or_output_weight() if chunk.post_process else None


def _whole(name: str, parameter: Tensor) -> Box:
    shape = tuple(parameter.shape)
    return Box(name, shape, (0,) * len(shape), 0, slice(0, shape[0]))


def _cut_boxes(name: str, parameter: Any, layout: Layout) -> tuple[Box, ...]:
    """A sharded parameter's boxes: this tensor rank's rows of each of `partition_stride` parts."""
    axis, parts = parameter.partition_dim, parameter.partition_stride
    shape = list(parameter.shape)
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
