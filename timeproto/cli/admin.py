"""``timeproto admin``: what an operator asks of his running node, and does to it, over its socket."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timeproto import limits
from timeproto.cli.paths import expanded
from timeproto.cli.terminal import say, warn
from timeproto.errors import ConfigurationError, ExitStatus, StorageError

PATIENCE = 10.0
"""Seconds for the whole answer."""
MOST = 1_000
"""Connections that one answer lists (masternode.desk.ROWS)."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "admin",
        help="ask your running node, and tell it what to do",
        description="Speaks to a node that runs on this machine, over the socket in its data directory, which opens for"
        " the node's own user and for root. What it changes is in the node's log.",
        epilog="Exit status: 0 done, 1 the node refused, 2 there is no such node or it may not be asked.",
    )
    _add_options(parser, may_be_absent=False)
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(title="what", metavar="WHAT", dest="what", required=True)

    def add(name: str, words: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=words)
        _add_options(action, may_be_absent=True)
        return action

    add("bans", "masternodes that did what they must have known to be wrong, and who is shut out")
    unban = add("unban", "forget what a masternode did, and let it in again")
    unban.add_argument("key", type=_key, metavar="KEY", help="the masternode's key")
    add("keys", "the keys that wallets pay by")
    mint = add("mint", "make a key for a wallet with a quota of its own, and show it once")
    mint.add_argument("name", type=_name, metavar="NAME", help="what to call it: letters, digits, and any of _ . : -")
    mint.add_argument(
        "--cost-per-second", type=_number(limits.KEY_COST_PER_SECOND), required=True, metavar="N",
        help="what it may spend; a connection without a key has 4000 (docs/wallet-protocol.md, Limits)",
    )  # fmt: skip
    revoke = add("revoke", "make a key worthless, at once")
    revoke.add_argument("name", type=_name, metavar="NAME")
    connections = add("connections", "who is connected, and what they ask")
    connections.add_argument(
        "--most", type=_number(MOST), default=20, metavar="N", help="those that asked most (default 20)"
    )


def _add_options(parser: argparse.ArgumentParser, *, may_be_absent: bool) -> None:
    """On both sides of WHAT. Behind it an option that is not given leaves the one before it as it is."""

    def add(name: str, default: Any, **more: Any) -> None:
        parser.add_argument(name, default=argparse.SUPPRESS if may_be_absent else default, **more)

    add("--datadir", None, type=Path, metavar="DIR", help="default: ~/.local/share/timeproto/node")
    add("--json", False, action="store_true", help="print the node's answer as JSON")


def _key(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"{text[:70]!r} is no masternode's key: 64 characters of lower-case hex")
    return text


def _name(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_.:-]{1,64}", text):
        raise argparse.ArgumentTypeError(
            f"{text[:70]!r} cannot be a name: 1 to 64 letters, digits, and any of _ . : -"
        )
    return text


def _number(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,12}", text) or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text[:70]!r} is no number from 1 to {most}")
        return int(text)

    return number


def run(arguments: argparse.Namespace) -> int:
    import msgspec

    from timeproto.masternode import desk
    from timeproto.masternode.config import default_datadir

    fields = {"unban": ("key",), "mint": ("name", "cost_per_second"), "revoke": ("name",), "connections": ("most",)}
    given = {name: getattr(arguments, name) for name in fields.get(arguments.what, ())}
    question: desk.AnyQuestion = msgspec.convert({"do": arguments.what, **given}, desk.AnyQuestion)
    answer = ask(expanded(arguments.datadir or default_datadir()).absolute(), question)
    try:
        if arguments.json:
            say(json.dumps(msgspec.to_builtins(answer)))
        elif answer.error is not None:
            warn(answer.error)
        else:
            say(*tell(answer))
    except (BrokenPipeError, StorageError):
        if answer.secret is not None:
            warn(f"the key {arguments.name} was made and nobody has seen its secret: revoke it, and make another")
        raise
    return ExitStatus.OK if answer.error is None else ExitStatus.REFUSED


def ask(folder: Path, question: Any) -> Any:
    """The node's answer; :class:`ConfigurationError` if none can be had."""
    import socket

    import msgspec

    from timeproto.masternode.admin import Door
    from timeproto.masternode.desk import Answer

    if not folder.is_dir():
        raise ConfigurationError(f"there is no data directory {folder}")
    door = Door(folder)
    until = time.monotonic() + PATIENCE
    text = b""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE)
            line.connect(door.path)
            line.sendall(msgspec.json.encode(question) + b"\n")
            while not text.endswith(b"\n") and time.monotonic() < until:
                piece = line.recv(65_536)
                if not piece:
                    break
                text += piece
        return msgspec.json.decode(text, type=Answer)
    except (FileNotFoundError, ConnectionRefusedError):
        raise ConfigurationError(f"no node that takes commands runs in {folder}") from None
    except PermissionError:
        raise ConfigurationError(f"the node in {folder} is another user's") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the node in {folder} does not answer as it should: {error}") from None
    finally:
        door.close()


def tell(answer: Any) -> list[str]:
    """The answer in lines for people."""
    if answer.secret is not None:
        return [answer.secret, "This is the key. It is shown once and kept nowhere: hand it over on a safe way."]
    if answer.bans is not None:
        return _bans(answer.bans) or ["No masternode has a record."]
    if answer.keys is not None:
        return _keys(answer.keys) or ["No key was given out."]
    if answer.crowd is not None:
        return _crowd(answer.crowd)
    return [answer.done or "Done."]


def _bans(rows: Any) -> list[str]:
    return [
        f"{each.key}  " + (f"shut out for {each.left_ms / 1000:.0f} s" if each.left_ms else f"{each.points} points")
        for each in rows
    ]


def _keys(rows: Any) -> list[str]:
    return [
        f"{each.name:<24} {each.cost_per_second:>9} a second, {each.connections} connected,"
        f" made {time.strftime('%Y-%m-%d', time.gmtime(each.minted_at / 1000))}"
        for each in rows
    ]


def _crowd(crowd: Any) -> list[str]:
    lines = [
        f"{crowd.total} connections; {crowd.refused} requests refused and {crowd.sent_away} connections sent away"
        " for what they cost, since the start"
    ]
    if crowd.speed_permille < 1000:
        lines.append(f"All together ask too much: each has {crowd.speed_permille / 10:.1f} % of its share.")
    for each in crowd.connections:
        held = f", held back {each.hold_ms / 1000:.1f} s" if each.hold_ms else ""
        key = f", key {each.key}" if each.key else ""
        spent = f"spent {each.spent:>9}, left {each.left}"
        lines.append(f"{each.host:<40} {each.way}  {each.since_ms / 1000:>8.0f} s  {spent}{key}{held}")
    return lines
