"""Standard output and error that never end a run: what cannot be encoded is escaped, what cannot be written is dropped.

A training that is finished shall not fail because its last sentence cannot be printed: ``… | head -1`` closes the
pipe, a full disk takes no more text, and a Windows console has no Cyrillic letters.
"""

import errno
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Descriptor(io.FileIO):
    """An open file descriptor that takes everything; after the first failure it drops what is written.

    Attributes:
        failure: why writing failed; None where it did not.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return len(memoryview(data).cast("B"))


@contextmanager
def safe_streams() -> Iterator[list[OSError]]:
    """While inside, printing raises nothing. Yields a list that gets standard output's failure at the end, if any.

    A closed pipe is no failure: its reader has seen what it wanted. Standard error's failures are dropped.
    """
    before = sys.stdout, sys.stderr
    failures: list[OSError] = []
    output, descriptor = _safe(sys.stdout)
    sys.stdout, sys.stderr = output, _safe(sys.stderr)[0]
    try:
        yield failures
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before
        if descriptor and descriptor.failure and descriptor.failure.errno not in (errno.EPIPE, errno.EINVAL):
            failures.append(descriptor.failure)


def _safe(stream: Any) -> tuple[Any, _Descriptor | None]:
    """A stream in place of another one, and what it writes to, where that is a file descriptor."""
    if stream is None:  # it was closed before Python began
        return io.StringIO(), None
    if type(stream) is not io.TextIOWrapper:  # another program's stream, as a test's
        return stream, None
    errors = "backslashreplace" if stream.errors == "strict" else stream.errors
    try:
        stream.flush()
        descriptor = _Descriptor(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):  # no descriptor, or a closed stream
        stream.reconfigure(errors=errors)
        return stream, None
    buffer = io.BufferedWriter(descriptor)
    line_buffering = stream.line_buffering
    return io.TextIOWrapper(buffer, stream.encoding, errors, line_buffering=line_buffering), descriptor
