"""Chat templates within bounds of work and of size: they are other people's programs.

transformers' sandbox keeps a template from the interpreter's inner parts, and lets it run for ever
or fill the memory. Here every step of a loop, every call, and every character that is made or
written is counted while it renders, and what would make a text beyond the bound in one step is
refused before. What a template writes within its bounds is what it writes without.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache, wraps
from typing import Any, NamedTuple

from jinja2 import nodes
from jinja2.environment import Template
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from trainer.conversations.growth import (
    TemplateBound,
    grown_by_call,
    grown_by_filter,
    grown_by_operator,
)


class RenderBounds(NamedTuple):
    """What one rendering may take.

    `work`: characters made and written, and ten for a step of a loop; `characters`: of what it
    writes, and of any text on the way; both more where the conversation is long; `seconds` of this
    thread's own time, for what is not counted.
    """

    work: int = 100_000_000
    characters: int = 1 << 25
    seconds: float = 30.0


BOUNDS = RenderBounds()
MOST_TEMPLATE_CHARACTERS = 1 << 20
"""Of a template's own text: a hundred times the longest that is published."""
WORK_A_CHARACTER = 100
STEP = 10
_LOOK_EVERY = 10_000
_COUNTED, _MADE, _SAID = "lyceum_counted", "lyceum_made", "lyceum_said"


class _Budget:
    """What is left of the bounds of one rendering; `given`: what the template got."""

    def __init__(self, bounds: RenderBounds, given: Any, clock: Callable[[], float]) -> None:
        self._given, self._clock = given, clock
        self.characters, self._left = bounds.characters, bounds.work
        self._look, self._written, self._grown = self._left - _LOOK_EVERY, 0, False
        self._end = clock() + bounds.seconds
        self._seconds = bounds.seconds

    def spend(self, work: int) -> None:
        """Count work that is done, or is about to be."""
        self._left -= work
        if self._left < self._look:
            self._look = self._left - _LOOK_EVERY
            if self._left < 0 and not self._grow():
                raise TemplateBound("it works without an end: a loop, or text made of itself")
            if self._clock() > self._end:
                raise TemplateBound(f"it took more than {self._seconds:g} seconds")

    def made(self, characters: int) -> None:
        """Count a text, or a list, of so many parts."""
        if characters <= self.characters and self._left - characters >= self._look:
            self._left -= characters
            return
        if characters > self.characters and not (self._grow() and characters <= self.characters):
            raise TemplateBound(f"it makes a text of more than {self.characters:,} characters")
        self.spend(characters)

    def write(self, characters: int) -> None:
        """Count what is written."""
        self._written += characters
        self.made(self._written if self._written > self.characters else characters)

    def size(self, value: Any) -> int:
        """The characters of a value as text, nearly; they are counted."""
        total, waiting = 0, [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str | bytes):
                total += len(one)
            elif isinstance(one, dict):
                waiting += [*one.keys(), *one.values()]
                total += 8
            elif isinstance(one, list | tuple | set | frozenset):
                waiting += one
                total += 8
            else:
                total += 8
            self.spend(1)
            if total > self.characters:
                self.made(total)
        return total

    def _grow(self) -> bool:
        """Give a long conversation its share, once."""
        if self._grown:
            return False
        self._grown = True
        total = _characters(self._given)
        self._left += total * WORK_A_CHARACTER
        self.characters = max(self.characters, 4 * total)
        return self._left >= 0


def _characters(given: Any) -> int:
    """The characters of a conversation, which is a tree: JSON's."""
    if isinstance(given, str):
        return len(given)
    if isinstance(given, dict):
        return sum(map(_characters, given.values()))
    return sum(map(_characters, given)) if isinstance(given, list | tuple) else 0


class _Counted:
    """What a loop goes through, each step counted."""

    def __init__(self, items: Any, work: int) -> None:
        self._items, self._work = items, work

    def __iter__(self) -> Iterator[Any]:
        return _stepped(self._items, self._work)

    def __len__(self) -> int:
        return len(self._items)


def _stepped(items: Iterable[Any], work: int = STEP) -> Iterator[Any]:
    for item in items:
        _spend(work)
        yield item


_SIZED = (str, bytes, list, tuple, dict)


class _Rendering(threading.local):
    budget: _Budget | None = None


_rendering = _Rendering()


def _spend(work: int) -> None:
    if _rendering.budget is not None:
        _rendering.budget.spend(work)


def _made(value: Any) -> Any:
    """A value that was made, counted by its length; one that makes its items as they are asked for
    is counted then.
    """
    budget = _rendering.budget
    if budget is not None:
        if isinstance(value, _SIZED):
            budget.made(len(value))
        elif isinstance(value, Iterator):
            return _stepped(value)
    return value


def _said(value: Any) -> Any:
    """A value that becomes text, counted as that."""
    budget = _rendering.budget
    if budget is not None:
        budget.made(len(value) if isinstance(value, str) else budget.size(value))
    return value


