"""Texts scored by a tiny random model, on as many ranks as are there, and by plain means."""

import random
from typing import Any

import torch

from tests.evaluate.writing import ROWS, recipe_of
from trainer.evaluate.respondent import Likelihood, Unanswered
from trainer.evaluate.scoring import TokenRequest, TokenScorer
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import SequenceLayout
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout
from trainer.parallel.megatron import dissolve_groups, evaluating
from trainer.recipe import Recipe

LENGTH = 1400


def requests_of(seed: int = 0) -> list[TokenRequest]:
    """Texts of every kind of sharing: shots before all, questions with several answers, both;
    none; the same text twice; one that begins another; longer than a pass.
    """
    dice = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [dice.randrange(ROWS) for _ in range(count)]

    shots = tokens(40)
    found: list[TokenRequest] = [(tokens(dice.randrange(1, 30)), tokens(3)) for _ in range(12)]
    for _ in range(12):
        question = shots + tokens(dice.randrange(1, 12))
        found += [(question, tokens(dice.randrange(1, 4))) for _ in range(4)]
    long = tokens(300)
    found += [(long, tokens(dice.randrange(1, 20))) for _ in range(25)]
    found += [(long[:250], long[250:]), (long[:1], long[1:]), (long[:1], long[1:])]
    found.append((tokens(5), tokens(LENGTH - 5)))
    found += [(tokens(1200), tokens(1)), (tokens(1), tokens(1))]
    dice.shuffle(found)
    return found


def score(
    layouts: list[dict[str, Any]],
    model: dict[str, Any] | None = None,
    requests: list[TokenRequest] | None = None,
) -> list[dict[int, Likelihood | Unanswered]]:
    """What this rank is told at each layout in turn, by request."""
    found = []
    for keys in layouts:
        recipe = recipe_of(LENGTH, model, **keys)
        layout = create_layout(recipe)
        chunks = build_model(recipe, ROWS, layout)
        scorer = TokenScorer(chunks, recipe, layout)
        found.append(dict(scorer.scored(requests_of() if requests is None else requests)))
        dissolve_groups()
    return found


def score_plainly(
    model: dict[str, Any] | None = None, requests: list[TokenRequest] | None = None
) -> dict[int, Likelihood]:
    """The same on one rank: each text run whole, alone, without any cache or plan."""
    recipe: Recipe = recipe_of(LENGTH, model)
    layout = create_layout(recipe)
    chunk = build_model(recipe, ROWS, layout)[0]
    found = {}
    with torch.no_grad(), evaluating([chunk]):
        for number, (context, continuation) in enumerate(requests or requests_of()):
            whole = torch.tensor([[*context, *continuation]])
            positions = torch.arange(whole.shape[1] - 1)[None]
            sequence = SequenceLayout.whole(positions, rotary_embedding(recipe))
            logits = chunk(whole[:, :-1], sequence)[0, len(context) - 1 :]
            nats = logits.log_softmax(dim=-1).gather(1, whole[0, len(context) :, None])[:, 0]
            likeliest = logits.argmax(dim=-1).tolist() == list(continuation)
            found[number] = Likelihood(tuple(nats.tolist()), likeliest)
    dissolve_groups()
    return found
