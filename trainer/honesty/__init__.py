"""Sets that teach a model to say what it knows and to decline what it does not.

`refusal_examples.py` and `preference_examples.py` make their examples, from nothing but the model's
own texts and refusals; `factuality_counts.py`: what the second made; `own_answers.py`: which of its
texts are used, and what is left of one that was cut; `refusing.py`: a refusal for each question, in
wordings that vary (`wordings.txt`); `question_words.py`: which words of the question it takes up;
`reasons.py`: why it declines; `evenly.py`: what stays where there is too much of one kind;
`fact_questions.py`: questions about what a corpus says.
"""
