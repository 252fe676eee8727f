"""``timeproto wallet``: keys in a file, coins on the network, every proof checked here."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from timeproto.cli.wallet_text import (
    tell_balance,
    tell_change,
    tell_new,
    tell_proof,
    tell_restored,
    tell_sending,
    tell_sent,
    warn,
)
from timeproto.errors import ConfigurationError, ErrorCode, ExitStatus, Refusal, StorageError

DEFAULT_NODE = "127.0.0.1:24100"
PASSWORD_VARIABLE = "TIMEPROTO_WALLET_PASSWORD"  # noqa: S105  (the name of it, not the password)
PATIENCE = 20.0
"""Seconds to reach a node before a command gives up."""

Command = Callable[[Any, argparse.Namespace], Awaitable[int]]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "wallet",
        help="keep keys, see coins, pay",
        description="A wallet in one encrypted file. It believes no node: what is final is proven to it.",
        epilog="The options may stand before or after the command. Amounts are decimal TIME on the screen and integers"
        " of the smallest unit in JSON. Exit status: 0 fine, 1 refused, 2 configuration, 3 storage.",
    )
    _add_options(parser, may_be_absent=False)
    shared = argparse.ArgumentParser(add_help=False)
    _add_options(shared, may_be_absent=True)
    commands = parser.add_subparsers(title="wallet commands", metavar="COMMAND", required=True)

    def add(name: str, says: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=says, description=f"{says[0].upper()}{says[1:]}.", parents=[shared])
        command.add_argument("--json", action="store_true", help="print JSON")
        command.set_defaults(run=_COMMANDS[name])
        return command

    new = add("new", "make a new wallet and show its phrase, once")
    new.add_argument("--words", type=int, choices=(12, 24), default=12, help="length of the phrase (default 12)")
    restore = add("restore", "make a wallet from a phrase and find its addresses")
    restore.add_argument("--phrase-file", type=Path, metavar="FILE", help="read the phrase here (default: ask)")
    for making in (new, restore):
        making.add_argument(
            "--genesis", type=Path, metavar="FILE", help="the network's genesis (default: ask the node)"
        )
    add("address", "show a fresh address to be paid at")
    add("balance", "show what there is")
    send = add("send", "pay, and wait for the proof that it is final")
    send.add_argument("address", metavar="ADDRESS")
    send.add_argument("amount", metavar="AMOUNT", help="decimal TIME, such as 1.5")
    watch = add("watch", "tell every change of this wallet's coins as it happens, beginning with their states now")
    watch.add_argument("--count", type=_count, metavar="N", help="stop after N lines (default: at Ctrl-C)")
    proof = add("proof", "fetch a transaction's finality proof and verify it")
    proof.add_argument("txid", metavar="TXID")
    proof.add_argument("--out", type=Path, metavar="FILE", help="keep the proof here")


def _add_options(parser: argparse.ArgumentParser, *, may_be_absent: bool) -> None:
    """What every command takes. Behind the command an option that is not given leaves the one before it as it is."""

    def add(*names: str, default: Any = None, **more: Any) -> None:
        parser.add_argument(*names, default=argparse.SUPPRESS if may_be_absent else default, **more)

    file = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "timeproto" / "wallet.json"
    add("--wallet", type=Path, default=file, metavar="FILE", help=f"wallet file (default {file})")
    add(
        "--node",
        action="append",
        metavar="HOST:PORT",
        help=f"a node to talk to; more than one: the next is tried when one fails (default {DEFAULT_NODE})",
    )
    add("--node-key", metavar="HEX", help="the key the node must prove (default: any masternode's)")
    add("--tls", action="store_true", default=False, help="speak TLS; the node proves its masternode key on it")
    add("--ca", type=Path, metavar="FILE", help="speak TLS; the node's name must be signed by this CA")
    add("--password-file", type=Path, metavar="FILE", help=f"read the password here (or from ${PASSWORD_VARIABLE})")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


# -- what the commands share -------------------------------------------------------------------------


def _nodes(arguments: argparse.Namespace) -> list[Any]:
    from timeproto.model.canonical import is_hex
    from timeproto.wallet.nodes import Node

    key = arguments.node_key
    if key is not None and not is_hex(key, 32):
        raise ConfigurationError(f"--node-key {key[:70]!r} is not a node's key: 64 characters of lower-case hex")
    tls = arguments.tls or arguments.ca is not None
    return [Node(address, key=key, tls=tls, ca=arguments.ca) for address in arguments.node or [DEFAULT_NODE]]


def _password(arguments: argparse.Namespace, *, twice: bool = False) -> str:
    if arguments.password_file is not None:
        return _read(arguments.password_file, "password").rstrip("\r\n")
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise ConfigurationError(f"no password: give --password-file or set {PASSWORD_VARIABLE}")
    password = getpass.getpass("Password of the wallet: ")
    if twice and getpass.getpass("The same again: ") != password:
        raise ConfigurationError("the two passwords are not the same")
    return password


def _read(path: Path, what: str) -> str:
    try:
        return path.expanduser().read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"the {what} file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"the {what} file {path} is not text") from None


def _open(arguments: argparse.Namespace) -> Any:
    from timeproto.wallet.keystore import WalletFile

    path = arguments.wallet.expanduser()
    if not os.path.lexists(path):
        raise ConfigurationError(f"there is no wallet {path}: make one with 'timeproto wallet new'")
    return WalletFile.open(path, _password(arguments))


def _run(main: Callable[[Any], Awaitable[int]]) -> int:
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


def _with_account(command: Callable[[Any, Any, argparse.Namespace], Awaitable[int]]) -> Callable[[Any], int]:
    """Opens the wallet, connects, reads the coins, and runs ``command(reactor, account, arguments)``."""

    def run(arguments: argparse.Namespace) -> int:
        from timeproto.wallet.account import Account
        from timeproto.wallet.client import WalletClient

        nodes = _nodes(arguments)
        purse = _open(arguments)

        async def main(reactor: Any) -> int:
            client = WalletClient(reactor, purse.genesis, nodes)
            client.startService()
            try:
                await _connected(reactor, client)
                account = Account(purse, client, now=lambda: int(time.time()))
                await account.open()
                if client.belief.lies:
                    warn(f"{client.belief.lies} things that {client.node} said are not proven: they are not counted")
                return await command(reactor, account, arguments)
            finally:
                await client.stopService()

        try:
            return _run(main)
        except KeyboardInterrupt:
            if purse.pending:
                warn(
                    f"{len(purse.pending)} of this wallet's payments are not decided yet: they are kept in the wallet"
                    " file, and the next command sends them again"
                )
            raise

    return run


async def _connected(reactor: Any, client: Any) -> None:
    """Returns when a node is there; a refusal saying why not after ``PATIENCE`` seconds."""
    from twisted.internet.defer import CancelledError
    from twisted.internet.defer import TimeoutError as DeferredTimeoutError

    waiting = client.when_connected()
    try:
        await waiting.addTimeout(PATIENCE, reactor)
    except (DeferredTimeoutError, CancelledError):
        why = f": {client.last_refusal}" if client.last_refusal is not None else ""
        raise Refusal(ErrorCode.TIMEOUT, f"no node could be reached within {PATIENCE:g} s{why}") from None


async def _ask_any(reactor: Any, arguments: argparse.Namespace, question: Any, genesis: Any = None) -> Any:
    """(node, reply) of the first node that answers; ``ConnectionGone`` with the last one's reason if none does."""
    from timeproto.network.requests import ConnectionGone
    from timeproto.wallet.ask import ask

    nodes = _nodes(arguments)
    for node in nodes:
        try:
            return node, await ask(reactor, node, question, genesis)
        except ConnectionGone:
            if node is nodes[-1]:
                raise
    raise AssertionError("there is always a node to ask")


