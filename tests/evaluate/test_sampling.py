"""Sampling decides what a user reads: each knob must do what its name says."""

from __future__ import annotations

import pytest
import torch

from trainer.errors import RecipeError
from trainer.evaluate import sampling
from trainer.evaluate.sampling import check_sampling, sample

PROBABILITIES = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])
DRAWS = 20_000


def draw(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = PROBABILITIES.log().expand(DRAWS, -1)
    return sample(logits, temperature, top_k, top_p, generator)


def frequencies(ids: torch.Tensor) -> torch.Tensor:
    return torch.bincount(ids, minlength=len(PROBABILITIES)) / len(ids)


# Five standard deviations of a frequency over DRAWS draws of a fair coin, the widest case.
TOLERANCE = 5 * 0.5 / DRAWS**0.5


def test_frequencies_follow_the_probabilities() -> None:
    """Catches a biased draw, such as one that is off by one in the cumulative sum."""
    assert (frequencies(draw()) - PROBABILITIES).abs().max() < TOLERANCE


def test_the_frequency_check_would_see_a_wrong_temperature() -> None:
    """Negative control of the test above."""
    assert (frequencies(draw(temperature=0.8)) - PROBABILITIES).abs().max() > TOLERANCE


def test_temperature_sharpens_as_the_formula_says() -> None:
    """Catches a temperature that multiplies, or that is applied after the cut."""
    expected = PROBABILITIES**2 / (PROBABILITIES**2).sum()
    assert (frequencies(draw(temperature=0.5)) - expected).abs().max() < TOLERANCE


def test_temperature_zero_takes_the_largest() -> None:
    """Catches a division by zero, and a greedy mode that depends on the generator."""
    assert (draw(temperature=0) == 1).all()


@pytest.mark.parametrize(("top_k", "kept"), [(1, {1}), (3, {1, 3, 4}), (9, {0, 1, 2, 3, 4})])
def test_top_k_keeps_the_k_largest(top_k: int, kept: set[int]) -> None:
    """Catches a cut at the wrong rank, and a k beyond the vocabulary."""
    assert set(draw(top_k=top_k).tolist()) == kept


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.01, {1}),
        (0.39, {1}),
        (0.41, {1, 3}),
        (0.69, {1, 3}),
        (0.84, {1, 3, 4}),
        (0.86, {1, 2, 3, 4}),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p: float, kept: set[int]) -> None:
    """Catches the classic slip: leaving out the token that crosses p, or keeping one more."""
    assert set(draw(top_p=top_p).tolist()) == kept


def test_top_p_counts_within_top_k() -> None:
    """Catches top-p computed over tokens that top-k has dropped."""
    # Of the two largest, the first holds 0.4 / 0.7 = 0.57: it alone reaches 0.5.
    assert set(draw(top_k=2, top_p=0.5).tolist()) == {1}


@pytest.mark.parametrize("top_k", [0, 2])
@pytest.mark.parametrize("temperature", [1e-20, 1e-38, 1e-320])
def test_a_temperature_near_zero_takes_the_largest(temperature: float, top_k: int) -> None:
    """Catches logits that overflow when they are divided: no draw came of them, or any at all."""
    logits = torch.tensor([[1.0, 5.0, -3.0], [-7.0, -9.0, -8.0]])
    assert sample(logits, temperature, top_k, 1.0).tolist() == [1, 0]


def test_the_seed_decides_the_draw() -> None:
    """Catches hidden use of the global generator."""
    torch.manual_seed(1)
    first = draw(seed=3)
    torch.manual_seed(2)
    assert torch.equal(first, draw(seed=3))
    assert not torch.equal(first, draw(seed=4))


@pytest.mark.parametrize("top_p", [0.999, 1.0])
def test_impossible_tokens_are_never_drawn(top_p: float) -> None:
    """Catches a draw that falls beyond the last kept token by rounding."""
    logits = torch.full((DRAWS, 1000), -torch.inf)
    logits[:, 500] = 0.0
    generator = torch.Generator().manual_seed(0)
    assert (sample(logits, 1.0, 0, top_p, generator) == 500).all()


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (2, 1.0), (0, 0.9)])
def test_logits_that_are_no_numbers_give_a_token(top_k: int, top_p: float) -> None:
    """Catches an id outside the vocabulary, which on a GPU ends the process at some later line."""
    drawn = sample(torch.full((2, 5), torch.nan), 1.0, top_k, top_p)
    assert ((drawn >= 0) & (drawn < 5)).all()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "word"),
    [(-1, 0, 1, "temperature"), (1, -1, 1, "top_k"), (1, 0, 0, "top_p"), (1, 0, 1.1, "top_p")],
)
def test_impossible_settings_are_named(
    temperature: float, top_k: int, top_p: float, word: str
) -> None:
    """Catches nonsense settings that would sample nonsense without a word."""
    with pytest.raises(RecipeError, match=word):
        check_sampling(temperature, top_k, top_p)


@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5])
@pytest.mark.parametrize("spread", [0.1, 2.0, 6.0])
def test_the_likeliest_alone_give_the_draws_of_all(
    spread: float, top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a draw of the tail that is cut off, and a nucleus that ends with what was looked at.

    Flat logits are drawn from the tail, peaked ones hardly ever.
    """
    logits = torch.randn(400, 1200, generator=torch.Generator().manual_seed(3)) * spread

    def drawn(likeliest: int) -> torch.Tensor:
        monkeypatch.setattr(sampling, "LIKELIEST", likeliest)
        generators = [torch.Generator().manual_seed(row) for row in range(len(logits))]
        return sample(logits, 1.0, 0, top_p, generators)

    whole = drawn(1200)
    assert (drawn(64) != whole).sum() <= 1  # where rounding decides
    ranks = (logits > logits.gather(1, whole[:, None])).sum(dim=1)
    of_the_tail = float((ranks >= 64).float().mean())
    low, high = {0.1: (0.2, 1.0), 2.0: (0.0, 1.0), 6.0: (0.0, 0.05)}[spread]
    assert low <= of_the_tail <= high


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_of_equal_logits_none_is_forgotten_or_drawn_twice(
    spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches the likeliest and the others put in two orders, where equal ones stand between."""
    size, rows = 1000, 20_000
    logits = (torch.randn(size, generator=torch.Generator().manual_seed(1)) * spread).bfloat16()
    grid = (torch.arange(rows) + 0.5)[:, None] / rows
    monkeypatch.setattr(sampling, "_uniform", lambda *given: grid)
    drawn = sample(logits.expand(rows, -1), 1.0, 0, 1.0)
    expected = rows * logits.float().softmax(dim=-1)
    assert (torch.bincount(drawn, minlength=size) - expected).abs().max() < 1.5
