"""What the tokens of a set carry beside their id, in the upper bits of the stored uint32.

A pre-training corpus has no marks: every token of it is a target.
"""

TARGET = 1 << 31
"""The model is to predict this token."""
SEGMENT = 1 << 30
"""The second half of an example begins here: another answer, which does not see the first."""
GOOD = 1 << 29
"""On the first token of an example: its answer was judged good."""
ID_MASK = GOOD - 1
"""The bits of the id."""
