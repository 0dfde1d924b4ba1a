"""What each verifier calls right, declined and wrong, by tables of texts."""

from typing import Any

import pytest

from trainer.questions import patterns
from trainer.questions.question import Question
from trainer.questions.verifiers import check_fits, verify
from trainer.recipe.questions import VerifierName

CITIES = {"A": "Paris", "B": "Lyon", "C": "Nice", "D": "Cannot be determined"}
OBJECT = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def asked(
    verifier: VerifierName, *answers: str, text: str = "What is it?", **options: Any
) -> Question:
    question = Question("q", text, answers, verifier=verifier, options=options)
    check_fits(question)
    return question


def wrongly_judged(question: Question, table: dict[str, list[str]]) -> list[tuple[str, str, str]]:
    """The texts whose outcome is not that of their row, with it and why."""
    return [
        (text, verdict.outcome, verdict.why)
        for wanted, texts in table.items()
        for text in texts
        if (verdict := verify(question, text)).outcome != wanted
    ]


CAPITAL = asked("answer", "Paris", text="What is the capital of France?", rivals=["Lyon", "Nice"])
YEAR = asked("answer", "1969", text="In which year did people first stand on the moon?")
LEGS = asked("answer", "8", text="How many legs has a spider?")
GOLD = asked("answer", "Au", form="sign", rivals=["Ag"], text="What is the symbol of gold?")
LAND = Question("z", "What is the capital of Zambodia?", options={"subject": "Zambodia"})
SHARE = asked("number", "50%")
PRICE = asked("number", "1234.5", "1,234.50 euros")
NEAR = asked("number", "3.14", tolerance=0.01)
NEARLY = asked("number", "200", tolerance="5%")
CITY = asked("choice", "A", choices=CITIES, text="Which one is the capital of France?")
LISTED = asked("choice", "Lyon", choices=["Paris", "Lyon", "Nice"])
OPEN = asked("choice", "D", choices=CITIES)
DATE = asked("regex", pattern=r"\d{4}-\d\d-\d\d")
NAMED = asked("regex", pattern=r"\bparis\b", match="search", ignore_case=True)
PERSON = asked("json_schema", schema=OBJECT)
LINKED = {"properties": {"next": {"$ref": "#"}, "size": {"multipleOf": 0.5}}}
CHAIN = asked("json_schema", schema=LINKED)
DEEP = '{"next": ' * 400 + "{}" + "}" * 400


