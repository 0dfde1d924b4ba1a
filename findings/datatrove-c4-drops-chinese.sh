#!/usr/bin/env bash
# datatrove 0.10.1: C4QualityFilter drops all Chinese and Japanese prose, also where it is told the language.
#
# What runs: C4QualityFilter(language="cmn_Hani", filter_no_terminal_punct=False) of datatrove on six plain
# sentences of Chinese in one line, beside the same in English by the default language.
# Seen: the English document passes; the Chinese one falls for too few sentences. Its only line was taken
# out first, for fewer than three words: words are those between white space there, whatever `language`
# says, and Chinese has none. The statistics say "line-filter-too_few_words: 1", so that a corpus loses
# every paragraph of Chinese, Japanese or Thai that holds no space. (min_words_per_line=-1 keeps them.)
# Hoped for: words of the language that the filter is given, as in datatrove's other filters.
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
from datatrove.pipeline.filters import C4QualityFilter

chinese = (
    "河流从山中发源，穿过一条长长的山谷。岸边有许多古老的磨坊。如今已经没有人使用。"
    "春天，水位上涨。农民每天早晨都要查看水位。从前，船只把粮食运到城里。"
)
english = (
    "The river rises in the hills and runs through a long valley. Old mills stand by it. Nobody"
    " works them now. The water rises in spring. Farmers look at it each day. Boats came here once."
)
verdicts = {}
for name, text, language in (("English", english, "eng"), ("Chinese", chinese, "cmn_Hani")):
    judge = C4QualityFilter(filter_no_terminal_punct=False, language=language)
    verdicts[name] = judge.filter(Document(text=text, id="1"))
    print(name, verdicts[name])
print("datatrove", version("datatrove"))
assert verdicts == {"English": True, "Chinese": (False, "too_few_sentences")}, "this has changed"
PYTHON
echo "still so: Chinese prose is dropped for want of white space"
