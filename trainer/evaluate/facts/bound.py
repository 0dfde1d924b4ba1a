r"""The lower bound on a base model's errors from the share of facts that occur once.

Kalai, Nachum, Vempala and Zhang, "Why Language Models Hallucinate", 2025, arXiv 2509.04664, Theorem
2 (arbitrary facts). Prompts c are drawn with the frequencies mu(c) of the training data; each has
one correct answer a_c, drawn uniformly from a set R_c, and E_c are the others. Of N training
samples, the singletons S are the prompts that appear exactly once, and sr = |S| / N. Then, with
probability 99% or more over the answers and the samples, whatever the algorithm,

    err >= sr - 2 / min_c |E_c| - (35 + 6 ln N) / sqrt(N) - delta,

where err is the probability of a wrong answer, and delta = |q(A) - p(A)| the calibration term of
Theorem 1: A are the pairs (c, r) that the model q gives q(r | c) > 1 / min_c |E_c|, and p is the
distribution of the training data. The theorem says nothing where the right side is 0 or less, as it
is for every N below 8,000: the third term alone is above 1 there, and above 1/2 up to 38,000. It
assumes that nothing but the samples tells a fact; facts that follow from others are known better.
Here a prompt is a subject with the kind of fact, and R_c are the answers that an item offers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ErrorBound:
    """The terms of the bound: singletons' share, 2 / min |E_c|, the term of N, and delta."""

    singleton_rate: float
    of_answers: float
    of_samples: float
    miscalibration: float

    @property
    def value(self) -> float:
        """The bound; 0 or less says nothing."""
        others = self.of_answers + self.of_samples + self.miscalibration
        return self.singleton_rate - others


def samples_term(samples: float) -> float:
    """(35 + 6 ln N) / sqrt(N)."""
    return (35 + 6 * math.log(samples)) / math.sqrt(samples)


def error_bound(
    singleton_rate: float, samples: float, wrong_answers: float, miscalibration: float
) -> ErrorBound:
    """The bound for `samples` N, of which `singleton_rate` are prompts that appear once.

    `wrong_answers`: min_c |E_c|; `miscalibration`: delta.
    """
    return ErrorBound(singleton_rate, 2 / wrong_answers, samples_term(samples), miscalibration)


def miscalibration(weights: np.ndarray, model: np.ndarray, text: np.ndarray) -> float:
    """The calibration term delta = |q(A) - p(A)|, from samples of prompts.

    `weights`: mu of each prompt, up to a factor; `model`: the sum of q(r | c) over the answers with
    q(r | c) > 1 / min |E_c|; `text`: 1 where the correct answer is among these, else 0; each fp64
    [prompts].
    """
    return float(abs((weights * (model - text)).sum()) / weights.sum())


def above(probabilities: Sequence[float], wrong_answers: int) -> tuple[float, bool]:
    """(sum of the probabilities above 1 / min |E_c|, whether the first, the correct one, is)."""
    threshold = 1 / wrong_answers
    return sum(p for p in probabilities if p > threshold), probabilities[0] > threshold
