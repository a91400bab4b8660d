"""Calls of the text encoder by the stock pipeline: mistakes that would give a wrong picture, or an unreadable error."""

import inspect
from collections.abc import Sequence
from typing import Any, cast

from jaxtyping import Int
from torch import Tensor

from promptplus.errors import PromptError, warn


class StockCallWatcher:
    """Looks at the token ids of calls that are not ours. It changes nothing.

    Args:
        packed_width: width of packed text states.
    """

    def __init__(self, packed_width: int) -> None:
        self.packed_width = packed_width
        self._pieces: dict[str, tuple[int, ...]] = {}  # replaced, never changed: other threads may read it

    def expect(self, token: str, pieces: Sequence[int]) -> None:
        """Warn, once, of a stock call whose text holds a token; ``pieces``: the token's plain characters as ids."""
        self._pieces = {**self._pieces, token: tuple(pieces)}

    def forget(self, token: str) -> None:
        """Warn no longer of a token."""
        self._pieces = {name: pieces for name, pieces in self._pieces.items() if name != token}

    def see(self, ids: Int[Tensor, "batch tokens"]) -> None:
        """Look at one call. Raises PromptError where the other half of its prompt is packed."""
        _refuse_half_packed(self.packed_width)
        if not self._pieces:
            return
        rows = cast(list[list[int]], cast(Any, ids).tolist())  # torch has no type for it
        for token, pieces in list(self._pieces.items()):
            if any(_contains(row, pieces) for row in rows):
                self.forget(token)
                warn(
                    f"the stock pipeline reads {token} as plain characters; "
                    "for the concept: pipe(**pplus.encode(prompt, negative))"
                )


def _contains(row: Sequence[int], part: Sequence[int]) -> bool:
    """Whether ``part`` stands in ``row`` without a gap."""
    return any(tuple(row[i : i + len(part)]) == tuple(part) for i in range(len(row) - len(part) + 1))


def _refuse_half_packed(packed_width: int) -> None:
    """Raise PromptError where the pipeline that encodes a text now was given packed states for the other half."""
    frame = inspect.currentframe()
    while frame:
        if frame.f_code.co_name == "encode_prompt":
            for name in ("prompt_embeds", "negative_prompt_embeds"):
                states = frame.f_locals.get(name)
                if isinstance(states, Tensor) and states.shape[-1] >= packed_width:
                    raise PromptError(
                        f"{name} are packed by PPlus.encode, the other half of the prompt is not; "
                        "pass both: pipe(**pplus.encode(prompt, negative))"
                    )
            return
        frame = frame.f_back
