"""What to do when memory runs out: recognise it, and take a batch in smaller parts."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from PIL import Image

T = TypeVar("T")


def as_many_as_fit(
    make: Callable[[Sequence[T]], list[Image.Image]], items: Sequence[T], at_once: int
) -> Iterator[tuple[Sequence[T], list[Image.Image]]]:
    """Pictures of ``at_once`` items after the other; one by one from where memory has no room for more."""
    start = 0
    while start < len(items):
        part = items[start : start + at_once]
        try:
            made = make(part)
        except RuntimeError as error:
            if at_once == 1 or not out_of_memory(error):
                raise
            at_once = 1
            continue
        yield part, made
        start += len(part)


_NO_ROOM = ("out of memory", "ALLOC_FAILED", "can't allocate memory")  # CUDA and MPS, cuDNN and cuBLAS, the CPU


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that there is no memory left; PyTorch has a class of its own for CUDA alone."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_ROOM)
