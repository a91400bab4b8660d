"""Hooks on modules, shared by all who ask for them. They leave with their last owner.

A module gets one hook of ours, however many owners it has. The hooks hold no state of a call, so any number of threads
may use them.
"""

import threading
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from torch import nn

_LOCK = threading.RLock()  # reentrant: a finalizer may run while its own thread holds it


class SharedHook(ABC):
    """A hook that can be shared, copied with its module, and pickled."""

    @abstractmethod
    def register(self, module: nn.Module) -> Any:
        """Register the hook on a module. Returns torch's handle."""


H = TypeVar("H", bound=SharedHook)


@dataclass(eq=False)
class _Entry:
    """The hook on one module, and who asked for it."""

    hook: SharedHook
    handle: Any
    owners: "weakref.WeakSet[HookSet]" = field(default_factory=weakref.WeakSet["HookSet"])


_ENTRIES: "weakref.WeakKeyDictionary[nn.Module, _Entry]" = weakref.WeakKeyDictionary()


class HookSet:
    """The hooks of one owner. ``remove()``, or the end of a ``with`` block, takes them out.

    A hook that another owner needs stays.

    Args:
        leave: whether the hooks also leave when the set is no longer reachable. Otherwise they stay until some owner
            removes them.
    """

    def __init__(self, *, leave: bool) -> None:
        self._modules: list[weakref.ref[nn.Module]] = []
        if leave:
            weakref.finalize(self, _take_out_unowned, self._modules).atexit = False

    def attach(self, module: nn.Module, hook: H) -> H:
        """Put a hook on a module. Returns the hook that is there: the given one, or an equal one of another owner.

        Hooks of ours that came with a copy of a module belong to nobody, and are replaced.
        """
        with _LOCK:
            entry = _ENTRIES.get(module)
            if entry is None or type(entry.hook) is not type(hook) or not entry.owners:
                if entry is not None:
                    entry.handle.remove()
                _strip(module)
                entry = _ENTRIES[module] = _Entry(hook, hook.register(module))
            if self not in entry.owners:
                entry.owners.add(self)
                self._modules.append(weakref.ref(module))
            return entry.hook  # pyright: ignore[reportReturnType]

    @property
    def installed(self) -> bool:
        """Whether the hooks are in place."""
        return bool(self._modules)

    def remove(self) -> None:
        """Take the hooks out. Further calls do nothing."""
        with _LOCK:
            for module in filter(None, (reference() for reference in self._modules)):
                if module in _ENTRIES:
                    _ENTRIES[module].owners.discard(self)
            _take_out_unowned(self._modules)
            self._modules.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _take_out_unowned(modules: "list[weakref.ref[nn.Module]]") -> None:
    with _LOCK:
        for module in filter(None, (reference() for reference in modules)):
            entry = _ENTRIES.get(module)
            if entry is not None and not entry.owners:
                entry.handle.remove()
                del _ENTRIES[module]


def _strip(module: nn.Module) -> None:
    """Remove hooks of ours that a module was copied or unpickled with."""
    held: dict[str, Any] = vars(module)
    for hooks in (held["_forward_pre_hooks"], held["_forward_hooks"]):
        for key in [key for key, hook in hooks.items() if isinstance(hook, SharedHook)]:
            del hooks[key]
            held["_forward_pre_hooks_with_kwargs"].pop(key, None)
            held["_forward_hooks_with_kwargs"].pop(key, None)