# -- the commands ------------------------------------------------------------------------------------


def _new(arguments: argparse.Namespace) -> int:
    from timeproto.wallet import hd
    from timeproto.wallet.keystore import WalletFile

    path, password = _place(arguments)

    async def main(reactor: Any) -> int:
        genesis = await _genesis(reactor, arguments)
        phrase = hd.generate_phrase(arguments.words)
        WalletFile.create(path, phrase, password, genesis, receive=1)
        address = hd.address(hd.derive(phrase), genesis.params)
        tell_new(path, phrase, address, genesis.hash, as_json=arguments.json)
        return ExitStatus.OK

    return _run(main)


def _restore(arguments: argparse.Namespace) -> int:
    from timeproto.wallet import hd
    from timeproto.wallet.account import Account
    from timeproto.wallet.client import WalletClient
    from timeproto.wallet.keystore import WalletFile
    from timeproto.wallet.purse import MemoryPurse

    if arguments.phrase_file is not None:
        phrase = _read(arguments.phrase_file, "phrase")
    elif sys.stdin.isatty():
        phrase = getpass.getpass("Phrase (not shown): ")
    else:
        phrase = sys.stdin.read()
    phrase = hd.check_phrase(phrase)
    path, password = _place(arguments)

    async def main(reactor: Any) -> int:
        genesis = await _genesis(reactor, arguments)
        client = WalletClient(reactor, genesis, _nodes(arguments))
        client.startService()
        try:
            await _connected(reactor, client)
            # No file before all is found: half a wallet would show half the money.
            purse = MemoryPurse(phrase, receive_index=0)
            account = Account(purse, client, now=lambda: int(time.time()))
            used = await account.restore()
            await account.open()
        finally:
            await client.stopService()
        receive = max(1, purse.receive_index)
        WalletFile.create(path, phrase, password, genesis, receive=receive, change=purse.change_index)
        tell_restored(path, used, account.balance().total, as_json=arguments.json)
        return ExitStatus.OK

    return _run(main)


