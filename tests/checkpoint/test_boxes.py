import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.checkpoint.format import Bounds, intersect, slices, tiling_fault


@st.composite
def tilings(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Bounds]]:
    """A shape, and boxes that tile it: a grid of random cuts, in random order."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    axes = []
    for size in shape:
        cuts = sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=2))})
        axes.append(list(itertools.pairwise(cuts)))
    cells = itertools.product(*axes)
    boxes = [
        (tuple(start for start, _ in cell), tuple(end - start for start, end in cell))
        for cell in cells
    ]
    return shape, draw(st.permutations(boxes))


@settings(max_examples=40, deadline=None)
@given(tilings())
def test_a_grid_of_boxes_covers_its_tensor_exactly(
    case: tuple[tuple[int, ...], list[Bounds]],
) -> None:
    """Would catch a check that refuses checkpoints which are whole."""
    shape, boxes = case
    assert tiling_fault(boxes, shape) is None


@settings(max_examples=40, deadline=None)
@given(tilings(), st.data())
def test_a_missing_or_doubled_box_is_found(
    case: tuple[tuple[int, ...], list[Bounds]], data: st.DataObject
) -> None:
    """Would catch a check that passes whatever it is given."""
    shape, boxes = case
    index = data.draw(st.integers(0, len(boxes) - 1))
    assert tiling_fault(boxes[:index] + boxes[index + 1 :], shape) == "its pieces leave a hole"
    assert tiling_fault([*boxes, boxes[index]], shape) == "its pieces overlap"


@settings(max_examples=40, deadline=None)
@given(tilings(), st.data())
def test_an_overlap_that_hides_a_hole_is_found(
    case: tuple[tuple[int, ...], list[Bounds]], data: st.DataObject
) -> None:
    """Would catch a check that only adds up volumes."""
    shape, boxes = case
    twins = [
        (i, j)
        for i, j in itertools.permutations(range(len(boxes)), 2)
        if boxes[i][1] == boxes[j][1]
    ]
    if twins:
        kept, lost = data.draw(st.sampled_from(twins))
        changed = [boxes[kept] if i == lost else box for i, box in enumerate(boxes)]
        assert tiling_fault(changed, shape) == "its pieces overlap"


def test_boxes_outside_the_tensor_are_found() -> None:
    """Would catch pieces of one model accepted for a smaller one."""
    for box in [((0, 3), (2, 2)), ((-1, 0), (2, 4)), ((0,), (8,)), ((0, 0), (2, -4))]:
        assert "is outside [2, 4]" in str(tiling_fault([box], (2, 4)))


def test_zero_dimensional_and_empty_tensors_are_covered() -> None:
    """Would catch scalars (counts, scales) that cannot be saved."""
    assert tiling_fault([((), ())], ()) is None
    assert tiling_fault([], ()) == "its pieces leave a hole"
    assert tiling_fault([((), ()), ((), ())], ()) == "its pieces overlap"
    assert tiling_fault([((0, 0), (0, 3))], (0, 3)) is None


boxes_in_5x5 = st.tuples(
    st.tuples(st.integers(0, 4), st.integers(0, 4)), st.tuples(st.integers(1, 5), st.integers(1, 5))
)


@settings(max_examples=40, deadline=None)
@given(boxes_in_5x5, boxes_in_5x5)
def test_intersection_is_that_of_the_elements(first: Bounds, second: Bounds) -> None:
    """Would catch a box off by one, which would read a neighbour's weights."""
    counts = np.zeros((10, 10), dtype=int)
    for box in (first, second):
        counts[slices(box, (0, 0))] += 1
    both = np.zeros_like(counts, dtype=bool)
    common = intersect(first, second)
    if common:
        both[slices(common, (0, 0))] = True
    assert (both == (counts == 2)).all()
