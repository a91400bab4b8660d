"""Pictures that are kept while a command works, so that the same command goes on where it was stopped.

While inside ``keeping(folder)``, every batch that is drawn is written at once, and is read again instead of drawn anew.
What is kept is found by a hash of all that it depends on. The folder is removed when the command is done.
"""

import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor

from promptplus.denoisers import denoiser_of
from promptplus.errors import PictureError
from promptplus.files import UNFINISHED, make_folder, whole_file, write_atomically
from promptplus.fingerprints import settings_hash, tensor_hash, weights_hash
from promptplus.pictures import read_picture

_FOLDER: ContextVar[Path | None] = ContextVar("promptplus_kept_pictures", default=None)


@contextmanager
def keeping(folder: Path) -> Generator[None]:
    """Keep what is drawn inside in ``folder/.unfinished``; where the block ends well, that folder is removed."""
    kept = make_folder(folder / UNFINISHED)
    token = _FOLDER.set(kept)
    try:
        yield
    finally:
        _FOLDER.reset(token)
    shutil.rmtree(kept, ignore_errors=True)


def kept_or_drawn(
    pipe: Any, tensors: Mapping[str, Tensor], values: Mapping[str, Any], count: int, draw: Callable[[], list[Any]]
) -> list[Image.Image]:
    """Pictures as they were kept, else drawn and kept.

    Args:
        pipe: the pipeline that draws.
        tensors, values: all else that the pictures depend on; the values are plain.
        count: how many pictures there are.
        draw: makes them.
    """
    folder = _FOLDER.get()
    if folder is None:
        return draw()
    key = _key(pipe, tensors, values)
    paths = [folder / f"{key}-{number}.png" for number in range(count)]
    try:
        return [read_picture(path) for path in paths]
    except PictureError:
        pictures = draw()
    for path, picture in zip(paths, pictures, strict=True):
        with whole_file(path) as temporary:
            picture.save(temporary, "PNG")
    return pictures


def kept_tensor(key: str, compute: Callable[[], Tensor]) -> Tensor:
    """A CPU tensor as it was kept under a key, else computed and kept. The key names all that it depends on."""
    folder = _FOLDER.get()
    if folder is None:
        return compute()
    path = folder / f"{settings_hash({'key': key})}.safetensors"
    if path.exists():
        return load_file(path)["value"]
    value = compute()
    write_atomically(path, save({"value": value.contiguous()}))
    return value


def _key(pipe: Any, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> str:
    """A hash of all that a batch depends on."""
    record: dict[str, Any] = {"weights": [weights_hash(denoiser_of(pipe)), weights_hash(pipe.vae)], **values}
    record["scheduler"] = [type(pipe.scheduler).__name__, {k: str(v) for k, v in pipe.scheduler.config.items()}]
    record["tensors"] = {name: tensor_hash(value.detach().float().cpu()) for name, value in tensors.items()}
    return settings_hash(record)
