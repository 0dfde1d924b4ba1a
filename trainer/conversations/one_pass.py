"""Render a conversation once for all its prompts, where that is what rendering each would give.

A template writes its turns in a loop, one after the other. Where it has looked at no later turn,
and has not asked whether there is one, what it has written so far is what it would have written of
the earlier turns alone. So the turns are handed out by a sequence that notes how much is written
when each is asked for, and that refuses every other question. Two things are read off the template:
`add_generation_prompt` matters behind the loop alone, and what stands behind the loop depends on
nothing that the turns have set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_BACKWARD = {"first", "index", "index0", "previtem", "depth", "depth0", "cycle", "changed"}
"""What a loop knows of itself without looking ahead."""
_REFUSE, _TURNS = "lyceum_looks_ahead", "lyceum_turns"


class LooksAhead(Exception):
    """The template has asked for more than the turns that it has reached."""


@dataclass(frozen=True)
class Passed:
    """What one rendering of all turns has written.

    `starts[n]` is how many characters stood there when turn n was reached, with the end of the
    loop as the last; what follows that does not depend on the turns.
    """

    text: str
    starts: tuple[int, ...]


class OnePass:
    """A compiled template, if it can be rendered so; `usable` says whether it may."""

    def __init__(self, environment: Any, text: str) -> None:
        tree = environment.parse(text)
        self.usable = _independent_end(tree) and _refuse_lookahead(tree)
        self._template = environment.from_string(tree) if self.usable else None
        if self._template is not None:
            # One mapping in place of a chain of them, which each rendering would walk.
            self._template.globals = dict(self._template.globals)

    def render(self, turns: Sequence[Any], variables: Mapping[str, Any]) -> Passed | None:
        """Render all turns, without a prompt for an answer; None where it looks ahead or fails."""
        if self._template is None:
            return None
        pieces: list[str] = []
        asked = _Asked(turns, pieces)
        given = {**variables, "messages": asked, _REFUSE: _refuse, _TURNS: _one_by_one}
        try:
            context = self._template.new_context({"add_generation_prompt": False, **given})
            pieces.extend(self._template.root_render_func(context))
        # Somebody else's program, and a sequence that refuses much: the usual way tells what fails.
        except Exception:
            return None
        if asked.end is None:
            return None
        sizes = [0]
        for piece in pieces:
            sizes.append(sizes[-1] + len(piece))
        return Passed("".join(pieces), tuple(sizes[n] for n in (*asked.starts, asked.end)))


class _Asked:
    """Turns that are handed out one after the other, once."""

    def __init__(self, turns: Sequence[Any], pieces: list[str]) -> None:
        self._turns, self._pieces = turns, pieces
        self.starts: list[int] = []
        self.end: int | None = None
        self._begun = False

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        # A filter would go through all of them; the loop over the turns asks otherwise.
        raise LooksAhead

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            if key.stop is not None or key.step is not None or (key.start or 0) not in (0, 1):
                raise LooksAhead
            if (key.start or 0) == 1 and not self.starts:
                self.starts.append(len(self._pieces))
            return _Rest(self, key.start or 0)
        if not isinstance(key, int) or not 0 <= key < max(len(self.starts), 1):
            raise LooksAhead
        return self._turns[key]

    def __len__(self) -> int:
        raise LooksAhead

    def __contains__(self, turn: object) -> bool:
        raise LooksAhead

    def __eq__(self, other: object) -> bool:
        raise LooksAhead

    __hash__ = None  # type: ignore[assignment]

    def one_by_one(self, first: int = 0) -> Iterator[Any]:
        """The turns from the `first` on, each noted as it is reached."""
        if self._begun:
            raise LooksAhead
        self._begun = True
        for number, turn in enumerate(self._turns):
            if number >= len(self.starts):
                self.starts.append(len(self._pieces))
            if number >= first:
                yield turn
        self.end = len(self._pieces)


class _Rest:
    """The turns behind the first, as `messages[1:]`."""

    def __init__(self, asked: _Asked, first: int) -> None:
        self._asked, self._first = asked, first

    def __iter__(self) -> Iterator[Any]:
        raise LooksAhead

    def one_by_one(self) -> Iterator[Any]:
        """The turns, each noted as it is reached."""
        return self._asked.one_by_one(self._first)

    def __getattr__(self, name: str) -> Any:
        raise LooksAhead

    def __bool__(self) -> bool:
        raise LooksAhead

    def __eq__(self, other: object) -> bool:
        raise LooksAhead

    __hash__ = None  # type: ignore[assignment]


def _one_by_one(turns: Any) -> Iterator[Any]:
    """What the loop over the turns goes through; refused if they are anything but that."""
    if not isinstance(turns, _Asked | _Rest):
        raise LooksAhead
    return turns.one_by_one()


def _refuse() -> None:
    raise LooksAhead


def _independent_end(tree: Any) -> bool:
    """Whether behind the one loop over the turns nothing that was set before is read.

    The loop is made to go through the turns by `_one_by_one`.
    """
    from jinja2 import nodes

    def names(node: Any, context: str) -> set[str]:
        found = [*node.find_all(nodes.Name), *([node] if isinstance(node, nodes.Name) else [])]
        return {name.name for name in found if name.ctx == context}

    stored = names(tree, "store") | {macro.name for macro in tree.find_all(nodes.Macro)}
    turns = {"messages"}
    for assigned in tree.find_all(nodes.Assign):
        if names(assigned.node, "load") & turns:
            turns |= names(assigned.target, "store")
    body = [held for node in tree.body for held in _statements(node)]
    reading = [n for n, node in enumerate(body) if names(node, "load") & turns]
    if not reading or not isinstance(body[reading[-1]], nodes.For):
        return False
    loop, end = body[reading[-1]], body[reading[-1] + 1 :]
    if loop.else_ or loop.recursive or not names(loop.iter, "load") & turns:
        return False
    turned = nodes.Name(_TURNS, "load")
    loop.iter = nodes.Call(turned, [loop.iter], [], None, None)
    before = body[: reading[-1] + 1]
    asked = {"add_generation_prompt"}
    return not any(names(node, "load") & asked for node in before) and not any(
        names(node, "load") & stored for node in end
    )


def _statements(node: Any) -> list[Any]:
    """An Output's parts one by one; any other statement by itself."""
    from jinja2 import nodes

    return list(node.nodes) if isinstance(node, nodes.Output) else [node]


def _refuse_lookahead(tree: Any) -> bool:
    """Have the template refuse where its loop would look ahead; false where that cannot be seen."""
    from jinja2 import nodes

    looked = [held for held in tree.find_all(nodes.Getattr) if _is_loop(held.node)]
    if sum(map(_is_loop, tree.find_all(nodes.Name))) != len(looked):
        return False
    refusal = nodes.Call(nodes.Name(_REFUSE, "load"), [], [], None, None)
    ahead = [held for held in looked if held.attr not in _BACKWARD]
    for parent in tree.find_all(nodes.Node):
        for field, value in parent.iter_fields():
            if isinstance(value, list):
                setattr(parent, field, [refusal if one in ahead else one for one in value])
            elif any(value is one for one in ahead):
                setattr(parent, field, refusal)
    return True


def _is_loop(node: Any) -> bool:
    return getattr(node, "name", None) == "loop" and getattr(node, "ctx", "") == "load"
