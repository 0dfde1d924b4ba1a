"""Questions with a key, and how a model's texts are verified by it.

`question.py`: a question; `reading.py`, `writing.py`: files of them; `verifiers.py`: right,
declined or wrong, by the verifier that the question names; `judged.py`, `exactly.py`, `numbers.py`,
`choices.py`, `patterns.py` and `schemas.py`: one verifier each; `marks.py`: what tells answers of
the same words apart; `samples.py`: a question with what a model wrote; `bank/`: questions that need
no file; `named.py`: those that a recipe names.
"""
