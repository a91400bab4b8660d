"""Writing without losing anything: whole files or none, new folders only."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from promptplus.errors import OutputError

StrPath = str | os.PathLike[str]


def write_atomically(path: StrPath, data: bytes) -> Path:
    """Write through a temporary file, fsync and rename, so that a reader never sees half a file."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


@contextmanager
def whole_file(path: StrPath) -> Generator[Path]:
    """Gives a temporary path to write to; afterwards it is fsynced and renamed, or removed where writing failed."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)  # mkstemp's 0600 would keep others from reading a shared file
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


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
