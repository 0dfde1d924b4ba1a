#!/usr/bin/env bash
# PyYAML 6.0.3: a web address with a query inside brackets is a syntax error, but not for its C loader.
#
# What runs: yaml.load of "[http://a/b?c=d]" by SafeLoader and by CSafeLoader, and of the same in block form.
# Seen: SafeLoader ends the plain scalar at the question mark and raises ParserError; CSafeLoader, of the
# same package, reads the address. YAML 1.1 and 1.2 both let a plain scalar in a flow collection hold "?"
# (only , [ ] { } end it there), so that a configuration that one machine reads fails on the next, whose
# wheel has no libyaml or whose program asks for SafeLoader.
# Hoped for: the scanner's check for "?" in flow context dropped, as libyaml 0.2 did.
#
# It needs Python 3.10 to 3.13 and PyPI, and ends with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet "pyyaml==6.0.3"
"$folder/environment/bin/python" -W ignore - <<'PYTHON'
import yaml

assert yaml.__with_libyaml__, "this wheel has no C loader to compare with"


def read(text, loader):
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        return type(error).__name__


texts = {"flow": "[http://a/b?c=d]", "block": "- http://a/b?c=d"}
found = {
    form: [read(text, loader) for loader in (yaml.SafeLoader, yaml.CSafeLoader)]
    for form, text in texts.items()
}
print(found, "pyyaml", yaml.__version__)
address = ["http://a/b?c=d"]
assert found == {"flow": ["ParserError", address], "block": [address, address]}, "this has changed"
PYTHON
echo "still so: PyYAML's own loader refuses an address with a query inside brackets"
