"""Which files of a folder are pictures.

One rule for every command and call: pictures are read; what other programs leave beside pictures is left out, with a
note; what is unknown is refused by name.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from promptplus.caption_files import CAPTION_SUFFIXES, METADATA
from promptplus.errors import PictureError, warn
from promptplus.pictures import check_shape, read_picture
from promptplus.png_chunks import is_sheet

CONCEPT_JSON, PROMPTS_JSON = "concept.json", "prompts.json"  # ours: the concept's note, and the prompts of pictures
PICTURE_SUFFIXES = tuple(".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .tif .tiff .heic .heif .avif .jxl".split())
"""Names that are meant for pictures, also of formats that cannot be read."""
RAW_SUFFIXES = tuple(".dng .nef .arw .cr2 .cr3 .raf .orf .rw2 .pef .srw".split())
"""Raw files of cameras: only the small preview inside could be read."""
UNFINISHED = tuple(
    ".crdownload .part .partial .filepart .download .opdownload .tmp .temp .aria2 .!ut .!qb .bc!".split()
)
FORMER = (".bak", ".old", ".orig", "~")
"""Ends of the names of earlier versions of a file, which other programs keep."""
NOTES = tuple(
    ".csv .tsv .jsonl .parquet .arrow .toml .yaml .yml .xml .ini .db .log .md .rst .html .htm .md5 .sha256 .lnk .url "
    ".webloc".split()
)
"""Tables, lists, settings, texts and links, which say something about pictures and hold none."""
CACHES = (".npz", ".npy", ".pt")
"""Latents and text states of other trainers."""
BESIDE_A_PICTURE = (".json", ".safetensors", ".mov", ".mp4", ".psd", *RAW_SUFFIXES)
"""By-products where the name begins with that of a picture, as ``p0.json``, ``p0.png.json`` or ``p0_cache.npz``.

Any other file of such a name is one too, unless it turns out to be a picture."""
BY_PRODUCT_NAMES = (
    *("icon\r", "thumbs.db:encryptable", "zbthumbnail.info", "albumdata.xml", "sha256sums", "md5sums"),
    *("metadata.json", "dataset.json", "dataset_info.json", "dataset_infos.json", "captions.json"),
    *("meta_cap.json", "meta_lat.json", "meta_clean.json"),
)
TEXTS = ("readme", "license", "licence", "copying", "notice", "credits", "attribution")
FOREIGN_FOLDERS = (
    *("__macosx", "@eadir", "@__thumb", "#recycle", "@recycle", "$recycle.bin", "system volume information"),
    *("lost+found", "__pycache__"),
)
NAMED = 5  # files that a note names


def read_files(where: str, entries: Sequence[Path], captions: bool = False) -> list[tuple[Path, Image.Image]]:
    """The pictures among files, with their files.

    Args:
        where: what messages call the files: the folder, or the pattern.
        entries: all files of the folder.
        captions: files of captions are used, so no note says that they are left out.

    Raises:
        PictureError: nothing can be read, or a file is neither a picture nor a known by-product.
    """
    entries = [p for p in entries if not p.name.startswith(".") and p.name not in (CONCEPT_JSON, PROMPTS_JSON)]
    if not entries:
        raise PictureError(f"{where} is empty; put one to about ten pictures of the concept into it")
    folders = [p.name for p in entries if p.is_dir() and p.name.lower() not in FOREIGN_FOLDERS]
    if folders:
        raise PictureError(f"{where} holds folders ({', '.join(folders[:3])}); give one concept's folder of pictures")
    beside = tuple(
        f"{name}{mark}" for p in entries if p.suffix.lower() in PICTURE_SUFFIXES for name in _names(p) for mark in "._:"
    )
    pictures: list[tuple[Path, Image.Image]] = []
    aside: list[str] = []
    bad: list[str] = []
    for path in entries:
        if captions and _is_captions(path):
            continue
        is_beside = path.suffix.lower() not in PICTURE_SUFFIXES and path.name.lower().startswith(beside)
        if _is_by_product(path, is_beside):
            aside.append(path.name)
            continue
        try:
            if path.is_file() and is_sheet(path):
                aside.append(f"{path.name} (a sheet of several pictures)")
            else:
                pictures.append((path, _read(path)))
        except PictureError as error:
            if is_beside:
                aside.append(path.name)
            elif path.suffix.lower() in PICTURE_SUFFIXES:
                bad.append(str(error))
            else:
                raise
    names = ", ".join(aside[:NAMED]) + (f" and {len(aside) - NAMED} more" if len(aside) > NAMED else "")
    if not pictures:
        found = "; ".join([*bad, *([f"there are only {names}"] if aside else [])])
        raise PictureError(f"{where} holds no picture that can be read: {found}")
    if aside:
        count = "1 file" if len(aside) == 1 else f"{len(aside)} files"
        warn(f"{where}: left out {count} beside the pictures: {names}")
    if bad:
        warn(f"left out {len(bad)} of {len(bad) + len(pictures)} files: {'; '.join(bad)}")
    return pictures


def _read(path: Path) -> Image.Image:
    """Read one file. Where its name is not that of a picture, an error says so."""
    suffix = path.suffix.lower()
    if suffix in RAW_SUFFIXES:
        raise PictureError(f"{path} is a camera's raw file; export it as JPEG or PNG")
    try:
        return check_shape(read_picture(path), str(path))  # read_files has looked whether it is a sheet
    except PictureError as error:
        if suffix in PICTURE_SUFFIXES:
            raise
        raise PictureError(f"{error}; {path.name} is no known by-product of pictures either: remove it") from error


def _is_captions(path: Path) -> bool:
    """Whether a file holds captions of pictures."""
    return path.suffix.lower() in CAPTION_SUFFIXES or path.name.lower() == METADATA


def _names(path: Path) -> tuple[str, str]:
    """What the names of files beside a picture begin with: its name with and without suffix."""
    return path.stem.lower(), path.name.lower()


def _is_by_product(path: Path, is_beside: bool) -> bool:
    """Whether a file is what other programs leave beside pictures. ``is_beside``: its name begins with a picture's."""
    name, suffix = path.name.lower(), path.suffix.lower()
    return (
        name in (*BY_PRODUCT_NAMES, *FOREIGN_FOLDERS)
        or _is_captions(path)
        or suffix in (*UNFINISHED, *NOTES, *CACHES)
        or name.endswith(FORMER)
        or name.startswith(("unconfirmed ", "~$"))
        or (is_beside and suffix in BESIDE_A_PICTURE)
        or (path.stem.lower().startswith(TEXTS) and suffix in ("", ".pdf"))
    )
