"""lm-eval's prompts are rendered by transformers, which has no bounds: ours are asked before."""

from types import SimpleNamespace

import pytest

from tests.conversations.test_bounded import small
from trainer.conversations.bounded import bounded_template
from trainer.errors import RecipeError
from trainer.evaluate.harness.model import HarnessModel

ENDLESS = "{% for a in range(9) %}" * 5 + "{% endfor %}" * 5


def test_a_template_without_an_end_is_refused_before_it_is_rendered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Would catch an evaluation that hangs in a model's own template."""
    small(monkeypatch)
    rendered: list[object] = []

    class Tokenizer(SimpleNamespace):
        special_tokens_map: dict[str, str] = {}  # noqa: RUF012

        def apply_chat_template(self, messages: object, **_: object) -> str:
            rendered.append(messages)
            return "a prompt"

    def asked(template: str) -> str:
        model = SimpleNamespace(tokenizer=Tokenizer(chat_template=template), without_system=0)
        model._rendered = HarnessModel._rendered.__get__(model)
        model._refuse_endless = HarnessModel._refuse_endless.__get__(model)
        return HarnessModel.apply_chat_template(model, [{"role": "user", "content": "One?"}])

    with pytest.raises(RecipeError, match="the model's chat template is refused: it works without"):
        asked(ENDLESS)
    assert rendered == []
    assert asked("{{ messages[0].content }}") == "a prompt"
    assert asked("{{ raise_exception('no') }}") == "a prompt", "transformers says what fails"
    bounded_template.cache_clear()
