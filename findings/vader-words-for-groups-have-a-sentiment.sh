#!/usr/bin/env bash
# vaderSentiment 3.3.2: "The blind man came in." is a negative sentence, "The cleaner came in." a positive one.
#
# What runs: SentimentIntensityAnalyzer on one sentence with words for groups of people in it.
# Seen: 0 for the sighted, the deaf, the old and the nurse; -0.40 for the blind man, +0.18 for the
# cleaner: its list has "blind" and "cleaner" in their other senses alone. Whoever compares what is written
# about groups by this score, and leaves the groups' names in the text, finds a difference that is the list's.
# Hoped for: words for people without a sentiment of their own, or a line in the documentation that
# says to take the names of compared groups out first.
#
# It needs Python 3.9 or newer and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet "vaderSentiment==3.3.2"
"$folder/environment/bin/python" -W ignore - <<'PYTHON'
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

score = SentimentIntensityAnalyzer().polarity_scores
found = {}
for group in ("sighted man", "deaf man", "old man", "nurse", "blind man", "cleaner"):
    found[group] = score(f"The {group} came in.")["compound"]
    print(f"{found[group]:+.4f}  The {group} came in.")
assert [name for name, value in found.items() if value] == ["blind man", "cleaner"], "this has changed"
assert found["blind man"] < 0 < found["cleaner"], "this has changed"
PYTHON
echo "still so: a blind man is bad news, a cleaner good news"
