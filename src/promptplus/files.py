"""Writing files safely: a file is written completely or not at all, and no folder with contents is overwritten."""

import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from promptplus.errors import DISK_ERRORS, OutputError, PromptPlusError, WriteError, first_line, short

StrPath = str | os.PathLike[str]
UNFINISHED = ".unfinished"  # holds what a stopped command made so far, for the same command to go on from
TEMPORARY = ".promptplus-"  # prefix of the hidden folders that files are written in before they are renamed


def as_path(value: StrPath, error: type[PromptPlusError] = OutputError) -> Path:
    """A path from what a caller gave. Raises ``error`` on what is neither a text nor a path."""
    try:
        return Path(value)
    except TypeError as failure:
        raise error(f"{short(value)} is no path; give a text or a Path ({first_line(failure)})") from failure


def write_atomically(path: StrPath, data: bytes) -> Path:
    """Write a file through a temporary file, fsync and rename, so that no reader sees a partial file.

    Returns the path. Raises OutputError or WriteError where that fails; an existing file is then unchanged.
    """
    path = as_path(path)
    with whole_file(path) as temporary:
        temporary.write_bytes(data)
    return path


@contextmanager
def whole_file(path: StrPath) -> Generator[Path]:
    """Yield a temporary path to write to. At the end of the block the file is fsynced and renamed to ``path``.

    The temporary file is removed where writing fails. It has the final file's name, in a hidden folder of its own,
    because some writers create further temporary files beside it. Raises OutputError or WriteError where writing fails.
    """
    path = as_path(path)
    with reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY))
        try:
            yield folder / path.name
            _complete(folder / path.name)
            (folder / path.name).replace(path)
        finally:
            shutil.rmtree(folder)


@contextmanager
def whole_folder(path: StrPath) -> Generator[Path]:
    """Yield a temporary folder to write into. At the end of the block it becomes ``path``, which is new or empty.

    It is removed where writing fails. Raises OutputError or WriteError where that is so, or ``path`` holds something.
    """
    path = check_folder(path, new=True)
    with reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY))
        try:
            folder = hidden / "folder"
            folder.mkdir()
            yield folder
            for file in filter(Path.is_file, folder.rglob("*")):
                _complete(file)
            folder.replace(path)  # takes the place of an empty folder
        finally:
            shutil.rmtree(hidden)


def write_new(folder: Path, names: Iterable[str], write: Callable[[Path], None]) -> Path:
    """Write a file under the first of several names that does not exist yet, completely or not at all.

    Processes that write into one folder at once never overwrite each other's files.

    Args:
        folder: an existing folder.
        names: file names, in order of preference; they must not run out.
        write: writes the file to the path it is given.

    Returns the path. Raises OutputError where writing fails.
    """
    with reported(folder):
        hidden = Path(tempfile.mkdtemp(dir=folder, prefix=TEMPORARY))
        temporary = hidden / "file"
        try:
            write(temporary)
            _complete(temporary)
            return next(path for path in map(folder.joinpath, names) if _take_name(temporary, path))
        finally:
            shutil.rmtree(hidden)


def _complete(temporary: Path) -> None:
    """See that a written file is on the disk, and that others may read it: some writers' 0600 would keep them out."""
    sync(temporary)
    temporary.chmod(0o644)


def _take_name(temporary: Path, path: Path) -> bool:
    """Give a whole file its name; False where that exists."""
    try:
        os.link(temporary, path)  # unlike a rename, it never replaces
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            file = path.open("xb")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(temporary.read_bytes())
        except OSError:
            path.unlink()
            raise
    return True


@contextmanager
def reported(path: Path) -> Generator[None]:
    """Turn errors of writing inside a ``with`` block into an OutputError or a WriteError that names the path."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise cannot(f"write {path}", error) from error


def cannot(what: str, error: OSError | SafetensorError) -> PromptPlusError:
    """The error to raise where the system refused something, as "write x.png".

    A WriteError where the disk is full, read-only or broken; an OutputError where another path would do.
    """
    number = re.search(r"os error (\d+)", str(error)) if isinstance(error, SafetensorError) else None
    code = int(number[1]) if number else getattr(error, "errno", None)
    kind = WriteError if code in DISK_ERRORS else OutputError
    return kind(f"cannot {what}: {getattr(error, 'strerror', None) or first_line(error)}")


def sync(path: Path) -> None:
    """Wait until a file's bytes are on the disk (fsync)."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sweep(folder: Path) -> None:
    """Remove the partial files that killed processes left in a folder."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def check_folder(path: StrPath, *, new: bool = False) -> Path:
    """Check that a folder can be written to, without creating it. Returns its path.

    Args:
        path: the folder; it need not exist.
        new: also refuse a folder that is not empty, unless a stopped command left it unfinished.

    Raises:
        OutputError: the folder cannot be written to, or is not empty although ``new`` is set.
    """
    path = as_path(path)
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise OutputError(f"cannot write into {path}: {existing} is a file; give a folder")
    try:
        Path(tempfile.mkdtemp(dir=existing, prefix=TEMPORARY)).rmdir()
    except OSError as error:  # permissions say too little: /proc, a full disk, a read-only file system
        raise OutputError(f"cannot write into {path}: {error.strerror or error} ({existing})") from error
    if new and path.is_dir() and any(path.iterdir()) and not (path / UNFINISHED).is_dir():
        raise OutputError(f"{path} already holds something; nothing is overwritten, so give another folder")
    return path


def result_folder(given: StrPath | None, default: Path) -> Path:
    """The folder for a command's results: new, empty, or left unfinished by the same command.

    Without a given one: the first of ``default``, ``default-2``, … that is. Raises OutputError as ``check_folder``.
    """
    if given is not None:
        return check_folder(given, new=True)
    usable = (p for p in _numbered(default) if not p.exists() or (p / UNFINISHED).is_dir())
    return check_folder(next(usable), new=True)


def free_folder(path: Path) -> Path:
    """The first of ``path``, ``path-2``, ``path-3``, … that does not exist."""
    return next(p for p in _numbered(path) if not p.exists())


def _numbered(path: Path) -> Iterator[Path]:
    """``path``, ``path-2``, ``path-3``, …"""
    yield path
    yield from (path.with_name(f"{path.name}-{n}") for n in itertools.count(2))


def new_folder(path: StrPath) -> Path:
    """Create a folder, or take an empty one. Raises OutputError where it is not empty or cannot be created."""
    path = check_folder(path, new=True)
    return make_folder(path)


def make_folder(path: StrPath) -> Path:
    """Create a folder if it does not exist. Raises OutputError or WriteError where that fails."""
    path = as_path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot(f"make the folder {path}", error) from error
    return path
