"""The layout drawn: which rank holds which part of the model, and which node it is on."""

from collections.abc import Iterable
from dataclasses import dataclass

from trainer.report.plots.canvas import Canvas, drawing, element, number, room_for
from trainer.report.plots.lettering import TEXT, shortened, text_width
from trainer.report.plots.schedule_drawing import first_and_last
from trainer.report.plots.style import property_of

_CELL = 22
_STAGES, _REPLICAS = 8, 3
"""Most that are shown of a larger number: the first ones and the last."""


@dataclass(frozen=True)
class RankGrid:
    """The sizes of a layout. Ranks are numbered tensor fastest, then context, data, pipeline."""

    tensor: int
    pipeline: int
    virtual: int
    context: int
    data: int
    ranks_a_node: int

    @property
    def axes(self) -> dict[str, tuple[int, int]]:
        """Of each axis its size, and how far apart neighbours on it are numbered."""
        inner = self.tensor * self.context
        return {
            "tensor": (self.tensor, 1),
            "context": (self.context, self.tensor),
            "data": (self.data, inner),
            "pipeline": (self.pipeline, inner * self.data),
        }

    def rank(self, *, tensor: int = 0, context: int = 0, data: int = 0, pipeline: int = 0) -> int:
        """The rank at these coordinates."""
        places = {"tensor": tensor, "context": context, "data": data, "pipeline": pipeline}
        return sum(places[name] * stride for name, (_, stride) in self.axes.items())

    def crosses_nodes(self, axis: str) -> bool:
        """Whether any group of ranks along an axis is spread over several nodes."""
        size, stride = self.axes[axis]
        world = self.tensor * self.context * self.data * self.pipeline
        return any(
            first // self.ranks_a_node != (first + (size - 1) * stride) // self.ranks_a_node
            for first in range(world)
            if first // stride % size == 0
        )


def layout_drawing(
    world_size: int,
    tensor: int,
    pipeline: int,
    virtual: int,
    context: int,
    data: int,
    ranks_a_node: int,
    layers: int | None = None,
) -> str:
    """A row of ranks for each pipeline stage of each replica, and in words what an axis shares.

    `layers`: of the whole model, to name those of each stage; None: stretches are numbered. Of many
    replicas, stages or ranks in a row, the first and the last are shown. ValueError where the sizes
    do not make up the world.
    """
    sizes = (tensor, pipeline, virtual, context, data, ranks_a_node)
    if min(sizes) < 1 or tensor * pipeline * context * data != world_size:
        raise ValueError(
            f"tensor {tensor} x pipeline {pipeline} x context {context} x data {data} "
            f"are not {world_size} ranks"
        )
    grid = RankGrid(*sizes)
    title = f"Layout of {world_size:,} rank{'s' if world_size > 1 else ''}"
    told = list(_sentences(grid))

    def paint(canvas: Canvas) -> None:
        canvas.heading(title)
        shown = first_and_last(data, _REPLICAS if pipeline < 4 else 2)
        # Two would be the first and an ellipsis: the last is shown, too.
        shown = [0, None, data - 1] if len(shown) == 2 and None in shown else shown
        for replica in shown:
            if replica is None:
                hidden = data - sum(one is not None for one in shown)
                canvas.note(f"… {hidden:,} more replicas alike …")
            else:
                _paint_replica(canvas, grid, replica, layers)
        for sentence in told:
            canvas.note(sentence)
        if not canvas.wide and (layers is not None or virtual > 1):
            stages = [stage for stage in first_and_last(pipeline, 4) if stage is not None]
            for stage in stages:
                canvas.note(f"stage {stage}: {held_by(grid, stage, layers)}")

    return drawing(title, [f"Layout of {world_size:,} ranks.", *told], paint)


