"""`corpus.rules`: what a document must pass on its way into the corpus, and every threshold."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.recipe.section import Count, Fraction, FrozenSequence, Names, Positive, Section

NonNegative = Annotated[float, Field(ge=0.0)]
Treatment = Literal["redact", "drop", "keep"]


class NormalizeRule(Section):
    """Text as Unicode means it."""

    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    """The normal form of characters."""
    mend_mojibake: bool = True
    """Mend text that was decoded with the wrong encoding (ftfy), and remove control characters."""
    unwrap: bool = True
    """Join the lines of hard-wrapped paragraphs (books, mail, manuals), of which the quality rules
    judge each line as one of its own. A document is unwrapped where its lines end at one right edge
    in the midst of sentences; verse, lists, tables, code, quotations and headings in it stay, and
    so does any other document, byte for byte. A hyphen at a line's end stays, unless the document
    has the joined word elsewhere; between letters of scripts without spaces comes no space."""


class LanguageRule(Section):
    """The languages that are kept, as detected by the model in py3langid's package."""

    keep: Names = ("en",)
    """ISO 639-1 codes; one for several languages keeps all of them: zh Cantonese and Wu, ar
    Egyptian and Moroccan Arabic, no Nynorsk."""
    score: Fraction = 0.5
    """Least probability of the language found."""


class GopherRepetition(Section):
    """Text that repeats itself; each key is the largest share allowed.

    Source: Rae et al., "Scaling Language Models", 2021, table A1. As in datatrove, a punctuation
    mark counts as a word of its own among those repeated.
    """

    duplicate_lines: Fraction = 0.3
    """Of the lines."""
    duplicate_paragraphs: Fraction = 0.3
    """Of the paragraphs."""
    duplicate_line_characters: Fraction = 0.2
    """Of the characters, in lines seen before."""
    duplicate_paragraph_characters: Fraction = 0.2
    """Of the characters, in paragraphs seen before."""
    top_2_gram: Fraction = 0.2
    """Of the characters, in the commonest pair of words."""
    top_3_gram: Fraction = 0.18
    """Of the characters, in the commonest three words."""
    top_4_gram: Fraction = 0.16
    """Of the characters, in the commonest four words."""
    duplicate_5_grams: Fraction = 0.15
    """Of the characters, in five words seen before."""
    duplicate_6_grams: Fraction = 0.14
    """Of the characters, in six words seen before."""
    duplicate_7_grams: Fraction = 0.13
    """Of the characters, in seven words seen before."""
    duplicate_8_grams: Fraction = 0.12
    """Of the characters, in eight words seen before."""
    duplicate_9_grams: Fraction = 0.11
    """Of the characters, in nine words seen before."""
    duplicate_10_grams: Fraction = 0.1
    """Of the characters, in ten words seen before."""


class GopherQuality(Section):
    """Text that does not read like prose. Source: Rae et al., 2021, section A1.1.

    The paper does not say what a word is. Shares of words (`symbols_a_word`, `alphabetic_words`)
    are of the words between white space, as in Dolma: with datatrove's splitter, for which a comma
    is a word, 55% of the standard library's docstrings would fall below 80% of words with a letter,
    by white space 4% do. Numbers and lengths of words leave out punctuation marks, as in datatrove.
    """

    minimum_words: Count = 50
    """Fewest words."""
    maximum_words: Positive = 100_000
    """Most words."""
    minimum_word_length: NonNegative = 3.0
    """Least mean length of a word, in characters."""
    maximum_word_length: NonNegative = 10.0
    """Greatest mean length of a word, in characters."""
    symbols_a_word: NonNegative = 0.1
    """Most `#` or ellipses a word between white space."""
    bullet_lines: Fraction = 0.9
    """Largest share of lines that begin with a bullet."""
    ellipsis_lines: Fraction = 0.3
    """Largest share of lines that end in an ellipsis."""
    alphabetic_words: Fraction = 0.8
    """Least share of words between white space with a letter in them."""
    stop_words: Count = 2
    """Fewest of `the be to of and that have with`, or of another language's commonest words, that
    must occur."""


class C4Quality(Section):
    """Boilerplate of web pages; lines are removed, and pages that have too little left.

    Source: Raffel et al., "Exploring the Limits of Transfer Learning", 2020, section 2.2; without
    the rule on terminal punctuation, as in FineWeb.
    """

    terminal_punctuation: bool = False
    """Remove lines that do not end like a sentence."""
    minimum_sentences: Count = 5
    """Fewest sentences left; 0: any number."""
    minimum_words_a_line: Count = 3
    """Remove shorter lines; 0: none."""
    maximum_word_length: Positive = 1000
    """Remove lines with a longer word."""
    lorem_ipsum: bool = True
    """Drop documents with this filler."""
    javascript: bool = True
    """Remove lines that mention JavaScript."""
    curly_bracket: bool = True
    """Drop documents with a curly bracket: code."""
    policy: bool = True
    """Remove lines about cookies, terms of use and privacy policies."""
    citations: bool = True
    """Remove citation marks such as [1] and [edit]."""


