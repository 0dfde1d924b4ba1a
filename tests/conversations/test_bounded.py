"""A chat template that never ends, or writes without measure, is refused in one line."""

import threading
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import _compile_jinja_template

from tests.conversations.talks import speaking, talk, with_tokens
from trainer.conversations.bounded import BOUNDS, RenderBounds, bounded, bounded_template
from trainer.conversations.growth import TemplateBound
from trainer.conversations.template import CHATML, ChatTemplate
from trainer.errors import DataError, RecipeError

# So small that nothing here is too much for a renderer without any.
SMALL = RenderBounds(work=40_000, characters=5_000, seconds=10.0)
TWICE = "{% set ns = namespace(s='ab', l=[1]) %}{% for n in range(14) %}"


def still() -> float:
    return 0.0


def rendered(text: str, bounds: RenderBounds = SMALL, clock: Any = still, **given: Any) -> str:
    template = bounded(_compile_jinja_template(text), bounds, clock).from_string(text)
    return str(template.render(**given))


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(90) %}{% for b in range(90) %}{% endfor %}{% endfor %}",
        "{% for a in range(9) %}" * 5 + "{% endfor %}" * 5,
        "{% for a in range(300) recursive %}{% if loop.depth < 2 %}{{ loop(range(300)) }}"
        "{% endif %}{% endfor %}",
        "{% set x %}{% for a in range(1200) %}A line of some text of seventy characters, which is"
        " not little.{% endfor %}{% endset %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
        "{{ m(12) }}",
        "{% for a in range(90) %}{{ range(4000) | list | length }}{% endfor %}",
        "{% for a in range(90) %}{{ range(4000) | map('string') | join | length }}{% endfor %}",
        "{{ range(60000) | map('string') | join }}",
        "{{ range(60000) | map('string') | list | length }}",
        "{{ ''.join(range(60000) | map('string')) }}",
        TWICE + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
        TWICE + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        TWICE + "{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
        TWICE + "{% set ns.s = ns.s.join(['', '', '']) %}{% endfor %}",
        TWICE + "{% set ns.s = ns.s | replace('b', ns.s) %}{% endfor %}",
        TWICE + "{% set ns.s = ns.s.replace('b', ns.s) %}{% endfor %}",
        TWICE + "{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
        TWICE + "{% set ns.s = '%s%s' | format(ns.s, ns.s) %}{% endfor %}",
        TWICE + "{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
        TWICE + "{% set ns.l = ns.l + ns.l %}{% endfor %}",
        TWICE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        TWICE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
        TWICE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | string }}",
        TWICE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ 'a' ~ ns.l }}",
        TWICE + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ '%s' % ns.l }}",
        "{{ 'ab' * 20000 }}",
        "{{ [0] * 20000 }}",
        "{{ 20000 * 'ab' }}",
        "{{ 2 ** 99999 > 1 }}",
        "{% set ns = namespace(n=3) %}{% for a in range(20) %}{% set ns.n = ns.n * ns.n %}"
        "{% endfor %}",
        "{{ 'a'.ljust(20000) }}",
        "{{ 'a'.zfill(20000) }}",
        "{{ 'a' | center(20000) }}",
        "{{ '%20000d' % 1 }}",
        "{{ '%*d' % (20000, 1) }}",
        "{{ '%20000d' | format(1) }}",
        "{{ '{:20000}'.format('a') }}",
        "{{ '{:{}}'.format('a', 20000) }}",
        "{{ '\\t\\t'.expandtabs(9000) }}",
        "{{ 'aa'.translate({97: 'b' * 4000}) }}",
        "{{ [1] | tojson(indent=20000) }}",
        "{{ 'a\\nb' | indent(9000) }}",
        "{{ 'a b c d' | wordwrap(1, wrapstring='x' * 4000) }}",
        "{{ [1] | batch(20000, 0) | list | length }}",
        "{{ [1] | slice(20000) | list | length }}",
        "{{ [[1], [2]] | sum(start=[]) }}",
        "{{ 'x' | round(20000) }}",
        "{% for a in range(900) %}{% set y = ('a' * 4000)[1:] %}{% endfor %}",
        "{% for a in range(60) %}{{ 'a' * 100 }}{% endfor %}",
        "{% for a in messages %}{{ a.content }}{% endfor %}" * 30,
    ],
)
def test_what_has_no_measure_is_refused(text: str) -> None:
    """Would catch a way to hang a rank or fill its memory by a template."""
    messages = [{"content": "a" * 30}] * 10
    with pytest.raises(TemplateBound, match=r"works without an end|text of more than"):
        rendered(text, messages=messages)


