"""A respondent by transformers alone: what lm-eval's tasks ask, without a model of ours."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from trainer.evaluate.respondent import (
    ContinuationQuery,
    Likelihood,
    Query,
    Response,
    TokensQuery,
    WrittenAnswer,
)


class ByTransformers:
    """Answers TokensQuery and ContinuationQuery with the model of a folder; counts them."""

    chats = False

    def __init__(self, folder: Path, longest: int) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._ends = self._model.generation_config.eos_token_id
        self.longest = longest
        self.asked = 0

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def responses(self, queries: Sequence[Query]) -> Iterator[tuple[int, Response]]:
        for number, query in enumerate(queries):
            self.asked += 1
            yield number, self._answer(query)

    @torch.no_grad()
    def _answer(self, query: Query) -> Response:
        if isinstance(query, TokensQuery):
            nats = self._model(torch.tensor([query.tokens[:-1]])).logits[0].log_softmax(dim=-1)
            wanted = torch.tensor(query.tokens[query.given :])
            nats = nats[query.given - 1 :]
            found = nats.gather(1, wanted[:, None])[:, 0]
            return Likelihood(tuple(found.tolist()), bool((nats.argmax(dim=-1) == wanted).all()))
        assert isinstance(query, ContinuationQuery) and query.temperature == 0
        new: list[int] = []
        while len(new) < query.tokens:
            ids = torch.tensor([[*query.prompt, *new]])
            token = int(self._model(ids).logits[0, -1].argmax())
            if token in self._ends:
                break
            new.append(token)
            if any(stop in self._tokenizer.decode(new) for stop in query.stop):
                break
        return WrittenAnswer("", True, (), tuple(new))
