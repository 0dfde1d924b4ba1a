"""The comparison with an earlier commit finds what it is there to find."""

from typing import Any

import pytest

from tests.compatibility.against_commit import differences, verdict

RECORDS = [
    {"step": 1, "loss": 2.5, "grad_norm": 1.0, "preference/kl": 0.5, "step_seconds": 1.0},
    {"step": 2, "loss": 2.25, "grad_norm": 0.5, "preference/kl": 0.25, "step_seconds": 2.0},
]


def changed(**keys: Any) -> list[dict[str, Any]]:
    """RECORDS with other values in the last of them."""
    return [RECORDS[0], {**RECORDS[1], **{key.replace("__", "/"): v for key, v in keys.items()}}]


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (changed(loss=2.2500000000000004), "loss"),
        (changed(loss=None), "loss"),
        (changed(grad_norm=0.5000001), "grad_norm"),
        (changed(preference__kl=0.250002), "preference/kl"),
        (RECORDS[:1], "2 and 1 steps"),
        ([RECORDS[0], {"step": 2, "loss": 2.25}], "no grad_norm"),
    ],
)
def test_each_difference_is_named(after: list[dict[str, Any]], found: str) -> None:
    """Catches a comparison that passes whatever it is given."""
    assert found in verdict(list(differences(RECORDS, after)))


def test_times_and_rounded_figures_may_differ() -> None:
    """Catches a comparison that no second run of the same commit would pass."""
    after = changed(preference__kl=0.2500005, step_seconds=7.0)
    assert verdict(list(differences(RECORDS, after))) == "none"