def _place(arguments: argparse.Namespace) -> tuple[Path, str]:
    """Where the new wallet will be, and its password; the folder is made."""
    path: Path = arguments.wallet.expanduser()
    if os.path.lexists(path):
        raise ConfigurationError(f"there is a wallet {path} already: move it away, or give --wallet another name")
    password = _password(arguments, twice=True)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the folder {path.parent} cannot be made: {error.strerror}") from None
    return path, password


async def _genesis(reactor: Any, arguments: argparse.Namespace) -> Any:
    from timeproto.network.requests import ConnectionGone
    from timeproto.wire import codec, messages

    if arguments.genesis is not None:
        return codec.load_genesis(_read(arguments.genesis, "genesis").encode("utf-8"), str(arguments.genesis))
    try:
        node, document = await _ask_any(reactor, arguments, messages.GetGenesis())
    except ConnectionGone as error:
        raise ConfigurationError(f"no node tells the genesis ({error}): give --genesis FILE") from None
    genesis = document.genesis.check()
    print(
        f"Trusting genesis {genesis.hash} as told by {node.address}: compare it with a source you trust.",
        file=sys.stderr,
    )
    return genesis


async def _address(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    from timeproto.wallet.account import GAP_LIMIT

    if await account.unpaid_addresses() >= GAP_LIMIT:
        warn(f"the last {GAP_LIMIT} addresses were never paid: a restore from the phrase would not look beyond them")
    address = account.new_address()
    print(json.dumps({"address": address}) if arguments.json else address)
    return ExitStatus.OK


async def _balance(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    tell_balance(account.balance(), as_json=arguments.json)
    return ExitStatus.OK


async def _send(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    from timeproto.wallet.amounts import parse_amount
    from timeproto.wallet.coins import InsufficientFunds

    amount = parse_amount(arguments.amount)
    try:
        payment = account.send(arguments.address, amount)
    except InsufficientFunds as poor:
        warn(str(poor))
        return ExitStatus.REFUSED
    if not arguments.json:
        tell_sending(payment, arguments.address, amount)
    await payment.when_final()
    tell_sent(payment, amount, account.client.genesis.masternode_set.quorum, as_json=arguments.json)
    return ExitStatus.OK


async def _watch(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    from twisted.internet.defer import Deferred

    done: Deferred[None] = Deferred()
    told = 0

    def tell(change: Any) -> None:
        nonlocal told
        if told == arguments.count:
            return
        tell_change(change, as_json=arguments.json)
        told += 1
        if told == arguments.count:
            done.callback(None)

    await account.client.watch(tell, addresses=account.addresses)
    await done
    return ExitStatus.OK


def _proof(arguments: argparse.Namespace) -> int:
    from timeproto.model.canonical import is_hex
    from timeproto.wallet.belief import Belief
    from timeproto.wire import codec, messages

    if not is_hex(arguments.txid, 32):
        raise ConfigurationError(f"{arguments.txid!r} is not a txid: 64 characters of lower-case hex")
    genesis = _open(arguments).genesis

    async def nothing(question: Any) -> Any:
        raise AssertionError(f"a proof needs no {question}")

    async def main(reactor: Any) -> int:
        _, reply = await _ask_any(reactor, arguments, messages.GetFinalityProof(txid=arguments.txid), genesis)
        proof = Belief(genesis, nothing).check(reply.proofs[0] if reply.proofs else None, arguments.txid)
        if arguments.out is not None:
            try:
                arguments.out.expanduser().write_bytes(codec.dump_document(proof))
            except OSError as error:
                raise StorageError(f"the proof cannot be kept in {arguments.out}: {error.strerror}") from None
        tell_proof(proof, genesis.masternode_set, as_json=arguments.json)
        return ExitStatus.OK

    return _run(main)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "new": _new,
    "restore": _restore,
    "address": _with_account(_address),
    "balance": _with_account(_balance),
    "send": _with_account(_send),
    "watch": _with_account(_watch),
    "proof": _proof,
}
