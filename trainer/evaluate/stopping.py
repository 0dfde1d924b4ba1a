"""Ending an examination before all is answered, on every rank at the same point."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist

from trainer.evaluate.respondent import PausingRespondent, Query, Respondent, Response
from trainer.recovery import StopSignals

ANSWERS_BETWEEN = 8
"""Answers between two looks at whether a stop is asked for."""

Stop = Callable[[], bool]
"""Whether any rank is asked to stop; collective."""


class ExaminationStopped(Exception):
    """A stop was asked for while a suite was measured: raised on every rank alike."""


@dataclass(frozen=True)
class StoppableRespondent:
    """A respondent that is asked, every few answers and while it works, whether to go on."""

    inner: Respondent
    stop: Stop

    @property
    def chats(self) -> bool:
        """As the inner one's."""
        return self.inner.chats

    @property
    def longest(self) -> int:
        """As the inner one's."""
        return self.inner.longest

    def encode(self, text: str) -> list[int]:
        """As the inner one's."""
        return self.inner.encode(text)

    def responses(self, queries: Sequence[Query]) -> Iterator[tuple[int, Response]]:
        """As the inner one's; raises ExaminationStopped."""
        inner = self.inner
        if isinstance(inner, PausingRespondent):
            found = inner.paused_responses(queries, self._look)
        else:
            found = inner.responses(queries)
        # Closed here: the model goes back to training before anything else happens.
        with closing(cast(Any, found)) as answers:
            for number, answer in enumerate(answers):
                if number % ANSWERS_BETWEEN == 0:
                    self._look()
                yield answer

    def _look(self) -> None:
        if self.stop():
            raise ExaminationStopped


def asked_to_stop(signals: StopSignals, hosts: dist.ProcessGroup | None) -> bool:
    """Whether any rank of the gloo group `hosts` is asked to stop; collective."""
    if dist.get_world_size(hosts) == 1:
        return signals.requested is not None
    asked = torch.tensor(float(signals.requested is not None))
    dist.all_reduce(asked, op=dist.ReduceOp.MAX, group=hosts)
    return bool(asked.item())
