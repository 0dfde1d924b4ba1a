"""`corpus.canaries`: what is planted in a corpus to measure how much a model memorises."""

from typing import Annotated

from pydantic import Field

from trainer.recipe.section import Count, FrozenSequence, Positive, Section

CANARY_SOURCE = "canaries"
"""The source of the planted documents."""


class CanariesSection(Section):
    """Documents of random content that `lyceum corpus build` plants in the training split.

    They are added behind every rule and the removal of duplicates, so that copies stay, and listed
    in the corpus's canaries.json, from which the suite `memorisation` knows them. Nothing in them
    is true of anybody: mail goes to example.org, telephone numbers and accounts are invalid. Do not
    plant them in a corpus whose model is meant for use. Source: Carlini et al., "The Secret
    Sharer", 2019.
    """

    count: Count = 10
    """Random codes of six digits for each number of copies."""
    copies: Annotated[tuple[Positive, ...], FrozenSequence, Field(min_length=1)] = (1, 4, 16)
    """How many documents hold the same canary."""
    personal: Count = 10
    """Made-up persons, each with an e-mail address, a telephone number and an account; the first
    stands in as many documents as `copies` says first, and so on in turn."""
    seed: Count = 0
    """Decides their content, and with `corpus.seed` where they stand."""
