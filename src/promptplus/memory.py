"""What to do when memory runs out: recognise the error, and process items in smaller chunks."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_MESSAGES = ("out of memory", "ALLOC_FAILED", "can't allocate memory")  # CUDA and MPS; cuDNN and cuBLAS; the CPU


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that memory ran out. PyTorch has an exception class for this on CUDA only."""
    return isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in _MESSAGES)


def map_in_chunks(
    function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], chunk_size: int
) -> Iterator[tuple[Sequence[Item], list[Result]]]:
    """Apply a function to chunks of items; from the first chunk that does not fit into memory on, to single items.

    Args:
        function: takes a chunk and returns one result for each of its items.
        items: all items, in order.
        chunk_size: items per call while memory suffices.

    Yields each chunk with its results. Raises the function's own error where a single item does not fit.
    """
    start = 0
    while start < len(items):
        chunk = items[start : start + chunk_size]
        try:
            results = function(chunk)
        except RuntimeError as error:
            if chunk_size == 1 or not is_out_of_memory(error):
                raise
            chunk_size = 1
            continue
        yield chunk, results
        start += len(chunk)
