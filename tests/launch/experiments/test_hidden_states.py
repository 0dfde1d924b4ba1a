"""The line through hidden states finds what tells knowns from unknowns, and nothing where nothing
does.
"""

import torch

from launch.experiments.truth.hidden_states import Separation, fitted, separation


def test_a_line_finds_the_one_direction_that_tells_them_apart() -> None:
    """Catches a fit that is the wrong way round, and one that the larger side decides."""
    states = torch.randn(600, 16, generator=torch.Generator().manual_seed(0))
    unknown = torch.arange(600) % 6 == 0
    states[:, 3] += 4.0 * unknown
    direction, offset = fitted(states, unknown)
    assert direction.abs().argmax() == 3 and direction[3] > 0
    scores = states @ direction + offset
    found = separation(scores[~unknown], scores[unknown])
    assert found.area > 0.98 and found.answered < 0.1
    # Weighed alike, the offset lies between the two, not with the many.
    assert (scores[unknown] > 0).float().mean() > 0.9 < (scores[~unknown] < 0).float().mean()


def test_scores_that_say_nothing_separate_nothing() -> None:
    """Catches equal scores counted for one side, and shares taken from the wrong end."""
    assert separation(torch.zeros(20), torch.zeros(30)) == Separation(0.5, 1.0)
    assert separation(torch.arange(11.0), torch.tensor([8.0, 9.0, 10.0])).answered > 0.6
    assert separation(torch.arange(11.0), torch.full((4,), 99.0)) == Separation(1.0, 0.0)
