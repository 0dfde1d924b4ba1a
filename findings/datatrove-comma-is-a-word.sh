#!/usr/bin/env bash
# datatrove 0.10.1 with spaCy 3.8.18: Gopher's rule of 80% counts commas and quotation marks as words
# that have no letter, and drops dialogue.
#
# What runs: GopherQualityFilter of datatrove, at its defaults, on an English dialogue of 60 words, each
# of which has a letter.
# Seen: it is dropped by "gopher_below_alpha_threshold". The words come from spaCy's splitter, which makes
# a token of each punctuation mark; the filter leaves such tokens out of the number and the mean length
# of words, and not out of the share of words with a letter. Of the docstrings of Python's standard
# library (200 characters or more) more than half fall by it; by words between white space, as Dolma's
# tagger of the same paper has them, one in 24.
# Hoped for: the paper's rule, "80% of words contain at least one alphabetic character", of words.
#
# It needs Python 3.10 to 3.13 and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet \
    "datatrove[processing]==0.10.1" "spacy==3.8.18"
"$folder/environment/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter
from datatrove.utils.text import split_into_words

text = (
    '"Yes," said the miller, "that is the road to the bridge." "And that," asked the boy, "to the'
    ' market?" "No, no," said he, "to the forge; but you, of course, have no horse." "None," said the'
    ' boy, "but a dog, a sack, and time." "Well," said the miller, "go, then, with the dog, the sack,'
    ' and time, and be happy."'
)
words = text.split()
split = split_into_words(text)
lettered = sum(any(map(str.isalpha, word)) for word in split) / len(split)
judge = GopherQualityFilter()
verdict = judge.filter(Document(text=text, id="1"))
print("datatrove", version("datatrove"), "spaCy", version("spacy"))
print(f"{len(words)} words between white space, all with a letter; {len(split)} by the splitter:")
print(f"{lettered:.0%} with a letter, and the verdict is {verdict}")
assert all(any(map(str.isalpha, word)) for word in words)
assert verdict == (False, "gopher_below_alpha_threshold"), "this has changed"
PYTHON
echo "still so: commas and quotation marks are words without a letter"
