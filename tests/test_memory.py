"""Out of memory: which errors mean it, and what happens to the items."""

from collections.abc import Sequence

import pytest
import torch

from promptplus.memory import is_out_of_memory, map_in_chunks

FULL = RuntimeError("CUDA error: out of memory")


class Doubler:
    """Doubles chunks of at most ``room`` numbers, and records the size of every call."""

    def __init__(self, room: int) -> None:
        self.room, self.calls = room, []

    def __call__(self, chunk: Sequence[int]) -> list[int]:
        self.calls.append(len(chunk))
        if len(chunk) > self.room:
            raise FULL
        return [2 * number for number in chunk]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA"), True),
        (FULL, True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_which_errors_mean_out_of_memory(error: RuntimeError, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_chunks_are_consecutive_and_the_last_may_be_shorter() -> None:
    function = Doubler(room=2)
    assert list(map_in_chunks(function, range(5), 2)) == [(range(2), [0, 2]), (range(2, 4), [4, 6]), (range(4, 5), [8])]
    assert function.calls == [2, 2, 1]


def test_single_items_from_where_memory_runs_out() -> None:
    function = Doubler(room=1)
    chunks = list(map_in_chunks(function, [1, 2, 3], 3))
    assert chunks == [([1], [2]), ([2], [4]), ([3], [6])]
    assert function.calls == [3, 1, 1, 1]


def test_an_item_that_does_not_fit_alone_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        list(map_in_chunks(Doubler(room=0), [1, 2], 2))


def test_other_errors_pass() -> None:
    def broken(_chunk: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        next(map_in_chunks(broken, [1, 2], 2))
