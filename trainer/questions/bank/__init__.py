"""A bank of questions: common things of many kinds, and as many that nobody can answer.

The files hold the facts by kind, with their wordings; `sections.py` reads them, `invented.py` makes
names of things that do not exist, `draw.py` the questions. A name that does not exist is asked
about in the very wordings of what does: only the name tells the two apart.
"""

from trainer.questions.bank.draw import bank_questions as bank_questions
