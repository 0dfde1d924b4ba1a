"""How it is recognised that an answer says: the passage does not tell.

As `abstention`, for answers about a text that was given: "The passage does not say", "That isn't
mentioned", "There is no information about it". A text that says so and then answers from elsewhere
("..., but it is probably 1912") has answered.
"""

import re

from trainer.evaluate.judging.plain_words import plain_words

_TEXT = (
    r"(?:passage|text|article|paragraph|story|author|writer|context|excerpt|document|description"
    r"|information|question)"
)
_TELLS = (
    r"(?:say|tell|state|mention|specify|give|provide|contain|include|indicate|reveal|explain|answer"
    r"|describe|discuss|disclose|address|name|list|note|offer|cover|identify|clarify|inform|hold"
    r"|have|show|report|make|go into|touch on|refer)"
)
_TOLD = (
    r"(?:said|told|stated|mentioned|specified|given|provided|contained|included|indicated|revealed"
    r"|explained|answered|described|discussed|disclosed|addressed|named|listed|noted|covered|found"
    r"|identified|clear|available|known|present|there|part of"
    r"|in (?:this |given |above )?(?:passage|text))"
)
_NOT = r"(?:does not|doesnt|did not|didnt|do not|dont|never|cannot|can not|cant|fails to|failed to)"
_MANNER = r"(?:\w+ly |actually |even |clearly |really |ever |directly |quite )?"
_SILENT = re.compile(
    rf"\b{_TEXT} (?:\w+ ){{0,2}}{_NOT} {_MANNER}{_TELLS}s?\b"
    rf"|\b(?:it|this|that|they) {_NOT} {_MANNER}(?:say|tell|state|mention|specify|indicate)s?\b"
    rf"|\b(?:not|isnt|wasnt|arent|werent|never|nowhere|hasnt been) (?:been )?{_MANNER}{_TOLD}\b"
    rf"|\b(?:no|without|lacks|lack of) (?:\w+ ){{0,2}}(?:mention|information|info|indication"
    r"|answer|details?|statement|reference|evidence|data)\b(?! wrong)"
    r"|\b(?:not enough|isnt enough|insufficient|too little) (?:information|detail|context|data)\b"
    rf"|\b{_TEXT} (?:\w+ )?(?:says|tells|states|mentions|reveals) nothing\b"
    r"|\bnothing (?:is |was )?(?:said|about|in (?:this |given )?(?:passage|text))\b"
    r"|\b(?:passage|text|author) (?:is|was|remains|stays) silent\b"
    r"|\b(?:unspecified|unstated|unmentioned|undisclosed|unanswerable|unclear)\b"
    r"|\b(?:cannot|can not|cant|could not|couldnt) be (?:determined|answered|inferred|found|known"
    r"|told|derived|concluded)\b"
    r"|^(?:it is |this is |answer (?:is )?)?(?:unknown|not known|not sure|no answer|na|n a|none)$"
)
_YET = re.compile(
    r"\b(?:but|however|though|although|still|yet)\b(?:(?!\bnot\b|n't)[^.;\n]){0,60}?"
    r"\b(?:probably|likely|perhaps|approximately|about \d|around \d|i think|i believe|i know"
    r"|i would|in reality|in fact|general knowledge|(?:generally|widely|well) known|known to be"
    r"|known that|my knowledge|outside)\b"
)


def says_nothing_of_it(text: str) -> bool:
    """Whether an answer says that the passage does not tell, and does not answer all the same."""
    said = _SILENT.search(plain_words(text))
    return said is not None and not _YET.search(text.casefold())
