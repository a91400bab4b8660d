"""Pictures that a browser sent: counted, weighed and copied before anything else happens with them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from promptplus.errors import PictureError
from promptplus.files import free_folder, make_folder

MOST = 10  # pictures of a concept; the paper learns from 3 to 5
LARGEST = 20 * 2**20  # bytes of one picture; a photo of 48 megapixels has about 15 MB
HARD_LIMIT = 4 * LARGEST  # bytes that the server takes at all; between the two limits the error names the file


def check_uploads(paths: Sequence[str] | str | None, most: int = MOST) -> list[Path]:
    """The files of an upload field. Raises PictureError, which names the file, on none, too many, or too large ones."""
    files = [Path(path) for path in ([paths] if isinstance(paths, str) else paths or [])]
    if not files:
        raise PictureError(f"there are no pictures; drop {'one' if most == 1 else f'1 to {most}'} here")
    if len(files) > most:
        raise PictureError(f"{len(files)} pictures are too many, from {files[most].name} on; drop at most {most}")
    for file in files:
        if not file.is_file():
            raise PictureError(f"{file.name} is gone from this machine; drop it again")
        if (size := file.stat().st_size) > LARGEST:
            raise PictureError(f"{file.name} has {size / 2**20:.0f} MB; drop a copy of at most {LARGEST // 2**20} MB")
    return files


def keep_uploads(files: Sequence[Path], folder: Path) -> Path:
    """Copy files into a new folder, as they are, with all they say of rotation and colours. Returns the folder.

    Args:
        folder: of the copies; where it exists, ``folder-2``, and so on.
    """
    kept = make_folder(free_folder(folder))
    for number, file in enumerate(files):
        shutil.copyfile(file, kept / f"{number:02d}-{file.name}")
    return kept
