"""Messages that are nearly right: a good one, with its JSON changed in a few places that hurt, or its bytes."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]


class Raw(str):
    """JSON text that is written as it stands."""


class Twice(dict[str, Any]):
    """An object whose last key is written a second time."""


def _nested(depth: int) -> Any:
    value: Any = 0
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**32, 2**53 - 1, 2**53, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1,
    10**400, Raw("1.0"), Raw("-0"), Raw("1e999"), Raw("NaN"), Raw("Infinity"), Raw("0x1"), Raw("01"), Raw(""), Raw("'"),
    "", " ", "0", "a" * 65, "a" * 5_000, "0" * 64, "F" * 64, "ab" * 32, "ab" * 31, "ab" * 64, "\x00", "é", "\u202e",
    "\ud800", "\U0001f4a9" * 20, "%s", "TIME01", "TIME1" + "1" * 33, "ab" * 32 + ":0", "ab" * 32 + ":4294967296",
    Raw('"\\ud800"'), Raw('"\\u0000"'), Raw('"\\x"'), Raw('"\\'), [], {}, [[]], [None], [0] * 32, [0] * 33, [256] * 32,
    [0] * 1_001, ["ab" * 32] * 501, [{}] * 3, {"": 0}, {"type": "Ping"}, {"id": 1}, _nested(14), _nested(17),
    Raw("[" * 40_000), Raw('{"a":' * 5_000), Raw('"' + "x" * 70_000 + '"'),
)  # fmt: skip
"""What stands in a message where something else should."""


def paths(value: Any, at: Path = ()) -> list[Path]:
    """Where anything stands in a JSON value; of a long list only its ends."""
    found = [at]
    if isinstance(value, dict):
        for name in value:
            found += paths(value[name], (*at, name))
    elif isinstance(value, list):
        for number in dict.fromkeys((*range(len(value))[:2], *range(len(value))[-1:])):
            found += paths(value[number], (*at, number))
    return found


def _get(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _mutate(chance: random.Random, whole: dict[str, Any]) -> dict[str, Any]:
    """One change, anywhere but to the whole."""
    places = [each for each in paths(whole) if each]
    if not places:
        return whole
    path = chance.choice(places)
    parent, last = _get(whole, path[:-1]), path[-1]
    here = parent[last]
    match chance.randrange(8):
        case 0 | 1:
            parent[last] = deepcopy(chance.choice(NASTY))
        case 2:
            del parent[last]
        case 3:
            parent[last] = deepcopy(_get(whole, chance.choice(places)))  # something of the same message
        case 4 if isinstance(parent, dict):
            parent[chance.choice(("x", "id", "type", "txid", "é", ""))] = deepcopy(chance.choice(NASTY))
        case 5 if isinstance(here, list) and here:
            parent[last] = here * chance.choice((2, 3, 300)) if chance.random() < 0.5 else here[: len(here) // 2]
        case 6 if isinstance(here, int) and not isinstance(here, bool):
            parent[last] = here + chance.choice((-1, 1, 2**32, -here))
        case 6 if isinstance(here, str) and here:
            at = chance.randrange(len(here))
            parent[last] = here[:at] + chance.choice(("", "0", "f", "F", "\x00", "é", here)) + here[at + 1 :]
        case 7 if isinstance(here, dict) and here:
            parent[last] = Twice(here)
    return whole


def render(value: Any, *, ascii_: bool, space: str = "") -> str:
    """JSON, and what is none."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        items = [f"{json.dumps(name, ensure_ascii=ascii_)}:{space}{render(each, ascii_=ascii_, space=space)}"
                 for name, each in value.items()]  # fmt: skip
        return "{" + f",{space}".join(items + items[-1:] if isinstance(value, Twice) else items) + "}"
    if isinstance(value, list):
        return "[" + f",{space}".join(render(each, ascii_=ascii_, space=space) for each in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_)


_SPLINTERS = (b"\xff", b"\xef\xbb\xbf", b"\x00", b'"', b"\\", b"}", b"\xed\xa0\x80")


def _bytes(chance: random.Random, payload: bytes) -> bytes:
    at = chance.randrange(len(payload) + 1)
    match chance.randrange(5):
        case 0:
            return payload[:at]
        case 1:
            return payload[:at] + bytes([chance.randrange(256)]) + payload[at:]
        case 2:
            return payload[:at] + bytes([chance.randrange(256)]) + payload[at + 1 :]
        case 3:
            return payload + payload
    return payload[:at] + chance.choice(_SPLINTERS) + payload[at:]


def mutate(chance: random.Random, message: dict[str, Any]) -> bytes:
    """Up to four changes to the value, and now and then one to the bytes; ``message`` itself is left as it is."""
    whole = json.loads(json.dumps(message))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4))):
        whole = _mutate(chance, whole)
    text = render(whole, ascii_=chance.random() < 0.5, space=chance.choice(("", "", " ", "\r\n\t")))
    payload = text.encode("utf-8", "surrogatepass")
    return _bytes(chance, payload) if chance.random() < 0.15 else payload


def chances() -> st.SearchStrategy[random.Random]:
    """A chance that a failure can be had again with."""
    return st.integers(0, 2**63).map(random.Random)
