"""Writing without losing anything: whole files or none, new folders only."""

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from promptplus.errors import OutputError

StrPath = str | os.PathLike[str]
TEMPORARY = ".promptplus-"  # begins the names of folders that something is being written in


def write_atomically(path: StrPath, data: bytes) -> Path:
    """Write through a temporary file, fsync and rename, so that a reader never sees half a file."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


@contextmanager
def whole_file(path: StrPath) -> Generator[Path]:
    """Gives a temporary path to write to; afterwards it is fsynced and renamed, or removed where writing failed.

    The path has the file's own name in a hidden folder of its own, since some writers make temporaries too.
    """
    path = Path(path)
    with reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY))
        try:
            yield folder / path.name
            sync(folder / path.name)
            (folder / path.name).chmod(0o644)  # some writers' 0600 would keep others from reading a shared file
            (folder / path.name).replace(path)
        finally:
            shutil.rmtree(folder)


@contextmanager
def reported(path: Path) -> Generator[None]:
    """While inside, what keeps a path from being written is an OutputError that names it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def sync(path: Path) -> None:
    """Have a file's bytes on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sweep(folder: Path) -> None:
    """Remove what killed writers left half written."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def check_folder(path: StrPath, *, new: bool = False) -> Path:
    """See that a folder can be written, before any work and without making it.

    Args:
        new: refuse a folder that already holds something.
    """
    path = Path(path)
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise OutputError(f"cannot write into {path}: {existing} is a file; give a folder")
    if not os.access(existing, os.W_OK):
        raise OutputError(f"cannot write into {path}: no permission for {existing}")
    if new and path.is_dir() and any(path.iterdir()):
        raise OutputError(f"{path} already holds something; nothing is overwritten, so give another folder")
    return path


def free_folder(path: Path) -> Path:
    """The path, or path-2, path-3, …: the first that does not exist."""
    numbers = (n for n in range(2, 10**6) if not path.with_name(f"{path.name}-{n}").exists())
    return path.with_name(f"{path.name}-{next(numbers)}") if path.exists() else path


def new_folder(path: StrPath) -> Path:
    """Make a folder for a run's output, or take an empty one."""
    path = check_folder(path, new=True)
    return make_folder(path)


def make_folder(path: StrPath) -> Path:
    """Make a folder if there is none. Raises OutputError where that fails."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror or error}") from error
    return path
