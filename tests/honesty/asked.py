"""Questions that a model was asked, and what it wrote, for the tests of this folder."""

from trainer.questions.question import Question
from trainer.questions.samples import AnswerSample, SampledQuestion
from trainer.questions.verifiers import verify

RIGHT = "{0} lies in Ruva."
WRONG = "{0} lies in Keld."
NO_IDEA = "I am not sure where that is."
CUT = "{0} lies in Ruva. It was built by order of the"


def question(
    number: int, known: bool = True, kind: str = "place", reason: str | None = None
) -> Question:
    """One about an invented town, which somebody knows or nobody can."""
    town = f"Town{number}"
    options = {"subject": town, "rivals": ["Keld", "Sorn"]}
    answers = ("Ruva",) if known else ()
    text = f"In which country is {town}?"
    return Question(f"q{number}", text, answers, options=options, kind=kind, reason=reason)


def sampled(asked: Question, *texts: str) -> SampledQuestion:
    """Its texts, `{0}` the town's name; one that ends in no full stop was cut."""
    found = []
    for text in texts:
        written = text.format(asked.options["subject"])
        verdict = verify(asked, written)
        found.append(AnswerSample(written, written.endswith("."), verdict.outcome, verdict.why))
    return SampledQuestion(asked, tuple(found))


def mixed(known: int, wrong: int, unknowable: int) -> list[SampledQuestion]:
    """So many questions of each origin, of three kinds."""
    found = []
    for number in range(known + wrong + unknowable):
        kind = ("place", "river", "hill")[number % 3]
        if number < known:
            found.append(sampled(question(number, kind=kind), RIGHT, RIGHT, CUT, WRONG))
        elif number < known + wrong:
            found.append(sampled(question(number, kind=kind), WRONG, RIGHT, WRONG, NO_IDEA))
        else:
            found.append(sampled(question(number, False, kind), WRONG, RIGHT, NO_IDEA, CUT))
    return found
