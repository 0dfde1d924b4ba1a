from pathlib import Path

import torch

from tests.checkpoint.saving import save
from trainer.checkpoint import latest_checkpoint, list_checkpoints, rotate
from trainer.checkpoint.folders import checkpoints_to_resume, give_up_behind, passed_over
from trainer.checkpoint.marks import Settling, mark_chosen, mark_damaged, mark_unsettled, settle


def saved(run: Path, *steps: int, unsettled: tuple[int, ...] = ()) -> list[Path]:
    """Checkpoints of a run after these steps, some of which have not settled."""
    paths = []
    for step in steps:
        if step in unsettled:
            mark_unsettled(run / "checkpoints", step)
        paths.append(save(run, step))
    return paths


def test_the_newest_good_checkpoint_is_one_that_has_settled(tmp_path: Path) -> None:
    """Catches a resume from weights that the very next step would have shown to be spoilt."""
    second, fourth, sixth = saved(tmp_path, 2, 4, 6, unsettled=(6,))
    assert latest_checkpoint(tmp_path) == fourth
    assert checkpoints_to_resume(tmp_path) == [fourth, second, sixth]
    (why,) = passed_over(tmp_path, fourth)
    assert "step-00000006 has not settled" in why
    assert [one.settled for one in list_checkpoints(tmp_path)] == [True, True, False]
    settle(sixth)
    assert latest_checkpoint(tmp_path) == sixth and passed_over(tmp_path, sixth) == []


def test_where_none_has_settled_the_newest_is_better_than_step_one(tmp_path: Path) -> None:
    """Catches a run that was killed early and begins anew, though its first checkpoint is whole."""
    (first,) = saved(tmp_path, 2, unsettled=(2,))
    assert latest_checkpoint(tmp_path) == first


def test_rotation_keeps_the_last_that_has_settled(tmp_path: Path) -> None:
    """Catches the only good checkpoint removed for newer ones that turn out to be spoilt."""
    _, fourth, _, eighth = saved(tmp_path, 2, 4, 6, 8, unsettled=(6, 8))
    rotate(tmp_path, keep=1)
    assert [one.path for one in list_checkpoints(tmp_path)] == [fourth, eighth]
    assert not list((tmp_path / "checkpoints").glob("step-00000006*"))


def test_a_damaged_checkpoint_stays_and_keeps_its_contents_when_its_step_comes_again(
    tmp_path: Path,
) -> None:
    """Catches evidence of a bad disk removed by rotation, or overwritten by the resumed run."""
    second, fourth = saved(tmp_path, 2, 4)
    weights = second / "rank-00000.safetensors"
    damaged = weights.read_bytes()[:-1] + b"?"
    weights.write_bytes(damaged)
    mark_damaged(second, "it was altered")
    rotate(tmp_path, keep=1)
    assert [(one.path, one.problem) for one in list_checkpoints(tmp_path)] == [
        (second, "it was altered"),
        (fourth, None),
    ]
    again = save(tmp_path, 2)
    (aside,) = (tmp_path / "checkpoints").glob("step-00000002.damaged-*")
    assert (aside / weights.name).read_bytes() == damaged
    assert (again / weights.name).read_bytes() != damaged
    assert list_checkpoints(tmp_path)[0].problem is None


def test_a_checkpoint_that_was_put_right_counts_again(tmp_path: Path) -> None:
    """Catches a note of damage that outlives the damage."""
    (second,) = saved(tmp_path, 2)
    mark_damaged(second, "it was altered")
    assert latest_checkpoint(tmp_path) is None
    mark_chosen(second)
    assert latest_checkpoint(tmp_path) == second


def test_a_course_that_was_given_up_is_not_gone_on_with(tmp_path: Path) -> None:
    """Catches a run that went back to step 2 and goes on from step 6 of the course before, and
    rotation that removes the new course's checkpoints for the old one's higher steps.
    """
    second, fourth, sixth = saved(tmp_path, 2, 4, 6)
    assert give_up_behind(tmp_path, 2) == [fourth, sixth]
    assert latest_checkpoint(tmp_path) == second
    assert checkpoints_to_resume(tmp_path) == [second]
    save(tmp_path, 3)
    rotate(tmp_path, keep=1)
    listed = {one.step: one.problem for one in list_checkpoints(tmp_path)}
    assert listed.keys() == {3, 4, 6} and listed[3] is None
    assert "given up after step 2" in str(listed[4])
    save(tmp_path, 4)  # the new course comes there too
    assert latest_checkpoint(tmp_path) == fourth


def test_a_checkpoint_settles_after_applied_steps_in_a_row() -> None:
    """Catches a checkpoint that counts as good though every step behind it was skipped."""
    path = Path("checkpoints/step-00000004")
    settling = Settling()
    settling.add(path, steps=2)
    assert settling.complete(path) == []
    assert settling.observe(4, True) == [], "its own step is no step behind it"
    assert settling.observe(5, True) == []
    assert settling.observe(6, False) == []
    assert settling.observe(7, True) == []
    assert settling.observe(8, True) == [path]
    assert settling.observe(9, True) == []


def test_a_checkpoint_that_becomes_whole_late_has_its_steps_counted() -> None:
    """Catches one that was written beside training, and waits for steps that have been."""
    path, lost = Path("checkpoints/step-00000004"), Path("checkpoints/step-00000006")
    settling = Settling()
    settling.add(path, steps=1)
    assert settling.observe(5, True) == []
    assert settling.observe(6, False) == [], "one step behind it was applied, which is enough"
    settling.add(lost, steps=0)
    settling.drop(lost)
    assert settling.complete(path) == [path]
    assert settling.complete(path) == []


def test_all_finite_sees_one_value_among_many() -> None:
    """Catches a check that opposite infinities cancel out in, or that large values fool."""
    from trainer.parallel.finite import all_finite

    large = torch.full((1000,), 3e38)
    assert all_finite([large, -large]) and all_finite([])
    for value in (float("nan"), float("inf"), float("-inf")):
        spoilt = large.clone()
        spoilt[500] = value
        assert not all_finite([large, spoilt])
    both = torch.tensor([float("inf"), float("-inf")])
    assert not all_finite([both])
