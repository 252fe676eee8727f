"""``timeproto``: the commands, and what each way of failing means to a shell (errors.ExitStatus).

Every command is a module of this package with ``add_parser(subparsers)``, which declares its options and sets
``run``, a callable from the parsed arguments to an exit status. Importing one must be cheap: what is heavy is
imported by ``run``.
"""

from __future__ import annotations

import argparse
import errno
import importlib
from collections.abc import Sequence

from timeproto import __version__
from timeproto.cli import terminal
from timeproto.errors import ConfigurationError, ExitStatus, IdentityConflict, Refusal, StorageError

COMMANDS = ("devnet", "wallet", "demo", "status", "admin", "genesis", "key", "vectors", "bench", "sim")

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended: 128 + SIGINT."""

BROKEN_PIPE = 141
"""The same for a reader that closed the pipe: 128 + SIGPIPE."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a disk says that takes no more, whatever was to be written there: a file, or our output."""

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (Refusal, ExitStatus.REFUSED),
    (ConfigurationError, ExitStatus.CONFIGURATION),
    (StorageError, ExitStatus.STORAGE),
    (IdentityConflict, ExitStatus.IDENTITY),
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="timeproto",
        description="The UTXO State Protocol: payments that are final in a fraction of a second.",
        epilog="Exit status: 0 fine, 1 refused, 2 configuration, 3 storage, 4 identity conflict.",
    )
    parser.add_argument("--version", action="version", version=f"timeproto {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"timeproto.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. What an operator can mend is told in one sentence, without a traceback."""
    terminal.prepare()
    try:
        try:
            arguments = build_parser().parse_args(argv)
            status: int = arguments.run(arguments)
        finally:
            terminal.finish()
    except tuple(kind for kind, _ in _STATUSES) as error:
        terminal.warn(_sentence(error))
        return next(status for kind, status in _STATUSES if isinstance(error, kind))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        terminal.let_go()  # whoever read our output (head, less) has seen enough
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        terminal.let_go()
        what = "standard output" if error.filename is None else error.filename
        terminal.warn(f"{what} cannot be written: {error.strerror}")
        return ExitStatus.STORAGE
    return status


def _sentence(error: Exception) -> str:
    """What happened, in one line."""
    text = f"{error.message} ({error.code})" if isinstance(error, Refusal) else str(error)
    return " ".join(text.split())
