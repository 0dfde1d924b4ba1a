#!/usr/bin/env bash
# datatrove 0.10.1 with spaCy 3.8.18: the same document is judged differently the second time.
#
# What runs: GopherQualityFilter(min_doc_words=7) of datatrove on one valid English sentence of seven
# words; then on six others, which datatrove's cache of the last five texts needs to forget it; then on
# the first again, in one process.
# Seen: at first it passes, then it is dropped as too short. One of its words, the name of a spaCy
# attribute as any text on spaCy may hold it, is a word of the text in the first call; from then on spaCy
# raises inside its memory zone, and datatrove's splitter takes the word out of the text and goes on. So
# word counts, and with them a filter's verdict, depend on which documents the process has read before:
# on the number of tasks and the order of files, and no statistic tells.
# Hoped for: one verdict a document, whatever came before it.
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

text = "The token has the attribute IS_ALPHA set."
others = [f"The cat number {number} sat on the old mat." for number in range(6)]
judge = GopherQualityFilter(min_doc_words=7, min_stop_words=0)
verdicts, words = [], []
for one in (text, *others, text):
    verdicts.append(judge.filter(Document(text=one, id="1")))
    words.append(len(split_into_words(one)))
print("datatrove", version("datatrove"), "spaCy", version("spacy"))
print("before the others:", verdicts[0], "words and marks:", words[0])
print("after them:", verdicts[-1], "words and marks:", words[-1])
assert verdicts[:-1] == [True] * 7, "this has changed"
assert verdicts[-1] == (False, "gopher_short_doc"), "this has changed"
PYTHON
echo "still so: one text, two verdicts in one process"
