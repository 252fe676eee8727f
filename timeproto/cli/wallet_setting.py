"""What the wallet commands share: their options, the file, a node, and a connection to it."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from timeproto.cli.paths import expanded, read_text
from timeproto.cli.terminal import complain, warn
from timeproto.errors import ConfigurationError, ErrorCode, ExitStatus, Refusal, StorageError

DEFAULT_NODE = "127.0.0.1:24100"
PASSWORD_VARIABLE = "TIMEPROTO_WALLET_PASSWORD"  # noqa: S105  (the name of it, not the password)
PATIENCE = 20.0
"""Seconds to reach a node before a command gives up."""
LEAVING = 5.0
"""Seconds in which a wallet has left a node that lies, though it has just left another."""
_STRANGERS = (ErrorCode.BAD_HANDSHAKE, ErrorCode.WRONG_VERSION, ErrorCode.WRONG_NETWORK, ErrorCode.WRONG_GENESIS)
"""What a node refuses that will do so for ever."""


def add_options(parser: argparse.ArgumentParser, *, may_be_absent: bool) -> None:
    """What every command takes. Behind the command an option that is not given leaves the one before it as it is."""

    def add(*names: str, default: Any = None, **more: Any) -> None:
        parser.add_argument(*names, default=argparse.SUPPRESS if may_be_absent else default, **more)

    file = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "timeproto" / "wallet.json"
    add("--wallet", type=Path, default=file, metavar="FILE", help=f"wallet file (default {file})")
    add(
        "--node",
        action="append",
        metavar="HOST:PORT",
        help=f"a node to talk to; more than one: the next is tried when one fails, or asked as well (default"
        f" {DEFAULT_NODE})",
    )
    add("--node-key", metavar="HEX", help="the key the node must prove (default: any masternode's)")
    add("--access-key-file", type=Path, metavar="FILE", help="a key from the node's operator, whose quota pays")
    add("--tls", action="store_true", default=False, help="speak TLS; the node proves its masternode key on it")
    add("--ca", type=Path, metavar="FILE", help="speak TLS; the node's name must be signed by this CA")
    add("--password-file", type=Path, metavar="FILE", help=f"read the password here (or from ${PASSWORD_VARIABLE})")


def nodes_of(arguments: argparse.Namespace) -> list[Any]:
    from timeproto.model.canonical import is_hex
    from timeproto.wallet.nodes import Node

    key = arguments.node_key
    if key is not None and not is_hex(key, 32):
        raise ConfigurationError(f"--node-key {key[:70]!r} is not a node's key: 64 characters of lower-case hex")
    tls = arguments.tls or arguments.ca is not None
    access = None
    if arguments.access_key_file is not None:
        access = read_text(arguments.access_key_file, "access key").strip()
        if not is_hex(access, 32):
            raise ConfigurationError(f"{arguments.access_key_file} holds no access key: 64 characters of hex")
    if arguments.ca is not None:
        _check_ca(arguments.ca)
    return [
        Node(address, key=key, tls=tls, ca=arguments.ca, access_key=access)
        for address in arguments.node or [DEFAULT_NODE]
    ]


def _check_ca(path: Path) -> None:
    """:class:`ConfigurationError` if the file holds no certificate. One that cannot be read is named later."""
    from OpenSSL.crypto import Error
    from twisted.internet.ssl import Certificate

    with suppress(OSError):
        try:
            Certificate.loadPEM(path.read_bytes())
        except Error:
            raise ConfigurationError(f"the CA certificate {path} cannot be used: it is not PEM") from None


def password_of(arguments: argparse.Namespace, *, twice: bool = False) -> str:
    if arguments.password_file is not None:
        return read_text(arguments.password_file, "password").rstrip("\r\n")
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is not None:
        return _text(given, f"the password in {PASSWORD_VARIABLE}")
    if not sys.stdin.isatty():
        raise ConfigurationError(f"no password: give --password-file or set {PASSWORD_VARIABLE}")
    password = _typed("Password of the wallet: ", "password")
    if twice and _typed("The same again: ", "password") != password:
        raise ConfigurationError("the two passwords are not the same")
    return password


def phrase_of(arguments: argparse.Namespace) -> str:
    """The phrase as it was given, from its file, the terminal, or standard input."""
    if arguments.phrase_file is not None:
        return read_text(arguments.phrase_file, "phrase")
    if sys.stdin.isatty():
        return _typed("Phrase (not shown): ", "phrase")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise ConfigurationError("the phrase on standard input is not text") from None


def _typed(prompt: str, what: str) -> str:
    """What somebody types, unseen."""
    try:
        return _text(getpass.getpass(prompt), f"the {what}")
    except EOFError:
        complain("")  # the prompt's line has no end yet
        raise ConfigurationError(f"no {what} was typed") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"the {what} is not text") from None


def _text(given: str, what: str) -> str:
    """``given`` itself, unless it stands for bytes that are no text: no key can be made of those."""
    try:
        given.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigurationError(f"{what} is not text") from None
    return given


def txid_of(arguments: argparse.Namespace) -> str:
    from timeproto.model.canonical import is_hex

    txid: str = arguments.txid
    if not is_hex(txid, 32):
        raise ConfigurationError(f"{txid!r} is not a txid: 64 characters of lower-case hex")
    return txid


def open_wallet(arguments: argparse.Namespace) -> Any:
    from timeproto.wallet.keystore import WalletFile

    path = expanded(arguments.wallet)
    if not os.path.lexists(path):
        raise ConfigurationError(f"there is no wallet {path}: make one with 'timeproto wallet new'")
    return WalletFile.open(path, password_of(arguments))


def run_wallet(main: Callable[[Any], Awaitable[int]]) -> int:
    """Runs ``main(reactor)``. A node that went away, or that cannot prove what it says, is a sentence and a status."""
    from timeproto.cli.running import run_until_done
    from timeproto.network.requests import ConnectionGone
    from timeproto.wallet.belief import Lie

    try:
        return run_until_done(main)
    except ConnectionGone as error:
        warn(str(error))
    except Lie as lie:
        warn(f"the node says what it cannot prove ({lie}): ask another one")
    return ExitStatus.REFUSED


def with_account(command: Callable[[Any, Any, argparse.Namespace], Awaitable[int]]) -> Callable[[Any], int]:
    """Opens the wallet, connects, reads the coins, and runs ``command(reactor, account, arguments)``."""

    def run(arguments: argparse.Namespace) -> int:
        from timeproto.wallet.account import Account
        from timeproto.wallet.client import WalletClient

        nodes = nodes_of(arguments)
        purse = open_wallet(arguments)

        async def main(reactor: Any) -> int:
            client = WalletClient(reactor, purse.genesis, nodes)
            client.startService()
            try:
                await connected(reactor, client)
                account = Account(purse, client, now=lambda: int(time.time()))
                with warnings_told():
                    await at_any_node(reactor, client, account.open)
                    refusal = None if client.connection is None else client.connection.key_refusal
                    if refusal is not None:
                        warn(f"{client.node} does not take the access key, and serves this wallet as any: {refusal}")
                    lies = client.belief.lies
                    if lies and client.has_one_node:  # of several they may be another's, who is named as it is left
                        warn(f"{lies} things that {client.node} said are not proven: they are not counted")
                    return await command(reactor, account, arguments)
            finally:
                await client.stopService()

        try:
            return run_wallet(main)
        except (KeyboardInterrupt, BrokenPipeError, StorageError):
            if purse.pending:
                warn(
                    f"{len(purse.pending)} of this wallet's payments are not decided yet: they are kept in the wallet"
                    " file, and the next command sends them again"
                )
            raise

    return run


@contextmanager
def warnings_told() -> Iterator[None]:
    """What the wallet warns of is told: whoever waits is to know that a node refuses, or is left, and why."""
    from twisted.logger import FilteringLogObserver, LogLevel, LogLevelFilterPredicate, formatEvent, globalLogPublisher

    def tell(event: Any) -> None:
        if event["log_namespace"].startswith("timeproto.wallet"):
            warn(formatEvent(event))

    listener: Any = tell
    observer = FilteringLogObserver(listener, [LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)])
    globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)


async def connected(reactor: Any, client: Any) -> None:
    """Returns when a node is there; a refusal saying why not after ``PATIENCE`` seconds, or as soon as the only node is
    not one of this network."""
    from twisted.internet.defer import CancelledError
    from twisted.internet.defer import TimeoutError as DeferredTimeoutError
    from twisted.internet.task import LoopingCall

    waiting = client.when_connected()

    def is_hopeless() -> bool:
        refusal = client.last_refusal
        return client.has_one_node and isinstance(refusal, Refusal) and refusal.code in _STRANGERS

    looking = LoopingCall(lambda: waiting.cancel() if is_hopeless() else None)
    looking.clock = reactor
    looking.start(0.1, now=False)
    try:
        await waiting.addTimeout(PATIENCE, reactor)
    except CancelledError:
        if is_hopeless():
            raise client.last_refusal from None
        raise  # whoever waits calls it off
    except DeferredTimeoutError:
        reasons = [f"{address}: {why}" for address, why in client.unreached.items()]
        reasons += [] if client.last_refusal is None else [f"{client.node}: {client.last_refusal}"]
        why = f" ({'; '.join(reasons)})" if reasons else ""
        raise Refusal(ErrorCode.TIMEOUT, f"no node could be reached within {PATIENCE:g} s{why}") from None
    finally:
        looking.stop()


async def at_any_node(reactor: Any, client: Any, work: Callable[[], Awaitable[Any]]) -> Any:
    """What ``work()`` gives. If the node of the moment lies or goes away it is begun again at the next one, and in all
    not more often than there are nodes."""
    from twisted.internet.task import deferLater

    from timeproto.network.requests import ConnectionGone
    from timeproto.wallet.belief import Lie

    for left in reversed(range(len(client.nodes))):
        node = client.connection
        try:
            return await work()
        except (ConnectionGone, Lie) as error:
            if not left:
                raise
            if isinstance(error, Lie):
                client.troubled(error)
            if node is not None:
                with suppress(ConnectionGone):  # who lies may not be left at once
                    await node.pause(LEAVING)
            await deferLater(reactor, 0)  # who asked hears of its going before the client does
            await connected(reactor, client)
    raise AssertionError("there is always a node to ask")


async def at_the_first(
    reactor: Any, arguments: argparse.Namespace, genesis: Any, work: Callable[[Any], Awaitable[Any]]
) -> Any:
    """What ``work(belief)`` gives at the first node where it gives anything: what one does not know another may. If it
    gives nothing at any, that is for the reason that was given first, by a node that could be asked if there is one."""
    from timeproto.network.requests import ConnectionGone
    from timeproto.wallet.ask import ask
    from timeproto.wallet.belief import Aborted, Belief, Lie

    reasons: list[Exception] = []
    for node in nodes_of(arguments):
        try:
            return await work(Belief(genesis, partial(ask, reactor, node, genesis=genesis)))
        except Aborted:
            raise  # proven
        except (ConnectionGone, Refusal, Lie) as why:
            reasons.append(why)
    raise next((why for why in reasons if not isinstance(why, ConnectionGone)), reasons[0])


async def ask_any(reactor: Any, arguments: argparse.Namespace, question: Any) -> Any:
    """(node, reply) of the first node that answers; ``ConnectionGone`` with the last one's reason if none does."""
    from timeproto.network.requests import ConnectionGone
    from timeproto.wallet.ask import ask

    nodes = nodes_of(arguments)
    for node in nodes:
        try:
            return node, await ask(reactor, node, question)
        except ConnectionGone:
            if node is nodes[-1]:
                raise
    raise AssertionError("there is always a node to ask")
