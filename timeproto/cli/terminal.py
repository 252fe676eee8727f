"""What the commands write: nothing that a terminal obeys, and nothing that is lost without a word.

Much of it is somebody else's text: a node's answer, an address in a transaction, a name in a file.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from timeproto.errors import StorageError


def harmless(text: str) -> str:
    """``text`` on one printable line: control characters, line ends and what is no character at all (a byte in a path
    that is no UTF-8) are spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def say(*lines: str) -> None:
    """Writes these lines, harmless, to standard output, and returns when they have left.

    Raises :class:`BrokenPipeError` if their reader has gone, :class:`StorageError` if they cannot be written.
    """
    if sys.stdout is None:
        raise StorageError("standard output is closed, and there is something to say")
    with _written():
        print("\n".join(map(harmless, lines)), flush=True)


def warn(sentence: str) -> None:
    """Something to know beside the answer: on standard error, so that JSON stays JSON."""
    complain(f"timeproto: {sentence}")


def complain(line: str) -> None:
    """One harmless line on standard error. Where nobody reads that, it changes nothing of how the command ends."""
    with suppress(OSError):
        print(harmless(line), file=sys.stderr)


def prepare() -> None:
    """From now on standard output spells out what its encoding has no letter for, rather than fail."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def finish() -> None:
    """What commands have printed leaves now; raises as :func:`say` does. At exit nobody could tell that it did not."""
    if sys.stdout is not None:
        with _written():
            sys.stdout.flush()


def reader_is_gone() -> bool:
    """True if standard output is a pipe that nobody reads any more: who has nothing to say would not notice."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, ValueError, OSError):  # there is none, or in place of it there is what is no file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def let_go() -> None:
    """Nothing more is written to standard output: what is left in its buffer would fail a second time at exit."""
    with suppress(OSError):  # in place of it there may be what is no file
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        let_go()
        raise
    except OSError as error:
        let_go()
        raise StorageError(f"standard output cannot be written: {error.strerror}") from None
