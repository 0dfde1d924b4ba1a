"""Preferences to tokens: two segments an example, of which the model learns the answers alone."""

from dataclasses import replace

import numpy as np

from trainer.conversations.marking import FlaggedTokens, Marker
from trainer.conversations.pairs import Judged, Pair
from trainer.conversations.spans import Written
from trainer.conversations.turns import Message
from trainer.data.token_flags import GOOD, SEGMENT


def mark_pair(pair: Pair, marker: Marker, texts: tuple[Written, Written]) -> FlaggedTokens:
    """The chosen segment, then the rejected one, whose first token has SEGMENT; uint32 [a + b].

    Each is the prompt and its answer, marked as `Marker` does from its text in `texts`.
    """
    chosen, rejected = (
        marker.mark_answer(side.conversation, text)
        for side, text in zip((pair.chosen, pair.rejected), texts, strict=True)
    )
    return _joined(chosen, rejected)


def mark_judged(
    judged: Judged, own: FlaggedTokens, other: tuple[Message, ...], marker: Marker
) -> FlaggedTokens:
    """The answer's segment, its first token with GOOD if it is good; then, with SEGMENT, the same
    prompt with `other`, an answer to another prompt; uint32 [a + b].

    `own` is its conversation as `Marker` marks it. By the second segment KTO estimates how far the
    model is from its reference (arXiv:2402.01306, 4.1).
    """
    first = own.copy()
    if judged.good:
        first[0] |= np.uint32(GOOD)
    strange = replace(judged.side.conversation, messages=(*judged.side.prompt, *other))
    return _joined(first, marker.mark_answer(strange))


def _joined(first: FlaggedTokens, second: FlaggedTokens) -> FlaggedTokens:
    second[0] |= np.uint32(SEGMENT)
    return np.concatenate((first, second))
