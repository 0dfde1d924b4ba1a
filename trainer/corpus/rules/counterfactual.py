"""Counterfactual data augmentation: copies of documents with gendered terms swapped."""

import hashlib
from dataclasses import dataclass

from trainer.corpus.rules.gender_swap import swap_gender
from trainer.corpus.rules.rule import Finding, Judgement, kept
from trainer.recipe.curation import BalanceRule


@dataclass(frozen=True)
class Counterfactual:
    """Adds copies of documents with gendered terms, the terms swapped, or replaces the documents.

    `section.counterfactual`: the fraction of documents, chosen by a hash of their ids. Pronouns,
    nouns, titles and given names change together, so that a document stays consistent. A statement
    about a real person may become false: use it for texts about nobody in particular.
    """

    section: BalanceRule
    name: str = "counterfactual"

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text."""
        fraction = self.section.counterfactual
        if not is_chosen(document, fraction):
            return kept(text)
        copy, swapped = swap_gender(text)
        if not swapped:
            return kept(text)
        findings = (Finding("gendered terms swapped", swapped, fraction),)
        if self.section.replace:
            return Judgement(copy, findings)
        return Judgement(text, findings, added=copy)


def is_chosen(identity: str, share: float) -> bool:
    """Whether a document or example is among the share that is swapped, by a hash of its id."""
    if share == 0.0:
        return False
    digest = hashlib.sha256(b"counterfactual\0" + identity.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[:6], "big") / 2**48 < share
