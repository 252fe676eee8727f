"""Paths and texts that a user gives: what cannot be used is said in one sentence."""

from __future__ import annotations

from pathlib import Path

from timeproto.errors import ConfigurationError


def expanded(path: Path) -> Path:
    """``path`` with a home directory in place of its ``~``."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigurationError(f"the path {path} leads nowhere: {path.parts[0]} is nobody's home directory") from None


def read_text(path: Path, what: str) -> str:
    """What stands in a file of UTF-8; ``what`` names it in the sentence that says why it cannot be read."""
    try:
        return expanded(path).read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"the {what} file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"the {what} file {path} is not text") from None
