"""What tests read from a drawing: its images, parsed, their texts with their places."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from trainer.report.plots.lettering import TEXT, text_width

COORDINATES = ("x", "y", "d", "width", "height", "x1", "x2", "y1", "y2")


@dataclass(frozen=True)
class Placed:
    """A text and the box that it takes, by the widest face."""

    text: str
    left: float
    right: float
    top: float
    bottom: float

    def meets(self, other: "Placed") -> bool:
        """Whether two texts overlap by more than a unit."""
        return (
            min(self.right, other.right) - max(self.left, other.left) > 1
            and min(self.bottom, other.bottom) - max(self.top, other.top) > 1
        )


def images(plot: str) -> list[ElementTree.Element]:
    """The wide and the narrow image."""
    found = ElementTree.fromstring(plot).findall("svg")
    assert len(found) == 2
    return found


def placed(image: ElementTree.Element) -> Iterator[Placed]:
    """The texts of an image."""
    for text in image.iter("text"):
        size = float(text.get("font-size", TEXT))
        width = text_width(text.text or "", size, bold=text.get("font-weight") is not None)
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        left = {"start": x, "middle": x - width / 2, "end": x - width}[
            text.get("text-anchor", "start")
        ]
        yield Placed(text.text or "", left, left + width, y - 0.75 * size, y + 0.2 * size)


def check(plot: str) -> None:
    """What holds of every drawing, whatever its data."""
    keys = re.findall(r' id="([^"]+)"', plot)
    assert len(keys) == len(set(keys)) == 4
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b", re.sub(r"var\(--[^)]*\)", "", _attributes(plot)))
    for image in images(plot):
        title, description = image.find("title"), image.find("desc")
        assert title is not None and title.text and description is not None and description.text
        assert image.get("role") == "img"
        assert image.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        _, _, width, height = map(float, image.attrib["viewBox"].split())
        # 11 px at the least: a wide image is shown from 616 px on, a narrow one from 288.
        shown = 616 if width > 400 else 288
        for text in image.iter("text"):
            assert float(text.get("font-size", TEXT)) * shown / width >= 11
        for one in image.iter():
            for name in COORDINATES:
                assert not re.search("nan|inf", one.get(name, "").replace("100%", ""))
        texts = list(placed(image))
        for one in texts:
            assert one.left >= -0.5 and one.right <= width + 0.5, one
            assert one.top >= -0.5 and one.bottom <= height + 0.5, one
        for number, one in enumerate(texts):
            assert not any(one.meets(other) for other in texts[:number]), one


def _attributes(plot: str) -> str:
    """The drawing without what is read as text."""
    return re.sub(r">[^<]*<", "><", plot)