class _Meter(NodeTransformer):
    """Has a template count its loops, and what it joins and cuts."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 (Jinja's names)
        """A loop's steps cost the more, the more text stands in it."""
        work = STEP + sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        items: Any = node.iter
        node.iter = _filtered(items, _COUNTED, nodes.Const(work))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        """`~` makes text of its parts."""
        self.generic_visit(node)
        parts: list[Any] = node.nodes
        node.nodes = [_filtered(part, _SAID) for part in parts]
        return _filtered(node, _MADE)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        """A slice copies; another item does not."""
        self.generic_visit(node)
        return _filtered(node, _MADE) if isinstance(node.arg, nodes.Slice) else node


def _filtered(node: nodes.Expr, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox that counts what is done in it."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def _generate(self, source: nodes.Template, *others: Any, **named: Any) -> str:
        return super()._generate(_Meter().visit(source), *others, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """The result of an operator that could make too much."""
        if operator == "+":  # in most templates, and no longer than both
            return _made(left + right)
        _grow(lambda size: grown_by_operator(operator, left, right, size))
        return _made(super().call_binop(context, operator, left, right))

    def call(self, context: Any, obj: Any, /, *arguments: Any, **named: Any) -> Any:
        """The result of a call out of the template."""
        _spend(STEP)
        if isinstance(obj, LoopContext):
            arguments = tuple(_Counted(one, STEP) for one in arguments)
        elif isinstance(obj, Macro):
            _spend(self._macro_work)
        else:
            arguments = tuple(_Counted(a, STEP) if _joins(obj, a) else a for a in arguments)
            _grow(lambda size: grown_by_call(obj, arguments, named, size))
        return _made(super().call(context, obj, *arguments, **named))

    _macro_work = STEP


def _joins(called: Any, argument: Any) -> bool:
    """Whether `join` would take items that are made as they are asked for."""
    return getattr(called, "__name__", "") == "join" and isinstance(argument, Iterator)


def _grow(measure: Callable[[Callable[[Any], int]], int]) -> None:
    """Refuse what `measure` says will be too long; it gets what measures a value as text."""
    budget = _rendering.budget
    found = measure(budget.size if budget is not None else _constant_size)
    limit = budget.characters if budget is not None else MOST_TEMPLATE_CHARACTERS
    if found > limit:
        if budget is None:  # while it is compiled: it is refused when it is reached
            raise TemplateBound("a constant of it is too long")
        budget.made(found)


def _constant_size(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(str(value))


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def filtered(*arguments: Any, **named: Any) -> Any:
        value, others = arguments[first], arguments[first + 1 :]
        if name == "join" and isinstance(value, Iterator):
            value = list(_stepped(value))
            arguments = (*arguments[:first], value, *others)
        _grow(lambda size: grown_by_filter(name, value, others, named, size))
        _spend(len(value) if isinstance(value, str | list | tuple | range) else 1)
        return _made(function(*arguments, **named))

    return filtered


def bounded(
    template: Template,
    bounds: RenderBounds = BOUNDS,
    clock: Callable[[], float] = time.thread_time,
) -> Any:
    """The environment of a compiled template, as one in which every rendering is bounded.

    `clock` tells this thread's own time, in seconds.
    """
    environment: Any = template.environment.overlay()
    environment.__class__ = BoundedEnvironment
    environment.filters = {
        name: _guarded(name, function) for name, function in environment.filters.items()
    }
    environment.filters |= {_COUNTED: _Counted, _MADE: _made, _SAID: _said}
    environment.finalize = _said
    environment.globals = {k: v for k, v in environment.globals.items() if k != "lipsum"}
    environment.template_class = _template_class(bounds, clock)
    return environment


@cache
def _template_class(bounds: RenderBounds, clock: Callable[[], float]) -> type[Template]:
    class BoundedTemplate(Template):
        """A template each of whose renderings has a budget of its own."""

        @classmethod
        def _from_namespace(cls, environment: Any, namespace: Any, globals: Any) -> Any:
            root = namespace["root"]

            def metered(context: Any, *others: Any) -> Iterator[str]:
                before = _rendering.budget
                budget = _rendering.budget = _Budget(bounds, context.parent, clock)
                try:
                    for piece in root(context, *others):
                        budget.write(len(piece))
                        yield piece
                finally:
                    _rendering.budget = before

            return super()._from_namespace(environment, {**namespace, "root": metered}, globals)

    return BoundedTemplate


@lru_cache(maxsize=64)
def bounded_template(text: str) -> Template:
    """The template of a text as transformers compiles it, bounded; raises TemplateBound for a text
    that is too long, and jinja2's errors.
    """
    # The environment, its sandbox and its filters are transformers' own, so that what a server
    # renders is what is trained; its public function copies each turn at each call.
    from transformers.utils.chat_template_utils import _compile_jinja_template

    if len(text) > MOST_TEMPLATE_CHARACTERS:
        raise TemplateBound(f"its text has more than {MOST_TEMPLATE_CHARACTERS:,} characters")
    environment = bounded(_compile_jinja_template(text))
    environment._macro_work = STEP + len(text)
    found: Template = environment.from_string(text)
    return found
