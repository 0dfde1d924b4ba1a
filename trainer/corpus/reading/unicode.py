"""Whether bytes and strings are Unicode text that UTF-8 can encode."""

from trainer.errors import DataError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# UTF-32 first: its mark begins with that of UTF-16.
WIDE_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def unicode_fault(text: str) -> str | None:
    """The first lone surrogate of a string, as a message; None where UTF-8 can encode it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"lone surrogate \\u{ord(text[error.start]):04x} at character {error.start}"
    return None


def refuse_wide_unicode(path: str, start: bytes) -> None:
    """Raise DataError for a file of records in UTF-16 or UTF-32, of which no line can be read."""
    if wide := wide_unicode(start):
        raise DataError(f"{path}: is {wide}, not UTF-8: convert it (iconv -f {wide} -t UTF-8)")


def wide_unicode(start: bytes) -> str | None:
    """UTF-16 or UTF-32 where the first bytes of a text have its byte order mark, or zeros at the
    offsets of its high bytes; otherwise None.
    """
    marked = next((name for mark, name in WIDE_MARKS.items() if start.startswith(mark)), None)
    if marked:
        return marked
    sample = start[: min(len(start), 1024) // 4 * 4]
    if len(sample) < 8:
        return None
    # A few bytes may have a null character or two without being any such text.
    least = 0.4 if len(sample) >= 64 else 0.8
    zeros = [sample[offset::4].count(0) * 4 / len(sample) for offset in range(4)]
    for lane in (zeros, zeros[::-1]):
        if min(lane[:2]) > 0.8 and lane[3] < 0.1:
            return "UTF-32"
        if min(lane[0], lane[2]) > least and max(lane[1], lane[3]) < 0.1:
            return "UTF-16"
    return None
