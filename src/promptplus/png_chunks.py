"""The chunks of a PNG file: read its text keys, and leave out all that does not belong to the picture itself.

Pillow keeps every text of a file in memory and refuses a file with a long one. Programs write whole workflows there.
"""

import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from promptplus.errors import PictureError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SHEET_KEY = "promptplus-sheet"  # the key of a text chunk that marks a sheet of several pictures
PICTURE_KEY, SHEET_PREFIX = "promptplus", "sheet-"  # older sheets have a picture's key and this in their names
TEXT = (b"tEXt", b"zTXt", b"iTXt")
NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"sRGB", b"eXIf")  # an animation's first picture
NEEDED_TEXT = (b"XML:com.adobe.xmp", b"Raw profile type exif")  # some programs store the orientation there
LONGEST_KEY = 79  # bytes; PNG specification, section 11.3.3.2
MAX_TEXT = 2**20  # bytes of a text that is read; generation parameters have a few thousand (our choice)
MAX_CHUNKS = 1_000_000  # more than a large picture in parts of 4 KiB has (our choice)


def is_sheet(path: Path) -> bool:
    """Whether a file is a PNG that promptplus marked as a sheet of several pictures; False if it cannot be opened."""
    try:
        if not path.is_file():  # a named pipe would block
            return False
        with path.open("rb") as file:
            if file.read(len(SIGNATURE)) != SIGNATURE:
                return False
            keys = {_key(file) for kind, _ in _chunks(file) if kind in TEXT}
    except OSError:
        return False  # reading the picture says why
    old = path.name.lower().startswith(SHEET_PREFIX) and PICTURE_KEY.encode() in keys
    return old or SHEET_KEY.encode() in keys


def text_chunk(path: Path, key: str) -> bytes | None:
    """The text that a PNG file holds under a key, in UTF-8; None where it has none. Compressed texts do not count.

    Raises PictureError where the file cannot be opened, is no PNG file, or the text is longer than ``MAX_TEXT``.
    """
    try:
        if path.exists() and not path.is_file():
            raise PictureError(f"{path} is a folder, a pipe or a device and not a picture file")
        with path.open("rb") as file:
            if file.read(len(SIGNATURE)) != SIGNATURE:
                raise PictureError(f"{path} is not a PNG file; give a picture that promptplus made")
            for kind, length in _chunks(file):
                start = file.tell()
                if kind != b"iTXt" or _key(file) != key.encode():
                    continue
                if length > MAX_TEXT:
                    raise PictureError(f"{path} holds a text of {length:,} bytes under {key!r}; at most {MAX_TEXT:,}")
                file.seek(start)
                parts = file.read(length).split(b"\0", 5)  # key, two flags, language, translated key, text
                # the flags are a null byte each where the text is plain, so they split as well
                return parts[5] if parts[1:3] == [b"", b""] and len(parts) == 6 else None
    except OSError as error:
        raise PictureError(f"cannot read {path}: {error.strerror or error}") from error
    return None


def without_text(file: BinaryIO) -> BinaryIO:
    """A PNG file without texts and private chunks; any other file as it is. Raises PictureError: too many chunks."""
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        file.seek(0)
        return file
    kept = io.BytesIO()
    kept.write(SIGNATURE)
    for kind, length in _chunks(file):
        start = file.tell()
        if kind in NEEDED or (kind in TEXT and _key(file) in NEEDED_TEXT):
            file.seek(start)
            kept.write(struct.pack(">I", length) + kind + file.read(length + 4))  # 4: the checksum
        if kind == b"IEND":
            break
    kept.seek(0)
    return kept


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk after the signature; the file then stands at the chunk's contents."""
    end = file.seek(0, os.SEEK_END)
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        (length,) = struct.unpack(">I", head[:4])
        yield head[4:], min(length, end - position - 8)
        position += 12 + length
    raise PictureError(f"it has more than {MAX_CHUNKS:,} chunks")


def _key(file: BinaryIO) -> bytes:
    """The key of the text chunk at which the file stands."""
    return file.read(LONGEST_KEY + 1).partition(b"\0")[0]