def test_what_a_template_usually_does_is_done() -> None:
    """Negative control: the same steps within the bounds give what they give without."""
    text = (
        "{% for a in range(3) %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}"
        "{% endfor %}|{{ 'a' ~ 1 ~ [2] }}|{{ 'ab'[1:] * 2 }}|{{ '%3d' % 1 }}|{{ '%s' | format(7) }}"
        "|{{ ['a', 'b'] | map('upper') | join('-') }}|{{ {'a': [1]} | tojson(indent=1) }}"
        "|{{ '{:>3}{}'.format('x', 123456789) }}|{{ 2 ** 10 }}|{{ 'a-b'.replace('-', '+') }}"
        "|{{ nothing | default(123456789) }}|{{ messages[1:] | length }}|{{ 'a' | center(3) }}"
        "|{% for m in messages if m.content %}{{ m.content }}{% else %}none{% endfor %}"
        "|{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('y') }}|{% for x in unknown %}{% endfor %}"
        "|{{ messages | selectattr('content') | list | length }}|{{ None }}{{ True }}{{ 1.5 }}"
    )
    given = {"messages": [{"content": "One"}, {"content": ""}, {"content": "Two"}]}
    assert rendered(text, **given) == _compile_jinja_template(text).render(**given)


def test_a_long_conversation_has_longer_bounds() -> None:
    """Would catch a document of many megabytes that no template may write."""
    messages = [{"content": "a" * 4000}] * 10
    text = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert len(rendered(text, messages=messages)) == 40_000
    with pytest.raises(TemplateBound, match="more than 160,000 characters"):
        rendered(text * 5, messages=messages)


def test_time_is_the_last_resort() -> None:
    """Would catch work that nothing counts: the clock is this thread's own, and looked at."""
    ticks = count()
    loop = "{% for a in range(9) %}" * 4 + "{% endfor %}" * 4
    bounds = BOUNDS._replace(seconds=3.0)
    with pytest.raises(TemplateBound, match="more than 3 seconds"):
        rendered(loop, bounds, lambda: float(next(ticks)))
    assert rendered(loop, bounds) == ""


def test_each_rendering_and_thread_has_bounds_of_its_own() -> None:
    """Would catch a budget that many conversations, or a worker's threads, use up together."""
    text = "{% for a in range(90) %}{{ a }}{% endfor %}"
    template = bounded(_compile_jinja_template(text), SMALL, still).from_string(text)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.extend(template.render() for _ in range(30)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["".join(map(str, range(90)))] * 90


ENDLESS = "{% for a in messages %}{% for b in range(9) %}{% endfor %}{% endfor %}"


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.conversations.bounded.BOUNDS", SMALL)
    monkeypatch.setattr(bounded, "__defaults__", (SMALL, still))
    bounded_template.cache_clear()


def test_the_template_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a trace, or a line that does not say which file is meant."""
    small(monkeypatch)
    hostile = tmp_path / "hostile.jinja"
    hostile.write_text("{% for a in range(9) %}" * 5 + "{% endfor %}" * 5 + CHATML)
    tokenizer = with_tokens()
    with pytest.raises(RecipeError, match=r"hostile\.jinja is refused: it works without an end"):
        ChatTemplate(tokenizer, str(hostile))
    template = speaking(tmp_path, CHATML, tokenizer)
    assert template.render(talk("One?", "Two.").messages)
    long = tmp_path / "long.jinja"
    long.write_text("x" * (1 << 21))
    with pytest.raises(RecipeError, match=r"long\.jinja is refused: its text has more than 1,048"):
        ChatTemplate(tokenizer, str(long))
    quadratic = tmp_path / "quadratic.jinja"
    quadratic.write_text(
        CHATML + "{% for a in messages %}{% for b in messages %}{% for c in messages %}"
        "{% endfor %}{% endfor %}{% endfor %}"
    )
    template = ChatTemplate(tokenizer, str(quadratic))
    many = talk(*["a", "b"] * 20)
    with pytest.raises(DataError, match=r"quadratic\.jinja\) fails on it: it works without an end"):
        template.written(template.given(many), 40)
    bounded_template.cache_clear()
