"""Whose turn it is: shares hold inside every stage, and what comes follows from a few integers."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.mixture import (
    MixtureState,
    Phase,
    SourceSchedule,
    changes_of_shares,
    phase_at,
    phases_of,
    realised_shares,
)
from trainer.errors import DataError, RecipeError

WINDOW = 100_000


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[Phase], dict[int, int]]:
    """Stages of 2 to 6 sources, and after how many of its sequences each capped source ends."""
    sources = draw(st.integers(2, 6))
    weights = st.lists(st.integers(0, 30).map(lambda n: n / 10), min_size=sources, max_size=sources)
    firsts = draw(st.lists(st.integers(0, 150), max_size=4, unique=True).map(sorted))
    stages = phases_of(
        draw(st.lists(st.integers(1, 30), min_size=sources, max_size=sources)),
        [(first, draw(weights.filter(any))) for first in firsts],
    )
    caps = st.dictionaries(st.integers(0, sources - 1), st.integers(1, 60), max_size=sources)
    return stages, draw(caps)


def steps(turns: SourceSchedule, caps: dict[int, int], count: int) -> Iterator[int]:
    """The next choices, at most `count`, with sources that end by their caps."""
    for _ in range(count):
        try:
            source = turns.take()
        except DataError:
            return
        if turns.taken[source] == caps.get(source):
            turns.end(source)
        yield source


@given(plan=plans(), resumes=st.lists(st.integers(0, 300), max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_resume_anywhere_gives_the_same_choices(plan, resumes: list[int]) -> None:
    """Catches a count that is not saved: at a border, after an end, or where both meet."""
    stages, caps = plan
    expected = list(steps(SourceSchedule(stages), caps, 300))
    turns, found = SourceSchedule(stages), []
    for _ in range(300):
        if len(found) in resumes:
            saved = turns.counts()
            turns = SourceSchedule(stages)
            turns.load(saved)
            assert turns.counts().taken == saved.taken
        found += steps(turns, caps, 1)
    assert found == expected


@given(plan=plans())
@settings(max_examples=100, deadline=None)
def test_between_borders_each_share_is_within_one_sequence(plan) -> None:
    """Catches shares that are not renormalised, and a stage that makes up for the one before."""
    stages, caps = plan
    turns, sources = SourceSchedule(stages), len(stages[0].weights)
    begun, counts, before = -1, np.zeros(sources), None
    for place, source in enumerate(steps(turns, caps, 300)):
        stage = phase_at(stages, place)
        ended = [end is not None and end <= place for end in turns.ended]
        if (stage, ended) != before:
            begun, counts, before = place, np.zeros(sources), (stage, ended)
        counts[source] += 1
        shares = np.array(
            [0 if over else w for w, over in zip(stages[stage].weights, ended, strict=True)]
        )
        error = np.abs(counts - shares / shares.sum() * (place + 1 - begun))
        assert error.max() < 1 + 1e-9  # this check rounds, the stream does not


def largest_window_error(choices: np.ndarray, weights: np.ndarray) -> float:
    """The largest distance of a share from the declared one over any window of 100,000."""
    worst = 0.0
    for source, share in enumerate(weights / weights.sum()):
        given_ = np.concatenate([[0], np.cumsum(choices == source)])
        realised = (given_[WINDOW:] - given_[:-WINDOW]) / WINDOW
        worst = max(worst, float(np.abs(realised - share).max()))
    return worst


AWKWARD = [
    [0.1, 0.2, 0.7],
    [1e-4, 1.0, 3.0],
    np.random.default_rng(1).random(40).tolist(),
    (np.random.default_rng(2).pareto(0.7, 60) + 1e-3).tolist(),
]


@pytest.mark.parametrize("weights", AWKWARD, ids=["thirds", "rare", "40 sources", "60 heavy tails"])
def test_any_window_of_100000_sequences_has_the_declared_shares(weights: list[float]) -> None:
    """Catches a realised mixture that is off by more than 0.1% anywhere within a stage."""
    half = 150_000
    first = [1.0] * len(weights)
    turns = SourceSchedule(phases_of(first, [(half, weights)]))
    choices = np.array([turns.take() for _ in range(2 * half)])
    for part, declared in ((choices[:half], first), (choices[half:], weights)):
        error = largest_window_error(part, np.array(declared))
        assert error < 1e-3
        assert error <= 2 / WINDOW, "each end of a window is within one sequence"


def test_the_check_of_windows_can_fail() -> None:
    """Negative control: dice with the right weights are off by more than 0.1% in some window."""
    weights = np.array([0.5, 0.3, 0.2])
    dice = np.random.default_rng(0).choice(3, size=300_000, p=weights)
    assert largest_window_error(dice, weights) > 1e-3


def test_a_source_that_ends_leaves_its_share_to_the_others() -> None:
    """Catches an end that changes the proportions among those that are left."""
    turns = SourceSchedule(phases_of([2.0, 1.0, 1.0]))
    list(steps(turns, {0: 10}, 20))
    assert turns.ended[0] is not None and turns.taken[0] == 10
    left = list(steps(turns, {}, 40))
    assert [left.count(source) for source in range(3)] == [0, 20, 20]


def test_a_source_without_weight_in_a_stage_is_left_out_of_it() -> None:
    """Catches a division by a weight of 0, and a source that never comes back."""
    turns = SourceSchedule(
        phases_of([1.0, 1.0], [(0, [1.0, 0.0]), (10, [0.0, 1.0]), (20, [1.0, 1.0])])
    )
    choices = [turns.take() for _ in range(40)]
    assert choices[:10] == [0] * 10 and choices[10:20] == [1] * 10
    assert choices[20:].count(0) == 10


def test_the_end_of_all_sources_is_one_line() -> None:
    """Catches a hang, or an assertion, where there is nothing left to give."""
    turns = SourceSchedule(phases_of([1.0, 1.0]))
    list(steps(turns, {0: 3, 1: 5}, 100))
    with pytest.raises(DataError, match=r"the data ends at sequence 8: .*epochs.* lower steps"):
        turns.take()
    turns = SourceSchedule(phases_of([1.0, 1.0], [(4, [1.0, 0.0])]))
    list(steps(turns, {0: 3}, 100))
    with pytest.raises(DataError, match=r"since the stage at sequence 4 .*some weight"):
        turns.peek()


@pytest.mark.parametrize(
    ("curriculum", "message"),
    [
        ([(0, [0.0, 0.0])], "one above 0"),
        ([(0, [1.0, -1.0])], "0 or more"),
        ([(0, [1.0, float("nan")])], "0 or more"),
        ([(5, [1.0, 1.0]), (5, [1.0, 2.0])], "ascending"),
        ([(-1, [1.0, 1.0])], "ascending"),
    ],
)
def test_stages_that_make_no_sense_are_refused(curriculum, message: str) -> None:
    """Catches a bad stage that shows only when training has come to it."""
    with pytest.raises(RecipeError, match=message):
        phases_of([1.0, 1.0], curriculum)


@pytest.mark.parametrize(
    "counts",
    [
        MixtureState(0, [4, 4], [4, 3], [None, None]),
        MixtureState(3, [4, 4], [4, 4], [None, None]),
        MixtureState(-1, [4, 4], [4, 5], [None, None]),
        MixtureState(0, [4, 4], [9, -1], [None, None]),
    ],
)
def test_counts_that_do_not_add_up_are_refused(counts: MixtureState) -> None:
    """Catches a damaged state that would shift the shares silently."""
    with pytest.raises(DataError, match="add up"):
        SourceSchedule(phases_of([1.0, 1.0])).load(counts)


def test_other_weights_count_from_where_they_begin() -> None:
    """Catches a source that, given more weight on resume, first makes up for all of the past."""
    turns = SourceSchedule(phases_of([9.0, 1.0]))
    list(steps(turns, {}, 1000))
    saved = turns.counts()
    changed = SourceSchedule(phases_of([1.0, 1.0]))
    changed.load(saved)
    choices = list(steps(changed, {}, 10))
    assert choices.count(0) == 5
    assert changed.counts().border == 1000


def state_of(turns: SourceSchedule) -> dict:
    ends = zip(turns.taken, turns.ended, strict=True)
    return {
        "sequences": turns.sequences,
        "sources": [{"taken": taken, "ended": ended} for taken, ended in ends],
    }


def test_ends_and_stages_are_told_once_with_the_new_shares() -> None:
    """Catches an event told at every step, twice after a resume, or with the old shares."""
    names, stages = ["a", "b", "c"], phases_of([2.0, 1.0, 1.0], [(30, [1.0, 1.0, 3.0])])
    turns, before, told = SourceSchedule(stages), None, {}
    for step in range(1, 12):
        list(steps(turns, {0: 10}, 4))
        after = state_of(turns)
        lines = changes_of_shares(stages, names, before, after)
        if lines:
            told[step] = lines
        assert changes_of_shares(stages, names, after, after) == []
        before = after
    ended = turns.ended[0]
    assert told == {
        ended // 4 + (ended % 4 > 0): [
            f"a is read to its end and left out from sequence {ended} on; "
            "the shares are now b 0.5000, c 0.5000"
        ],
        8: ["new weights hold from sequence 30 on; the shares are now b 0.2500, c 0.7500"],
    }


def test_realised_shares_are_those_of_all_sequences() -> None:
    """Catches shares of the last step alone, and a line for runs that mix nothing."""
    state = {"sequences": 8, "sources": [{"taken": 6}, {"taken": 2}]}
    assert realised_shares(state, ["web", "code"]) == {"mixture/web": 0.75, "mixture/code": 0.25}
    assert realised_shares({"sequences": 8, "sources": [{"taken": 8}]}, ["web"]) == {}
