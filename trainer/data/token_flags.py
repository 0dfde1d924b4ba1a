"""Flags of a fine-tuning set's tokens, in the upper bits of the stored uint32, above the id.

A pre-training corpus has no flags: every token of it is a target.
"""

TARGET = 1 << 31
"""On a token that the model learns to predict."""
SEGMENT = 1 << 30
"""On the first token of an example's second segment: another answer, not attending to the first."""
GOOD = 1 << 29
"""On the first token of an example: its answer was judged good."""
ID_MASK = GOOD - 1
"""Masks out the flags, leaving the id."""
