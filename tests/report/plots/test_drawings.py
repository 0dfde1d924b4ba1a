"""The drawings of layout and schedule are of what really runs."""

from types import SimpleNamespace

import pytest
from megatron.core.parallel_state import RankGenerator
from megatron.core.pipeline_parallel import schedules

from tests.report.plots.drawn import check, images, placed
from trainer.report.plots.drawings import layout_drawing, schedule_drawing
from trainer.report.plots.layout_drawing import RankGrid
from trainer.report.plots.pipeline_order import (
    bubble_share,
    duration,
    shorter,
    stage_order,
    timetable,
)

SCHEDULES = [(1, 1, 3), (2, 1, 1), (4, 1, 8), (4, 1, 2), (2, 2, 4), (4, 2, 8), (4, 3, 4), (3, 2, 9)]


@pytest.mark.parametrize(("pipeline", "virtual", "micro_batches"), SCHEDULES)
def test_stages_warm_up_and_turn_as_megatron_core_does(
    pipeline: int, virtual: int, micro_batches: int
) -> None:
    """Would catch a drawing of the textbook's schedule where the library runs another."""
    chunks = schedules.get_schedule_table(
        micro_batches, virtual, pipeline if virtual > 1 else micro_batches
    )
    for stage in range(pipeline):
        group = SimpleNamespace(size=lambda: pipeline, rank=lambda stage=stage: stage)
        communicator = SimpleNamespace(
            pp_group=group,
            virtual_pipeline_model_parallel_size=virtual if virtual > 1 else None,
        )
        _, _, ahead, _ = schedules.get_pp_rank_microbatches(
            micro_batches, virtual, pipeline, p2p_communicator=communicator
        )
        order = stage_order(stage, pipeline, virtual, micro_batches)
        forwards = [(one.micro_batch, one.stretch) for one in order if not one.backward]
        backwards = [(one.micro_batch, one.stretch) for one in order if one.backward]
        assert forwards == chunks
        assert backwards == [(one, virtual - 1 - chunk) for one, chunk in chunks]
        kinds = [one.backward for one in order]
        steady = [False, True] * (len(chunks) - ahead)
        assert kinds == [False] * ahead + steady + [True] * ahead


@pytest.mark.parametrize(("pipeline", "virtual", "micro_batches"), SCHEDULES)
def test_the_bubble_is_what_the_papers_give(
    pipeline: int, virtual: int, micro_batches: int
) -> None:
    """Would catch a stage that waits without need: the bubble is (p - 1) / (v m + p - 1)."""
    if micro_batches < pipeline:
        return
    expected = (pipeline - 1) / (virtual * micro_batches + pipeline - 1)
    assert bubble_share(pipeline, virtual, micro_batches) == pytest.approx(expected)


@pytest.mark.parametrize(("pipeline", "virtual"), [(4, 1), (4, 2), (3, 1)])
def test_a_long_schedule_begins_and_ends_as_its_short_stand_in(pipeline: int, virtual: int) -> None:
    """Would catch a stand-in whose beginning or end is not that of the whole schedule."""
    whole = 40 * pipeline
    short = shorter(pipeline, whole)
    assert short < whole
    long_table, table = (timetable(pipeline, virtual, one) for one in (whole, short))
    ends = duration(long_table), duration(table)
    for one, other in zip(long_table, table, strict=True):
        assert [p for p in one if p[0] < 60] == [p for p in other if p[0] < 60]
        last = [
            [(end - at, p.micro_batch - count, p.stretch) for at, p in passes if at > end - 60]
            for passes, end, count in ((one, ends[0], whole), (other, ends[1], short))
        ]
        assert last[0] == last[1]


@pytest.mark.parametrize("shape", [*SCHEDULES, (8, 1, 512), (16, 2, 64), (64, 1, 4096)])
def test_schedules_are_legible_and_bounded(shape: tuple[int, int, int]) -> None:
    """Would catch numbers over one another, and a drawing that grows with the run."""
    plot = schedule_drawing(*shape)
    check(plot)
    assert len(plot) < 60_000
    texts = " ".join(one.text for one in placed(images(plot)[0]))
    assert ("micro-batches in between are left out" in texts) is (shape[2] >= 64)
    with pytest.raises(ValueError, match="multiples"):
        schedule_drawing(4, 2, 6)


@pytest.mark.parametrize("shape", [(2, 2, 3, 2), (1, 4, 1, 2), (4, 1, 2, 1)])
def test_ranks_are_numbered_as_megatron_core_numbers_them(
    shape: tuple[int, int, int, int],
) -> None:
    """Would catch a drawing in another order, in which tensor groups seem to cross nodes."""
    tensor, context, data, pipeline = shape
    groups = RankGenerator(tensor, 1, data, pipeline, context, "tp-cp-ep-dp-pp")
    grid = RankGrid(tensor, pipeline, 1, context, data, 8)
    names = {"tp": "tensor", "cp": "context", "dp": "data", "pp": "pipeline"}
    for token, name in names.items():
        size = grid.axes[name][0]
        assert [grid.rank(**{name: place}) for place in range(size)] == groups.get_ranks(token)[0]


def test_layouts_are_legible_and_small_up_to_1024_ranks() -> None:
    """Would catch a drawing of a cell a rank, and one that says the wrong of nodes."""
    for arguments in ((1024, 8, 8, 2, 2, 8, 8), (1, 1, 1, 1, 1, 1, 8), (12, 1, 3, 1, 2, 2, 4)):
        plot = layout_drawing(*arguments)
        check(plot)
        assert len(plot) < 30_000
    texts = " ".join(one.text for one in placed(images(layout_drawing(16, 8, 2, 1, 1, 1, 8))[0]))
    assert "within a node" in texts and "across nodes" in texts
    with pytest.raises(ValueError, match="are not 9 ranks"):
        layout_drawing(9, 2, 2, 1, 1, 2, 8)
