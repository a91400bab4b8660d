"""Several processes that share every batch, as ``torchrun`` or ``accelerate launch`` start them. Usually there is one.

Random numbers are drawn for the whole batch. Each process takes its slice, so the batch is the one that a single
process would have seen.
The first process reads and writes files, and sends the others what it read.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor

T = TypeVar("T")
TIMEOUT = timedelta(hours=6)  # the others wait while the first process makes class pictures, previews and files


class Distributed:
    """This process among the others.

    Attributes:
        count: number of processes.
        rank: this process's number, from 0.
    """

    def __init__(self) -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        if self.count > 1 and not distributed.is_initialized():
            from accelerate import PartialState  # slow to import; chooses NCCL or gloo, and each process's device

            PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)

    @property
    def first(self) -> bool:
        """Whether this is the process that reads, writes and prints."""
        return self.rank == 0

    def share(self, samples: int) -> range:
        """This process's slice of a batch's samples."""
        return range(self.rank * samples // self.count, (self.rank + 1) * samples // self.count)

    def add(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.count > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in some process."""
        if self.count == 1:
            return flag
        count = torch.tensor(float(flag), device=device)
        distributed.all_reduce(count)
        return bool(count)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        self.from_first(None)

    def tensors_from_first(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The first process's tensors. They are sent one by one: together they may not fit on a device."""
        if self.count == 1:
            return tensors
        device = torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
        received = {}
        for name, shape, dtype in self.from_first([(n, t.shape, t.dtype) for n, t in tensors.items()]):
            here = tensors[name] if self.first else torch.empty(shape, dtype=dtype)
            sent = here.to(device).contiguous()
            distributed.broadcast(sent, src=0)
            received[name] = sent.cpu()
        return received

    def from_first(self, value: T) -> T:
        """The first process's value."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]
