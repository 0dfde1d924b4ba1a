"""Texts for the tests of rules: prose, and random text made of what rules look for."""

from hypothesis import strategies as st

PROSE = (
    "The keeper of the lighthouse rose before the sun and climbed the stair to the lamp. "
    "She had done so for thirty years, and her knees told her of every one of them.\n"
    "That morning the sea lay flat, and a boat with two men and a dog came round the point. "
    "Nobody had been to see her since the winter, and she went down to meet them.\n"
    "They had bread, a letter from the harbour, and news of a war that was over by then. "
    "The dog was to be hers, they said, for company and to keep the gulls from the hens."
)
PIECES = [
    *PROSE.split(),
    "the",
    "...",
    "…",
    "-",
    "•",
    "#",
    "NORM",
    "\n",
    "\n\n",
    ". ",
    "{",
    "IS_ALPHA",
]
PIECES += [
    "lorem ipsum",
    "javascript",
    "cookie policy",
    "[1]",
    "word\n",
    "same line here.\n",
    "1 2",
]
TEXTS = st.one_of(
    st.text(),
    st.lists(st.sampled_from(PIECES), max_size=120).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=4).map(lambda parts: " ".join(parts) * 12),
)