def held_by(grid: RankGrid, stage: int, layers: int | None) -> str:
    """The layers of a stage, from 0; its stretches of all stretches, where layers are unknown."""
    turns = [turn * grid.pipeline + stage for turn in range(grid.virtual)]
    if layers is None:
        whole = grid.pipeline * grid.virtual
        return f"stretch {', '.join(map(str, turns))} of {whole}" if grid.virtual > 1 else ""
    length = layers // (grid.pipeline * grid.virtual)
    return "layers " + ", ".join(f"{one * length}\u2013{(one + 1) * length - 1}" for one in turns)


def _sentences(grid: RankGrid) -> Iterable[str]:
    """What each axis shares, its first group of ranks, and whether it stays within a node."""
    shared = {
        "tensor": "each matrix is cut in {size}",
        "context": "each sequence is cut in {size}",
        "data": "{size} replicas read different sequences",
        "pipeline": "the layers are cut in {size} stages",
    }
    alone = True
    for name, (size, stride) in grid.axes.items():
        if size == 1:
            continue
        alone = False
        ranks = ", ".join(
            "…" if one is None else f"{one * stride:,}" for one in first_and_last(size, 5)
        )
        where = "across nodes" if grid.crosses_nodes(name) else "within a node"
        yield f"{name} {size}: {shared[name].format(size=size)}; ranks {ranks}, …; {where}."
    if alone:
        yield "One rank holds the whole model and reads every sequence."


def _paint_replica(canvas: Canvas, grid: RankGrid, replica: int, layers: int | None) -> None:
    """A replica's ranks: stages downward, tensor and context to the right, its nodes behind."""
    row, largest = (
        grid.tensor * grid.context,
        grid.rank(
            tensor=grid.tensor - 1,
            context=grid.context - 1,
            data=grid.data - 1,
            pipeline=grid.pipeline - 1,
        ),
    )
    stages = first_and_last(grid.pipeline, _STAGES)
    labels = {}
    for stage in stages:
        if stage is not None:
            held = held_by(grid, stage, layers) if canvas.wide else ""
            labels[stage] = shortened(f"stage {stage}{held and f': {held}'}", 220)
    left = room_for(labels.values()) + 12
    last_node = largest // grid.ranks_a_node
    nodes = text_width(f"nodes {last_node}\u2013{last_node}") + 10
    cell = max(26.0, text_width(str(largest)) + 8)
    columns = first_and_last(row, max(3, int((canvas.width - 4 - left - nodes) / cell)))
    canvas.height += TEXT + 4
    canvas.text(2, canvas.height, f"data {replica}", bold=True)
    canvas.height += 6
    behind = len(canvas.parts)
    cells: dict[bool, str] = {True: "", False: ""}
    for stage in stages:
        y, base = canvas.height, canvas.height + 15.5
        if stage is None:
            canvas.text(2, base, f"… {grid.pipeline - len(labels)} more stages …")
            canvas.height += _CELL + 2
            continue
        canvas.text(2, base, labels[stage])
        first = grid.rank(data=replica, pipeline=stage)
        for place, column in enumerate(columns):
            x = left + place * cell
            text = "…" if column is None else str(first + column)
            canvas.text(x + cell / 2 - 1, base, text, anchor="middle")
            if column is not None:
                odd = (first + column) // grid.ranks_a_node % 2 == 1
                cells[odd] += (
                    f"M{number(x)},{number(y)}h{number(cell - 2)}v{_CELL}h{number(2 - cell)}z"
                )
        ends = sorted({one // grid.ranks_a_node for one in (first, first + row - 1)})
        node = f"node{'s' if len(ends) > 1 else ''} " + "\u2013".join(map(str, ends))
        canvas.text(left + len(columns) * cell + 4, base, node)
        canvas.height += _CELL + 2
    for odd, data in cells.items():
        if data:
            # Nodes in turn have one of two tints; their numbers stand beside them.
            colour = property_of("series-4" if odd else "series-1")
            opacity = "0.28" if odd else "0.12"
            shape = element("path", d=data, fill=colour, fill_opacity=opacity, stroke=colour)
            canvas.parts.insert(behind, shape)
    canvas.height += 4