@pytest.mark.parametrize(
    ("question", "table"),
    [
        pytest.param(
            CAPITAL,
            {
                "right": ["Paris", "It is Paris.", "The capital is not Lyon but Paris.", "paris!"],
                "declined": ["I don't know.", "I'm not sure which city that is."],
                "wrong": ["", "Lyon", "Paris or Lyon", "It is not Paris.", "A city in the north."],
            },
            id="answer, a name with rivals",
        ),
        pytest.param(
            YEAR,
            {
                "right": ["1969", "In July 1969.", "nineteen sixty-nine"],
                "declined": ["I have no idea."],
                "wrong": ["1968", "1968 or 1969", "In the sixties"],
            },
            id="answer, a year by its form",
        ),
        pytest.param(
            LEGS,
            {
                "right": ["8", "eight", "A spider has eight legs."],
                "wrong": ["6", "It has 6 or 8 legs.", "80"],
            },
            id="answer, a number by its form",
        ),
        pytest.param(GOLD, {"right": ["Au", "It is Au."], "wrong": ["AU is silver: Ag", "Ag"]}),
        pytest.param(
            LAND,
            {
                "declined": [
                    *("I don't know.", "There is no country called Zambodia.", "(I don't know.)"),
                    "I don't know (nobody told me).",
                ],
                "wrong": [
                    *("Phnom Penh", "The capital of Zambodia is Zam.", "42", "(Keld)", "(42)"),
                    *("(Zambodia lies in Keld, in the north.)", "Answer: (Keld)", "Capital Keld:"),
                    *("I go with (Keld).", "My guess: (keld)"),
                ],
            },
            id="nobody can know",
        ),
        pytest.param(
            asked("exact", "Crème brûlée", "-5"),
            {
                "right": ["creme brulee", " **Creme  Brulee.** ", '"Crème brûlée"', "\u22125"],
                "declined": ["I don't know"],
                "wrong": ["A creme brulee", "5", "creme brulee, of course", "Crème"],
            },
            id="exact",
        ),
        pytest.param(
            asked("answer", "C", text="Which language came first?"),
            {
                "right": ["C", "It is C.", "C, not C++.", "C (at -5 degrees)"],
                "wrong": ["C++", "It is C#.", "C or C++", "It is C++, not C."],
            },
            id="answer, a sign makes another",
        ),
        pytest.param(
            asked("answer", "7"),
            {
                "right": ["7", "7.", "7%", "It is 7 - of course.", "It is\u20147."],
                "wrong": ["-7", "It is \u22127.", "\u20137", "7+"],
            },
            id="answer, a number's sign",
        ),
        pytest.param(asked("answer", "C++", form="name"), {"right": ["C++", "It is C++."]}),
        pytest.param(
            asked("exact", "NaCl", case_sensitive=True), {"right": ["NaCl."], "wrong": ["NACL"]}
        ),
        pytest.param(asked("exact", "I don't know"), {"right": ["I don\u2019t know."]}),
        pytest.param(
            asked("number", "42"),
            {
                "right": [
                    *(
                        "42",
                        "42.0",
                        "The answer is 42.",
                        "forty-two",
                        "42 km",
                        "$42",
                        "84/2",
                        "4.2e1",
                    ),
                    *("So 6 * 7 = 42.", "The answer is 42, since 6 * 7 is that.", "#### 42"),
                    *(r"2 \cdot 21 = \boxed{42}, and not 7.", "**Answer:** 42 apples in 3 bags"),
                    *(
                        "40 + 2 = 42",
                        "0.42 x 10^2",
                        "US$42",
                        "+42",
                        "between 41 and 43, so 42",
                        "(42)",
                    ),
                ],
                "declined": ["I don't know.", "I am not sure how many there are."],
                "wrong": [
                    "-42",
                    "(43)",
                    "420",
                    "4 2",
                    "42 of 43",
                    "A42",
                    "v42.1.0",
                    "many",
                    "42/0",
                    "43%",
                    "4" * 5000,
                    "4/" + "3" * 5000,
                    "4e" + "2" * 5000,
                    "1/3e399",
                ],
            },
            id="number",
        ),
        pytest.param(
            asked("number", "-3"),
            {
                "right": ["-3", "\u22123", "minus 3", "x = -3", "it is -3"],
                "wrong": ["3", "5-3", "5 - 3"],
            },
            id="number, a sign is no dash",
        ),
        pytest.param(
            PRICE,
            {
                "right": ["1,234.50", "1 234.5", "1234,50 \u20ac", "1'234.5", "1\u202f234.5"],
                "wrong": ["1.2345", "1,234", "12,34.5", "234.5"],
            },
            id="number, thousands and decimals",
        ),
        pytest.param(
            asked("number", "1 1/2"),
            {
                "right": ["1.5", "3/2", "1\u00bd", r"\frac{3}{2}", "150%"],
                "wrong": ["1/2", "1", "2"],
            },
            id="number, fractions",
        ),
        pytest.param(
            SHARE,
            {"right": ["50%", "0.5", "1/2", "50 percent", "50"], "wrong": ["0.5%", "5000%", "5"]},
            id="number, a percentage",
        ),
        pytest.param(asked("number", "0.5"), {"right": ["50 %", "0.5"], "wrong": ["50", "5%"]}),
        pytest.param(asked("number", "2 million"), {"right": ["2,000,000", "two million", "2e6"]}),
        pytest.param(
            asked("number", "1000000"),
            {
                "right": [
                    *("10^6", "10**6", "**10^6**", "10\u2076", "10^{6}", r"\boxed{10^6}", "1000^2"),
                    *("100^3 m^2", "It is 2^6 * 5^6 = 10^6.", "1 / 10^-6"),
                ],
                "wrong": ["10^5", "106", "1000000^2", "-1000^2", "10^" + "9" * 300, "0^-1"],
            },
            id="number, powers",
        ),
        pytest.param(
            asked("number", "6"),
            {"right": ["6", "6 m^2"], "wrong": ["10^6", "x^6", "10^-6", "10^{-6}", "10\u2076"]},
            id="number, an exponent is none",
        ),
        pytest.param(
            asked("number", "2.5"), {"right": ["2.5.", "It is 2.5.\n"], "wrong": ["2.5.1", "1.2.5"]}
        ),
        pytest.param(
            asked("number", "1"),
            {
                "right": ["one", "Only one.", "One of them."],
                "wrong": ["No one.", "no-one", "any one"],
            },
            id="number, a pronoun",
        ),
        pytest.param(NEAR, {"right": ["3.14159", "22/7", "3.13"], "wrong": ["3.1", "3.16"]}),
        pytest.param(NEARLY, {"right": ["190", "210"], "wrong": ["189", "211"]}),
        pytest.param(
            CITY,
            {
                "right": [
                    *("A", "a)", "(A)", "A. Paris", "The answer is A.", "Answer: A", "Paris"),
                    *("**A) Paris**", "A) Paris. Lyon and Nice are smaller.", r"\boxed{A}"),
                    *("I think the answer is (A), not (B).", "It is Paris, not Lyon.", "Option A"),
                    *("The correct choice is A: Paris.", "A - Paris"),
                ],
                "declined": ["I don't know.", "I am not sure which of A, B or C it is."],
                "wrong": [
                    *(
                        "B",
                        "B. Lyon",
                        "A or B",
                        "Paris or Lyon",
                        "The answer is A. No, B it is: (B)",
                    ),
                    *("A) Lyon", "A capital city", "D", "Cannot be determined", "E", "Marseille"),
                    *("I would say it is Lyon.", "Answer: B, A is too far north"),
                ],
            },
            id="choice",
        ),
        pytest.param(
            LISTED, {"right": ["B", "Lyon", "(b)"], "wrong": ["A", "Paris", "Lyon and Nice"]}
        ),
        pytest.param(
            asked("choice", "3", choices=["3", "-3"]),
            {"right": ["It is 3.", "A"], "wrong": ["The answer is -3.", "It is \u22123.", "A) -3"]},
            id="choice, a minus",
        ),
        pytest.param(
            asked("choice", "C", choices=["C++", "Java", "C"]),
            {"right": ["It is C.", "The best is C"], "wrong": ["It is C++", "C. C++", "Java"]},
            id="choice, one that is another's beginning",
        ),
        pytest.param(
            asked("choice", "C++", choices=["C++", "Java", "C"]),
            {"right": ["It is C++.", "A. C++"], "wrong": ["It is C.", "C", "C#"]},
            id="choice, a sign behind",
        ),
        pytest.param(
            asked("choice", "5", choices=["5", "5%"]),
            {"right": ["5", "A", "The answer is A."], "wrong": ["It is 5%.", "5%", "It is B: 5%"]},
            id="choice, of the same words",
        ),
        pytest.param(
            asked("choice", "A", choices=["a cat", "a dog"]),
            {
                "right": [
                    "I think A",
                    "I would go with A.",
                    "I'd say A, as dogs bark.",
                    "I go with (A).",
                ],
                "declined": ["I wouldn't go with A."],
                "wrong": [
                    *("I think A dog is nice", "I think B", "I do not think A", "I think A or B"),
                    *("I guess A dog.", "I would never say A."),
                ],
            },
            id="choice, thought of",
        ),
        pytest.param(OPEN, {"right": ["D", "Cannot be determined.", "D) Cannot be determined"]}),
        pytest.param(
            DATE,
            {
                "right": ["2024-02-29", " 2024-02-29\n"],
                "declined": ["I don't know."],
                "wrong": ["2024-2-29", "It was 2024-02-29.", "29.2.2024"],
            },
            id="regex, the whole text",
        ),
        pytest.param(
            NAMED,
            {
                "right": ["It is PARIS."],
                "declined": ["I don't know whether it is Paris."],
                "wrong": ["Parisian"],
            },
            id="regex, a part of the text",
        ),
        pytest.param(
            PERSON,
            {
                "right": [
                    '{"name": "Ada", "age": 36}',
                    '```json\n{"name": "Ada", "age": 36}\n```',
                    ' {"age": 1,\n"name": "B"} ',
                ],
                "declined": ["I don't know."],
                "wrong": [
                    "",
                    '{"name": "ada", "age": 36}',
                    '{"name": "Ada"}',
                    '{"name": "Ada", "age": 36, "more": 1}',
                    'Here it is: {"name": "Ada", "age": 36}',
                    '{"name": "Ada", "age": NaN}',
                    '{"name": 1, "name": "Ada", "age": 36}',
                    '{"name": "Ada", "age": 36',
                    '{"name": ' + "[" * 50_000,
                    "null",
                    "```json\nnull\n```",
                    "```" + " \n" * 200_000,
                ],
            },
            id="json_schema",
        ),
        pytest.param(
            CHAIN,
            {"right": ['{"next": {"size": 4}}'], "wrong": ['{"size": 1e999}', DEEP]},
            id="json_schema, what no float and no stack holds",
        ),
    ],
)
def test_texts_are_judged_by_their_verifier(
    question: Question, table: dict[str, list[str]]
) -> None:
    """Would catch a verifier that takes a right text for wrong, or pays for a wrong one."""
    assert wrongly_judged(question, table) == []


