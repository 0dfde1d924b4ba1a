"""JSON and YAML of unknown origin: whatever is wrong with a text is a ValueError of one line.

Both parsers of Python run a text of many brackets into their recursion limit, and YAML's more: an
alias stands for what it names as often as it is written, an explicit tag reads a text that it does
not fit, and a number may have more digits than Python will print.
"""

import json
import re
from typing import Any

import yaml

MOST_VALUES = 1_000_000
"""Values of a YAML text, each as often as aliases name it."""
MOST_YAML_CHARACTERS = 8 << 20
MOST_DIGITS = 100
"""Of a number in YAML, in any notation."""


class YamlFault(ValueError):
    """What is wrong with a YAML text; `index` is the character where it was seen, if known."""

    def __init__(self, line: str, index: int = -1) -> None:
        super().__init__(line)
        self.index = index


class YamlLoader(yaml.SafeLoader):
    """Plain YAML, except that 1e-3 is a number (as in YAML 1.2) and a key given twice an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of `node`; raises a YAML error where a key stands twice."""
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key_node, _ in node.value:
                key = str(key_node.value)
                if key in seen:
                    raise _fault(f"key {_short(key)} stands twice", key_node)
                seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of `node`; raises a YAML error where its text does not fit its tag."""
        kind = node.tag.rpartition(":")[2]
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        if kind in ("int", "float") and len(text) > MOST_DIGITS:
            raise _fault(f"a number of {len(text):,} digits is too long", node)
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception:  # PyYAML looks at a text as if it fitted
            raise _fault(f"{_short(text)} is no {kind}", node) from None


class YamlDumper(yaml.SafeDumper):
    """Plain YAML that quotes the text "1e-3", which `YamlLoader` would read as a number."""


for _kind_of_yaml in (YamlLoader, YamlDumper):
    _kind_of_yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text; raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets stand too deep in one another") from None


def read_yaml(text: str) -> Any:
    """The value of a YAML text; raises YamlFault, with the line where there is one."""
    if len(text) > MOST_YAML_CHARACTERS:
        raise YamlFault(f"has more than {MOST_YAML_CHARACTERS:,} characters")
    try:
        loader = YamlLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _bound(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        problem = error.problem or str(error).splitlines()[0]
        if mark is None:
            raise YamlFault(str(problem)) from None
        raise YamlFault(f"line {mark.line + 1}, {problem}", mark.index) from None
    except yaml.YAMLError as error:
        raise YamlFault(str(error).splitlines()[0]) from None
    except RecursionError:
        raise YamlFault("brackets or lines stand too deep in one another") from None
    except ValueError as error:
        raise YamlFault(" ".join(str(error).split())) from None


def _bound(root: yaml.Node) -> None:
    """Raise a YAML error where aliases stand for too much, or for what they stand in."""
    counts: dict[int, int] = {}
    waiting = [(root, False)]
    while waiting:
        node, seen = waiting.pop()
        inside = _inside(node)
        if seen:
            counts[id(node)] = 1 + sum(counts[id(one)] for one in inside)
            if counts[id(node)] > MOST_VALUES:
                raise _fault(f"aliases make more than {MOST_VALUES:,} values of it", node)
        elif id(node) not in counts:
            counts[id(node)] = 0
            waiting.append((node, True))
            for one in inside:
                if id(one) not in counts:
                    waiting.append((one, False))
                elif counts[id(one)] == 0:
                    raise _fault("an alias stands for what it stands in", one)


def _inside(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _fault(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _short(text: str) -> str:
    return repr(text) if len(text) <= 40 else repr(text[:37]) + "..."
