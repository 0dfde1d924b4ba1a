"""A forecast of a mixture agrees with what the stream does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.manifest import Split
from trainer.data.mixture import SourceSchedule, phases_of
from trainer.errors import DataError
from trainer.plan.mixture import epoch_sequences, forecast


@given(
    weights=st.lists(st.integers(1, 20), min_size=3, max_size=3),
    other=st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any),
    first=st.integers(0, 400),
    caps=st.lists(st.none() | st.integers(1, 200), min_size=3, max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_a_forecast_is_what_comes(weights, other, first: int, caps) -> None:
    """Catches ends foretold at the wrong place, through stages and other ends."""
    stages = phases_of(weights, [(first, other)])
    turns, over = SourceSchedule(stages), None
    for _ in range(600):
        try:
            source = turns.take()
        except DataError:
            over = turns.sequences
            break
        if turns.taken[source] == caps[source]:
            turns.end(source)
    expected = forecast(stages, caps, 600)
    # Each border, of which there are at most four here, shifts counts by less than a sequence;
    # a source with a share of 1/41 then ends up to 41 sequences a border earlier or later.
    for source in range(3):
        assert abs(turns.taken[source] - expected.taken[source]) <= 5
    assert (over is None) == (expected.over is None) or 600 - sum(expected.taken) <= 5
    if over is not None and expected.over is not None:
        assert abs(over - expected.over) <= 5


def test_an_end_within_a_stage_is_exact() -> None:
    """Catches shares that are not renormalised at an end."""
    found = forecast(phases_of([1.0, 1.0, 2.0]), [10, None, 30], 1000)
    # 10 at a quarter of the stream: 40; by then the third gave 20, and gives 2 of 3 from there.
    assert found.ends == [40, None, 55]
    assert found.taken == [10, 960, 30] and found.over is None
    assert forecast(phases_of([1.0]), [10], 1000).over == 10


@pytest.mark.parametrize(("packing", "sequences"), [("best_fit", 19), ("none", 50)])
def test_an_epoch_has_at_least_its_positions_in_full_rows(packing: str, sequences: int) -> None:
    """Catches labels counted as positions, and unpacked documents counted as packed."""
    assert epoch_sequences(Split(50, 1950, ()), 100, packing) == sequences
