"""Answers are judged by what they claim, however they are written."""

import pytest

from trainer.evaluate.judging.answers import is_right, outcome
from trainer.evaluate.judging.expected import ExpectedAnswer
from trainer.evaluate.judging.plain_words import plain_words

CAPITAL = ExpectedAnswer(
    ("Canberra",),
    ("Sydney", "Melbourne", "Paris", "Perth"),
    question="What is the capital of Australia?",
)
AUTHOR = ExpectedAnswer(
    ("Leo Tolstoy", "Lev Tolstoy"),
    ("Fyodor Dostoevsky", "Ivan Turgenev"),
    "person",
    "Who wrote War and Peace?",
)
SISTER = ExpectedAnswer(("Emily Brontë",), ("Charlotte Brontë",), "person")
YEAR = ExpectedAnswer(("1919",), (), "year", "When was the Treaty of Versailles signed?")
NUMBER = ExpectedAnswer(("79",), (), "number", "What is the atomic number of gold?")
INDIUM = ExpectedAnswer(("In",), ("Au", "I", "He", "Ag", "No", "As"), "sign")
GOLD = ExpectedAnswer(("Au",), ("In", "I", "He", "Ag", "No", "As", "At"), "sign")
ITALIAN = ExpectedAnswer(("it",), ("fr", "is", "no", "or", "de"), "sign")
MONOXIDE = ExpectedAnswer(("CO",), ("Co", "CO2"), "sign")
WATER = ExpectedAnswer(("H2O",), ("CO2",), "sign")
WASHINGTON = ExpectedAnswer(("Washington, D.C.", "Washington"), ("New York",))
DOLLAR = ExpectedAnswer(("Canadian dollar", "dollar"), ("US dollar", "euro"))
BRAZIL = ExpectedAnswer(("Brazil", "Brazilian"), ("America", "Colombia", "United States"))
POUND = ExpectedAnswer(("pound sterling", "British pound", "pound"), ("euro",))
HYDROGEN = ExpectedAnswer(("1",), (), "number")
DOYLE = ExpectedAnswer(("Arthur Conan Doyle",), ("Agatha Christie",), "person")
FYODOR = ExpectedAnswer(("Fyodor Dostoevsky",), ("Leo Tolstoy",), "person")
KYIV = ExpectedAnswer(("Kyiv", "Kiev"), ("Odesa",))
MICHIGAN = ExpectedAnswer(("United States", "America"), ("Brazil", "Canada"))
LUXEMBOURG = ExpectedAnswer(
    ("Luxembourg", "Luxembourg City"), ("Paris",), question="What is the capital of Luxembourg?"
)

