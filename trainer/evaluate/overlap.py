"""Which items of a suite stand in the run's own training text."""

from collections.abc import Sequence

from trainer.evaluate.corpora import SearchableText
from trainer.evaluate.suites.suite import Item


def overlapping(items: Sequence[Item], own: SearchableText) -> dict[str, list[str]]:
    """The ids of training documents that hold one of an item's passages, by the item's id.

    Items of which no passage is found are left out.
    """
    owners = [(item.id, passage) for item in items for passage in item.passages]
    found: dict[str, list[str]] = {}
    holding = own.holding([passage for _, passage in owners])
    for (name, _), documents in zip(owners, holding, strict=True):
        if documents:
            found[name] = list(dict.fromkeys([*found.get(name, ()), *documents]))
    return found
