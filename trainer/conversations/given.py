"""What a chat template gets of a conversation, and which of it the template has read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.corpus.reading.quarantine import RecordLocation

Turn = dict[str, Any]
_LOOKED_FOR = {"role", "content", "tool_calls", "reasoning_content", "thinking", "reasoning"}


class ReadTurn(dict[str, Any]):
    """A turn that remembers which of its keys a template has read."""

    def __init__(self, held: Mapping[str, Any]) -> None:
        super().__init__(held)
        self.seen: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.seen.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As dict.get."""
        self.seen.add(key)
        return super().get(key, default)

    def items(self) -> Any:
        """As dict.items: all are read, as by a template that writes the turn as JSON."""
        self.seen.update(self)
        return super().items()

    def values(self) -> Any:
        """As dict.values."""
        self.seen.update(self)
        return super().values()


@dataclass(frozen=True)
class Given:
    """What a template gets of a conversation: its turns, and what stands beside them.

    `learnt`: the answers among the turns as they are while they are learnt, where that differs.
    `flattened`: what is written as text, since the template does not read it.
    """

    turns: list[Turn]
    place: RecordLocation | None = None
    tools: list[dict[str, Any]] | None = None
    documents: list[ReadTurn] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    flattened: tuple[str, ...] = ()
    learnt: Mapping[int, Turn] = field(default_factory=dict)

    @property
    def unread(self) -> set[str]:
        """Keys of turns that the template has not read, once it has rendered them.

        Of reasoning the text itself is looked for.
        """
        found = [turn for turn in self.turns if isinstance(turn, ReadTurn)]
        unread = {f"turns' {k}" for turn in found for k in turn.keys() - turn.seen - _LOOKED_FOR}
        documents = self.documents or []
        return unread | {f"documents' {k}" for held in documents for k in held.keys() - held.seen}