RIGHT = [
    (CAPITAL, "Canberra"),
    (CAPITAL, "canberra."),
    (CAPITAL, "**CANBERRA**!"),
    (CAPITAL, "The capital of Australia is Canberra."),
    (CAPITAL, "It is not Sydney but Canberra."),
    (CAPITAL, "It isn\u2019t Sydney, it\u2019s Canberra."),
    (CAPITAL, "Not Sydney, Melbourne, or Perth, but Canberra"),
    (CAPITAL, "Canberra, not Sydney."),
    (CAPITAL, "Canberra, between Sydney and Melbourne."),
    (CAPITAL, "Although many people think it is Sydney, the capital is Canberra."),
    (CAPITAL, "Formerly Melbourne, now Canberra"),
    (CAPITAL, "Sydney. No, wait, Canberra."),
    (CAPITAL, "Canberra. The capital of France is Paris."),
    (AUTHOR, "Tolstoy"),
    (AUTHOR, "Count Leo Tolstoy"),
    (AUTHOR, "L. Tolstoy"),
    (AUTHOR, "Leo Tolstoy\u2019s novel"),
    (AUTHOR, "It was written by the Russian author Leo Tolstoy, a friend of Ivan Turgenev."),
    (SISTER, "Emily Bronte"),
    (YEAR, "The Treaty of Versailles was signed on 28 June 1919."),
    (YEAR, "nineteen nineteen"),
    (YEAR, "not 1918 but 1919"),
    (YEAR, "1919, and it came into force in 1920"),
    (NUMBER, "Seventy-nine."),
    (NUMBER, "The atomic number of gold is 79 and its mass is 196.97"),
    (INDIUM, "In"),
    (INDIUM, "The symbol for indium is In."),
    (INDIUM, 'The symbol is "In"'),
    (GOLD, "In the periodic table, as far as I know, it is Au."),
    (GOLD, "I think it is Au (from aurum)."),
    (GOLD, "AU"),
    (GOLD, "It is not Ag but Au"),
    (ITALIAN, "IT"),
    (ITALIAN, "The ISO 639-1 code for Italian is 'it'."),
    (WATER, "H\u2082O"),
    (WATER, "The formula is $H_2O$."),
    (WASHINGTON, "It's Washington, D.C., not New York"),
    (DOLLAR, "the dollar"),
    (LUXEMBOURG, "The capital of Luxembourg is Luxembourg."),
    (BRAZIL, "It is located in South America, specifically in Brazil."),
    (BRAZIL, "In the south of Brazil"),
    (MICHIGAN, "The state of Michigan is located in the Midwest of the United States."),
    (CAPITAL, "I first thought Sydney, but it is Canberra."),
    (KYIV, "Kyiv or Kiev"),
    (KYIV, "Kyiv or, in Russian, Kiev"),
    (POUND, "the British pound"),
    (POUND, "Pound"),
    (HYDROGEN, "One"),
    (HYDROGEN, "The atomic number is one."),
    (DOYLE, "the Scottish writer Doyle"),
    (DOYLE, "A. C. Doyle"),
    (AUTHOR, "L.N. Tolstoy"),
    (AUTHOR, "Leo Nikolayevich Tolstoy"),
    (FYODOR, "Feodor Dostoevsky"),
]
WRONG = [
    (CAPITAL, "It was Canberra but now it's Sydney"),
    (CAPITAL, "Canberra used to be, but Melbourne is"),
    (KYIV, "Kyiv or Lviv"),
    (POUND, "the Irish pound"),
    (HYDROGEN, "One of them is 2"),
    (DOYLE, "Brian Doyle"),
    (DOYLE, "Julian Doyle"),
    (DOYLE, "Norman Doyle"),
    (AUTHOR, "Alexei Nikolayevich Tolstoy"),
    (CAPITAL, "Sydney"),
    (CAPITAL, "not Canberra"),
    (CAPITAL, "Canberra is not the capital of Australia."),
    (CAPITAL, "The capital of Australia is Sydney, which is near Canberra."),
    (CAPITAL, "The capital of Australia is Wagga Wagga, close to Canberra"),
    (CAPITAL, "The capital of Australia is Wagga Wagga, Canberra being far"),
    (CAPITAL, "Sydney or Canberra"),
    (CAPITAL, "Canberra or Sydney"),
    (CAPITAL, "Canberra... no, Sydney"),
    (CAPITAL, "Canberrania"),
    (AUTHOR, "Alexei Tolstoy"),
    (AUTHOR, "Leo Tolstoy and Fyodor Dostoevsky"),
    (SISTER, "Brontë"),
    (SISTER, "Charlotte Brontë"),
    (YEAR, "1918 or 1919"),
    (YEAR, "1914-1919"),
    (YEAR, "19191"),
    (NUMBER, "78 or 79"),
    (NUMBER, "Its mass is 79.5"),
    (INDIUM, "In the periodic table, it is Au."),
    (INDIUM, "In my view it is Ag"),
    (GOLD, "Ag or Au"),
    (GOLD, "The symbol for gold is Ag. Au is silver."),
    (ITALIAN, "it is fr"),
    (MONOXIDE, "Co"),
    (DOLLAR, "US dollar"),
    (MICHIGAN, "It lies somewhere in South America."),
    (MICHIGAN, "It is just south of the United States"),
    (LUXEMBOURG, "The capital of Luxembourg is Paris."),
]


def shown(case: object) -> str:
    return case if isinstance(case, str) else ""


@pytest.mark.parametrize(("expected", "text"), RIGHT, ids=shown)
def test_a_right_answer_is_right_however_it_is_put(expected: ExpectedAnswer, text: str) -> None:
    """Would catch a judge that knows only the bare answer."""
    assert is_right(text, expected)


@pytest.mark.parametrize(("expected", "text"), WRONG, ids=shown)
def test_a_text_that_only_holds_the_answer_is_wrong(expected: ExpectedAnswer, text: str) -> None:
    """Would catch a judge that looks for the answer's letters and for nothing else."""
    assert not is_right(text, expected)


def test_outcomes() -> None:
    """Would catch a refusal counted as wrong, and a symbol that reads like a refusal."""
    assert outcome("I don't know.", CAPITAL) == ("abstained", "ignorance")
    assert outcome("There is no such country.", None) == ("abstained", "denial")
    assert outcome("Its capital is Vellis.", None) == ("wrong", None)
    assert outcome("No", ExpectedAnswer(("No",), ("He",), "sign")) == ("right", None)
    assert outcome("I'm not sure, but it's Canberra.", CAPITAL) == ("right", None)


@pytest.mark.parametrize(
    ("spelled", "digits"),
    [
        ("seventy-nine", "79"),
        ("one hundred and eighteen", "118"),
        ("sixteen forty-eight", "1648"),
        ("nineteen hundred and five", "1905"),
        ("two thousand and seven", "2007"),
        ("1,648", "1648"),
        ("twenty one, five", "21 5"),
        ("no one", "no one"),
    ],
)
def test_numbers_in_words_are_digits(spelled: str, digits: str) -> None:
    """Would catch a year or an atomic number that is right and written out."""
    assert plain_words(spelled) == digits


def test_accents_articles_and_possessives_make_no_difference() -> None:
    """Would catch "Sao Tome" being another town than "São Tomé"."""
    assert (
        plain_words("The São-Tomé\u2019s \u201cXi\u2019an\u201d & a Łódź")
        == "sao tome xian and lodz"
    )
