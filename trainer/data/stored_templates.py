"""The chat templates that lie beside a tokenizer, in files of their own or in its config."""

from typing import Any

from trainer.errors import DataError

TEMPLATE_FILE = "chat_template.jinja"
NAMED_TEMPLATES_FOLDER = "additional_chat_templates"


def stored_template(
    files: dict[str, bytes], config: dict[str, Any] | None, where: str
) -> str | None:
    """The chat template, from its own file or the config; of several the default one."""
    if TEMPLATE_FILE in files:
        return _text(files, TEMPLATE_FILE, where)
    found = (config or {}).get("chat_template")
    if isinstance(found, list):
        found = _named(found).get("default")
    return found if isinstance(found, str) else None


def stored_named_templates(
    files: dict[str, bytes], config: dict[str, Any] | None, where: str
) -> dict[str, str]:
    """The chat templates beside the default one by name, from their files or the config."""
    found = (config or {}).get("chat_template")
    named = _named(found) if isinstance(found, list) else {}
    folder = f"{NAMED_TEMPLATES_FOLDER}/"
    for name in files:
        if name.startswith(folder):
            own = name.removeprefix(folder).removesuffix(".jinja")
            named[own] = _text(files, name, where)
    return {name: text for name, text in named.items() if name != "default"}


def _text(files: dict[str, bytes], name: str, where: str) -> str:
    try:
        return files[name].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}/{name} is damaged: byte {error.start} is not UTF-8; fetch it again"
        ) from None


def _named(templates: list[Any]) -> dict[str, str]:
    """Those of a config's list, each with its name."""
    pairs = [(one.get("name"), one.get("template")) for one in templates if isinstance(one, dict)]
    return {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}
