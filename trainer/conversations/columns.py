"""How a set's own names for columns and roles map to those that the forms know."""

from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from trainer.conversations.records import Example
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.errors import DataError, RecipeError

if TYPE_CHECKING:
    from trainer.recipe import ConversationsSection, MixtureSource

ROLES: Mapping[str, str] = MappingProxyType(
    {
        "system": "system",
        "developer": "system",
        "user": "user",
        "human": "user",
        "prompter": "user",
        "assistant": "assistant",
        "gpt": "assistant",
        "chatgpt": "assistant",
        "bard": "assistant",
        "bing": "assistant",
        "bot": "assistant",
        "ai": "assistant",
        "model": "assistant",
        "function_call": "assistant",
        "tool": "tool",
        "ipython": "tool",
        "observation": "tool",
        "function": "tool",
    }
)
"""Role names found in public sets, and the role each one means."""
_OUR_ROLES = ("system", "user", "assistant", "tool")
SYSTEM_FIELDS = ("system", "system_prompt")
TEMPLATE_FIELDS = ("tools", "documents", "chat_template_kwargs")
CONTINUES = "continue_final_message"
"""The field that says that the last answer is the beginning of one: its end is not learnt."""
ABOUT = "about"
"""The field of an object that says of an example where it is from, for whoever looks it up; that
nothing reads it is not said."""


@dataclass(frozen=True)
class SetNames:
    """What an entry of the mixture says of its set's names, and how its turns may stand.

    `columns`: ours to the set's; `roles`: the set's to ours; `same_role`: what becomes of two turns
    of one role in a row.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=lambda: ROLES)
    same_role: Literal["join", "refuse"] = "refuse"

    def fields(self, example: Example) -> "Fields":
        """The record's fields under our names."""
        return Fields(example.record, example.place, self)

    def turn(self, turn: Mapping[str, Any]) -> dict[str, Any]:
        """A turn's keys under our names, those that are null left out."""
        found = {name: value for name, value in turn.items() if value is not None}
        for ours, theirs in self.columns.items():
            if ours in ("role", "content") and theirs in turn:
                mapped = found.pop(theirs, None)
                if ours in found:
                    # The set's other key of our name, which is said to be read by nothing.
                    found[f"{ours} beside {theirs}"] = found[ours]
                found[ours] = mapped
        return found


def set_names(
    entry: "MixtureSource", section: "ConversationsSection", fields: Collection[str]
) -> SetNames:
    """What a mixture's entry says of its set's names; `fields`: those that the forms know.

    Raises RecipeError for a name of ours that is none.
    """
    for ours, theirs in entry.columns.items():
        if ours not in fields:
            turned = f"; write {theirs}: {ours}" if theirs in fields else ""
            raise RecipeError(
                f"data.mixture: columns of {entry.corpus}: {ours} is none of our names, which are"
                f" {', '.join(sorted(fields))}{turned}"
            )
    for theirs, ours in entry.roles.items():
        if ours not in _OUR_ROLES:
            turned = f"; write {ours}: {theirs}" if theirs in _OUR_ROLES else ""
            raise RecipeError(
                f"data.mixture: roles of {entry.corpus}: {ours} is none of our roles, which are"
                f" {', '.join(_OUR_ROLES)}{turned}"
            )
    return SetNames(dict(entry.columns), {**ROLES, **entry.roles}, section.same_role)


class Fields(Mapping[str, Any]):
    """A record's fields that are not null, by our names; those that were read are remembered."""

    def __init__(self, record: Mapping[str, Any], place: RecordLocation, names: SetNames) -> None:
        self.place, self.names = place, names
        self.changes: list[str] = []
        """What reading has changed, in words."""
        self.unread_within: list[str] = []
        """Keys inside of fields that nothing reads."""
        self._held = {name: value for name, value in record.items() if value is not None}
        self._read: set[str] = set()
        self._theirs: dict[str, str] = {}
        for ours, theirs in names.columns.items():
            if ours in ("role", "content"):
                continue
            # A column may be absent where it is null, as Parquet's rows leave it out.
            if theirs in record:
                self._theirs[ours] = theirs
        taken = {theirs: self._held.pop(theirs, None) for theirs in self._theirs.values()}
        mapped = {ours: taken[theirs] for ours, theirs in self._theirs.items()}
        self._shadowed = tuple(ours for ours in mapped if ours in self._held)
        self._held |= {ours: value for ours, value in mapped.items() if value is not None}

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, name: object) -> bool:
        return name in self._held

    @property
    def unread(self) -> tuple[str, ...]:
        """The set's names of the fields that nothing has read."""
        held = [name for name in self._held if name not in self._read and not self._is_about(name)]
        left = [self._theirs.get(name, name) for name in held]
        return (*left, *self._shadowed, *self.unread_within)

    def _is_about(self, name: str) -> bool:
        return name == ABOUT and isinstance(self._held[name], dict)

    def has_any(self, names: AbstractSet[str]) -> bool:
        """Whether one of these fields is there."""
        return not names.isdisjoint(self._held)

    def text(self, field: str) -> str:
        """A field that must be a string."""
        value = self[field]
        if not isinstance(value, str):
            raise DataError(f'{self.place}: "{field}" is no string')
        return value


def fields_of(record: Mapping[str, Any]) -> str:
    """The fields found, for an error."""
    return f"the fields {', '.join(list(record)[:12])}" if record else "no fields"
