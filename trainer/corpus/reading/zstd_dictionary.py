"""Zstandard files whose first frame is the dictionary of the others, as archives of crawls have it.

Source: iipc.github.io/warc-specifications, "Zstandard-compressed WARC files": a skippable frame of
its own magic holds the dictionary, as it is or compressed itself.
"""

import io
from typing import Any

DICTIONARY_FRAME = b"\x5d\x2a\x4d\x18"
HEADER_BYTES = 8
DICTIONARY_BYTES = 64 * 2**20
ZSTD = b"\x28\xb5\x2f\xfd"
# One byte can stand for some 32 KiB, and what a piece unpacks to is held at once.
PIECE = 1024


class DictionaryStream:
    """The decompressed bytes of such a file, of any number of frames.

    Not by pyarrow, whose codec takes no dictionary, and not by zstandard's stream_reader, which
    reports no error for a truncated file. Raises OSError for a damaged or truncated one.
    """

    def __init__(self, packed: "io.BufferedReader[Any]") -> None:
        self._packed = packed
        self._plain, self._at = b"", 0
        self._unpacker: Any = None
        self._frame: Any = None

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        if self._unpacker is None:
            self._unpacker = _unpacker(self._packed)
        while self._at == len(self._plain):
            if not (piece := self._packed.read(PIECE)):
                if self._frame is not None:
                    raise OSError("Truncated compressed stream")
                return b""
            self._plain, self._at = self._unpack(piece), 0
        start, self._at = self._at, min(self._at + size, len(self._plain))
        return self._plain[start : self._at]

    def _unpack(self, piece: bytes) -> bytes:
        import zstandard

        pieces: list[bytes] = []
        while piece:
            if self._frame is None:
                self._frame = self._unpacker.decompressobj()
            try:
                pieces.append(self._frame.decompress(piece))
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from None
            piece = b""
            if self._frame.eof:
                piece, self._frame = self._frame.unused_data, None
        return b"".join(pieces)


def _unpacker(packed: "io.BufferedReader[Any]") -> Any:
    """By the dictionary that the stream begins with."""
    import zstandard

    size = int.from_bytes(packed.read(HEADER_BYTES)[4:], "little")
    content = packed.read(size) if size <= DICTIONARY_BYTES else b""
    if len(content) < size or size < len(ZSTD):
        raise OSError("its dictionary is cut short, or too large")
    try:
        if content.startswith(ZSTD):
            plain = zstandard.ZstdDecompressor()
            content = plain.decompress(content, max_output_size=DICTIONARY_BYTES)
        return zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(content))
    except zstandard.ZstdError as error:
        raise OSError(f"its dictionary: {error}") from None
