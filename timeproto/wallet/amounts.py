"""Amounts: decimal TIME on the screen, integers of the smallest unit everywhere else. No floats anywhere."""

from __future__ import annotations

import re

from timeproto.errors import ConfigurationError
from timeproto.params import COIN, MAX_AMOUNT

_DECIMALS = 8
_AMOUNT = re.compile(r"\A([0-9]{1,12})(?:\.([0-9]{1,8}))?\Z")


def parse_amount(text: str) -> int:
    """``"1.5"`` → 150000000. Digits with at most eight decimals, and nothing else."""
    match = _AMOUNT.match(text)
    if match is None:
        raise ConfigurationError(f"{text[:40]!r} is not an amount: digits, and at most {_DECIMALS} decimals, as in 1.5")
    units = int(match[1]) * COIN + int((match[2] or "").ljust(_DECIMALS, "0"))
    if units > MAX_AMOUNT:
        raise ConfigurationError(f"{text} TIME is more than there can be")
    return units


def format_amount(units: int) -> str:
    """150000000 → ``"1.5"``; the shortest form that :func:`parse_amount` reads back as the same."""
    whole, rest = divmod(units, COIN)
    return f"{whole}.{rest:0{_DECIMALS}}".rstrip("0").rstrip(".")
