"""How answers are judged: right, wrong or no answer, by pure functions of their text.

`answers.py` says whether a text gives the right answer, `abstention.py` whether it gives none,
because the model does not know or says that there is no such thing; `grounded.py` judges answers
about a passage, `silence.py` whether they say that it does not tell. All read English, and the text
with what was asked: no model.
"""
