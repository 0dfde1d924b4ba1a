"""How answers are judged: right, wrong or no answer, by pure functions of their text.

`answers.py` says whether a text gives the right answer, `abstention.py` whether it gives none,
because the model does not know or says that there is no such thing. Both read English and look at
the text alone: no model, no list of the questions.
"""