class FineWebQuality(Section):
    """Lists and fragments. Source: Penedo et al., "The FineWeb Datasets", 2024, section 3.6."""

    punctuated_lines: Fraction = 0.12
    """Least share of lines that end in punctuation."""
    short_lines: Fraction = 0.67
    """Largest share of short lines."""
    short_line_characters: Positive = 30
    """What counts as short."""
    duplicate_line_characters: Fraction = 0.01
    """Largest share of characters in lines seen before."""
    newlines_a_word: NonNegative = 0.3
    """Most line breaks a word or punctuation mark, as datatrove counts them: FineWeb's limit was
    derived over these."""


class QualityRules(Section):
    """The published heuristics of text quality; each may be left out (null).

    A document is judged by its own language, as found by `language`, or else here. The limits are
    those of English; what depends on the language (numbers and lengths of words, short lines,
    punctuation, sentences, stop words) is multiplied by what a translation has for each of
    English's, by a table of 120 languages derived from one text in all of them. For a language
    without a text or list the rules that need one are left out, which the build and the data card
    say. Where no spaces part words, a letter counts as a word.
    """

    gopher_repetition: GopherRepetition | None = GopherRepetition()
    """Text that repeats itself."""
    gopher_quality: GopherQuality | None = GopherQuality()
    """Text that does not read like prose."""
    c4: C4Quality | None = C4Quality()
    """Boilerplate of web pages."""
    fineweb: FineWebQuality | None = FineWebQuality()
    """Lists and fragments."""


class PersonalRule(Section):
    """Personal data: what is done with each kind.

    It is found behind typographic spaces and dashes, full-width forms and invisible characters too;
    the text around it stays as it is.
    """

    email: Treatment = "redact"
    """Addresses of e-mail."""
    ip: Treatment = "redact"
    """Public IPv4 and IPv6 addresses."""
    phone: Treatment = "redact"
    """Telephone numbers: in international notation, in that of ten countries, or behind a
    word for a telephone in some forty languages."""
    card: Treatment = "redact"
    """Payment card numbers whose checksum is right."""
    iban: Treatment = "redact"
    """International bank account numbers whose checksum is right."""
    drop_above: Positive | None = None
    """Drop a document with more than so many finds, whatever their kind; none: never."""


class ToxicityRule(Section):
    """Slurs, and toxic words in hostile company."""

    slurs: Count = 0
    """Most slurs in a document that neither quotes nor discusses them."""
    discussed_slurs: Count = 5
    """Most slurs in one that does: that speaks of language, history, law or abuse around them."""
    toxic_words_a_thousand: NonNegative = 10.0
    """Most toxic words in a thousand words."""
    hostile_words: Count = 2
    """Most toxic words that are aimed at somebody: beside "you", a group or a threat."""
    words: str | None = None
    """A file of further words: a line each, `slur` or `toxic`, a tab, the word."""


class BalanceRule(Section):
    """Demographic balance: reported, and mended where asked."""

    counterfactual: Fraction = 0.0
    """Share of the documents with gendered terms that get a copy with the terms swapped."""
    replace: bool = False
    """The copy takes the place of the document, instead of standing beside it."""


class EvaluationSet(Section):
    """A named evaluation set that the corpus must not contain."""

    name: str
    """How the audit calls it."""
    file: str
    """JSONL, JSON, Parquet or text (a line an example)."""
    keys: Names = ()
    """The fields that are compared; none: every text field."""


class DecontaminateRule(Section):
    """Documents that hold a passage of an evaluation set."""

    sets: Annotated[tuple[EvaluationSet, ...], FrozenSequence] = ()
    """The sets; none: the rule does nothing."""
    words: Positive = 13
    """Length of the passages compared, in words. Source: Brown et al., 2020, appendix C."""
    matches: Positive = 1
    """Passages in common at which a document is dropped."""


class CurationRules(Section):
    """The rules in the order in which they are applied; each may be left out (null).

    Duplicates, which concern the whole corpus, are removed between `quality` and `personal`.
    """

    normalize: NormalizeRule | None = NormalizeRule()
    """Text as Unicode means it."""
    language: LanguageRule | None = LanguageRule()
    """Languages that are kept."""
    quality: QualityRules | None = QualityRules()
    """Published heuristics."""
    personal: PersonalRule | None = PersonalRule()
    """Personal data."""
    toxicity: ToxicityRule | None = ToxicityRule()
    """Slurs and toxic words."""
    balance: BalanceRule | None = BalanceRule()
    """Demographic balance."""
    decontaminate: DecontaminateRule | None = DecontaminateRule()
    """Evaluation sets kept out."""


class Limits(Section):
    """What a build refuses to swallow."""

    malformed: Fraction = 0.1
    """Share of the records that may be malformed (they are set aside in quarantine); more stops
    the build."""
    record_mib: Positive = 64
    """Largest record (a line, a Parquet cell, a file of text, a WARC member); larger ones are set
    aside."""
    expansion: Positive = 200
    """Most bytes that a compressed file may become for each of its own, beyond its first 64 MiB."""