def test_a_text_is_held_against_its_pattern_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a text that costs its verifier's time twice, which for a pattern is seconds."""
    asked_of: list[str] = []

    class Counting:
        def fullmatch(self, text: str, timeout: float) -> None:
            asked_of.append(text)

    monkeypatch.setattr(patterns, "compiled", lambda pattern, ignore_case=False: Counting())
    question = asked("regex", pattern="a+")
    assert verify(question, "bbb").outcome == "wrong"
    assert verify(question, "I don't know.").outcome == "declined"
    assert asked_of == ["bbb", "I don't know."]


@pytest.mark.parametrize("text", ["", " \n", "...", "?", "\u2026", "{", "[", '{"', "}" * 9])
def test_to_say_nothing_is_no_refusal(text: str) -> None:
    """Would catch a policy that ends at once, and earns what an honest refusal does."""
    for question in (PERSON, CAPITAL, LAND, asked("exact", "42"), asked("number", "42")):
        assert verify(question, text).outcome == "wrong"


def test_an_answer_without_a_word_is_right_where_it_is_the_key() -> None:
    """Would catch marks that are taken for silence where they are what was asked for."""
    assert verify(asked("exact", "?"), "?").outcome == "right"
    assert verify(asked("regex", pattern=r"\.+", match="search"), "...").outcome == "right"


def test_a_pattern_that_runs_too_long_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a training run that stands still on one text, or ends with it."""

    class Endless:
        def fullmatch(self, text: str, timeout: float) -> None:
            assert timeout == patterns.SECONDS
            raise TimeoutError

    monkeypatch.setattr(patterns, "compiled", lambda pattern, ignore_case=False: Endless())
    verdict = verify(asked("regex", pattern="a+"), "aaa")
    assert (verdict.outcome, "ran for more than 1 s" in verdict.why) == ("wrong", True)
