"""Words that no generator of the training questions makes: chains of letters, as names have them.

Each letter follows the two before it as often as in the names that are read (a Markov chain of
order 2, after Shannon, "A Mathematical Theory of Communication", 1948, section 3). The bank's own
generator joins syllables, halves and plain words (`trainer/questions/bank/invented.py`).
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.world_facts.invented import exists

_END = "."
SHORTEST, LONGEST = 5, 10
"""Letters of a word."""


def letter_chains(names: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Which letters follow each two, as often as in the words of the names."""
    words = {word for name in names for word in plain_words(name).split() if word.isalpha()}
    follow: dict[str, list[str]] = defaultdict(list)
    for word in sorted(words):
        padded = f"{_END}{_END}{word}{_END}"
        for at in range(len(padded) - 2):
            follow[padded[at : at + 2]].append(padded[at + 2])
    return dict(follow)


def chained_word(
    chains: Mapping[str, Sequence[str]], real: frozenset[str], draws: random.Random
) -> str:
    """A word of the chains that is neither in `real` nor, or nearly, in the lists at hand."""
    while True:
        word = _END * 2
        while len(word) <= LONGEST + 2 and not word.endswith(_END, 2):
            word += draws.choice(chains[word[-2:]])
        word = word.strip(_END)
        if SHORTEST <= len(word) <= LONGEST and word not in real and not exists(word):
            return word
