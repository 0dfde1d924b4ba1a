"""What the sections that ask questions have in common."""

from typing import Literal

VerifierName = Literal["answer", "exact", "number", "choice", "regex", "json_schema"]
"""How a text is told to be right.

`answer`: the judge of the suites finds the key in what the text claims, rivals told apart;
`exact`: the text is the key; `number`: the number that the text claims, or its last, has the key's
value; `choice`: it claims the key of several choices, by letter or text; `regex`: a pattern matches
it; `json_schema`: it is JSON that a schema allows.
"""
