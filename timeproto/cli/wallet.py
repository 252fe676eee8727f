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

from timeproto.errors import ConfigurationError, ErrorCode, ExitStatus, Refusal

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
        epilog="Exit status: 0 fine, 1 refused, 2 configuration.",
    )
    default = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "timeproto" / "wallet.json"
    parser.add_argument("--wallet", type=Path, default=default, metavar="FILE", help=f"wallet file (default {default})")
    parser.add_argument(
        "--node",
        action="append",
        metavar="HOST:PORT",
        help=f"a node to talk to; more than one: the next is tried when one fails (default {DEFAULT_NODE})",
    )
    parser.add_argument("--node-key", metavar="HEX", help="the key the node must prove (default: any masternode's)")
    parser.add_argument("--tls", action="store_true", help="speak TLS; the node proves its masternode key on it")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="speak TLS; the node's name must be signed by this CA")
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help=f"read the password here (or from ${PASSWORD_VARIABLE})"
    )
    commands = parser.add_subparsers(title="wallet commands", metavar="COMMAND", required=True)

    new = commands.add_parser("new", help="make a new wallet and show its phrase, once")
    new.add_argument("--words", type=int, choices=(12, 24), default=12, help="length of the phrase (default 12)")
    restore = commands.add_parser("restore", help="make a wallet from a phrase and find its addresses")
    restore.add_argument("--phrase-file", type=Path, metavar="FILE", help="read the phrase here (default: ask)")
    for making in (new, restore):
        making.add_argument(
            "--genesis", type=Path, metavar="FILE", help="the network's genesis (default: ask the node)"
        )
    commands.add_parser("address", help="show a fresh address to be paid at")
    commands.add_parser("balance", help="show what there is")
    send = commands.add_parser("send", help="pay, and wait for the proof that it is final")
    send.add_argument("address", metavar="ADDRESS")
    send.add_argument("amount", metavar="AMOUNT", help="decimal TIME, such as 1.5")
    watch = commands.add_parser("watch", help="tell every change of this wallet's coins as it happens")
    watch.add_argument("--count", type=int, metavar="N", help="stop after N changes")
    proof = commands.add_parser("proof", help="fetch a transaction's finality proof and verify it")
    proof.add_argument("txid", metavar="TXID")
    proof.add_argument("--out", type=Path, metavar="FILE", help="keep the proof here")
    for name, command in commands.choices.items():
        command.add_argument("--json", action="store_true", help="print JSON")
        command.set_defaults(run=_COMMANDS[name])


# -- what the commands share -------------------------------------------------------------------------


def _nodes(arguments: argparse.Namespace) -> list[Any]:
    from timeproto.wallet.nodes import Node

    tls = arguments.tls or arguments.ca is not None
    return [
        Node(address, key=arguments.node_key, tls=tls, ca=arguments.ca) for address in arguments.node or [DEFAULT_NODE]
    ]


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
    if not path.exists():
        raise ConfigurationError(f"there is no wallet {path}: make one with 'timeproto wallet new'")
    return WalletFile.open(path, _password(arguments))


def _with_account(command: Callable[[Any, Any, argparse.Namespace], Awaitable[int]]) -> Callable[[Any], int]:
    """Opens the wallet, connects, reads the coins, and runs ``command(reactor, account, arguments)``."""

    def run(arguments: argparse.Namespace) -> int:
        from timeproto.cli.running import run_until_done
        from timeproto.wallet.account import Account
        from timeproto.wallet.client import WalletClient

        purse = _open(arguments)
        nodes = _nodes(arguments)

        async def main(reactor: Any) -> int:
            client = WalletClient(reactor, purse.genesis, nodes)
            client.startService()
            try:
                await _connected(reactor, client)
                account = Account(purse, client, now=lambda: int(time.time()))
                await account.open()
                return await command(reactor, account, arguments)
            finally:
                await client.stopService()

        return run_until_done(main)

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


# -- the commands ------------------------------------------------------------------------------------


def _new(arguments: argparse.Namespace) -> int:
    from timeproto.wallet import hd

    return _make(arguments, hd.generate_phrase(arguments.words), fresh=True)


def _restore(arguments: argparse.Namespace) -> int:
    from timeproto.wallet import hd

    if arguments.phrase_file is not None:
        phrase = _read(arguments.phrase_file, "phrase")
    elif sys.stdin.isatty():
        phrase = getpass.getpass("Phrase (not shown): ")
    else:
        phrase = sys.stdin.read()
    return _make(arguments, hd.check_phrase(phrase), fresh=False)


def _make(arguments: argparse.Namespace, phrase: str, *, fresh: bool) -> int:
    from timeproto.cli.running import run_until_done
    from timeproto.wallet.account import Account
    from timeproto.wallet.client import WalletClient
    from timeproto.wallet.keystore import WalletFile

    path = arguments.wallet.expanduser()
    if path.exists():
        raise ConfigurationError(f"there is a wallet {path} already: move it away, or give --wallet another name")
    password = _password(arguments, twice=True)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def main(reactor: Any) -> int:
        genesis = await _genesis(reactor, arguments)
        purse = WalletFile.create(path, phrase, password, genesis)
        if fresh:
            purse.reserve_receive_index()
            account = Account(purse, WalletClient(reactor, genesis, _nodes(arguments)), now=lambda: 0)
            _tell_new(arguments, path, phrase, account.addresses[0], genesis.hash)
            return ExitStatus.OK
        client = WalletClient(reactor, genesis, _nodes(arguments))
        client.startService()
        try:
            await _connected(reactor, client)
            account = Account(purse, client, now=lambda: int(time.time()))
            used = await account.restore()
            if not account.addresses:
                purse.reserve_receive_index()
            await account.open()
            _tell_restored(arguments, path, used, account.balance())
        finally:
            await client.stopService()
        return ExitStatus.OK

    return run_until_done(main)


async def _genesis(reactor: Any, arguments: argparse.Namespace) -> Any:
    from timeproto.network.requests import ConnectionGone
    from timeproto.wallet.ask import ask
    from timeproto.wire import codec, messages

    if arguments.genesis is not None:
        return codec.load_genesis(_read(arguments.genesis, "genesis").encode("utf-8"), str(arguments.genesis))
    node = _nodes(arguments)[0]
    try:
        document = await ask(reactor, node, messages.GetGenesis())
    except ConnectionGone as error:
        raise ConfigurationError(
            f"the node {node.address} cannot be asked for the genesis ({error}): give --genesis FILE"
        ) from None
    genesis = document.genesis.check()
    print(
        f"Trusting genesis {genesis.hash} as told by {node.address}: compare it with a source you trust.",
        file=sys.stderr,
    )
    return genesis


def _tell_new(arguments: argparse.Namespace, path: Path, phrase: str, address: str, genesis: str) -> None:
    if arguments.json:
        print(json.dumps({"wallet": str(path), "phrase": phrase, "address": address, "genesis": genesis}))
        return
    print(f"Wallet   {path}\nAddress  {address}\nGenesis  {genesis}\n\nWrite these words down, in this order:\n")
    words = phrase.split()
    for start in range(0, len(words), 4):
        print("   " + "".join(f"{start + at + 1:>3} {word:<12}" for at, word in enumerate(words[start : start + 4])))
    print("\nWhoever has them has the money. They are not shown again.")


def _tell_restored(arguments: argparse.Namespace, path: Path, used: int, balance: Any) -> None:
    from timeproto.wallet.amounts import format_amount

    if arguments.json:
        print(json.dumps({"wallet": str(path), "used_addresses": used, "total": balance.total}))
    else:
        print(f"Wallet   {path}\n{used} addresses were used; they hold {format_amount(balance.total)} TIME.")


async def _address(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    address = account.new_address()
    print(json.dumps({"address": address}) if arguments.json else address)
    return ExitStatus.OK


async def _balance(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    from timeproto.wallet.amounts import format_amount

    balance = account.balance()
    rows = {
        "available": balance.available,
        "pending": balance.pending,
        "locked": balance.locked,
        "total": balance.total,
    }
    if arguments.json:
        print(json.dumps(rows))
    else:
        for name, amount in rows.items():
            print(f"{name:<10} {format_amount(amount):>24} TIME")
    return ExitStatus.OK


async def _send(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    from timeproto.wallet.amounts import format_amount, parse_amount
    from timeproto.wallet.coins import InsufficientFunds

    amount = parse_amount(arguments.amount)
    try:
        payment = account.send(arguments.address, amount)
    except InsufficientFunds as poor:
        print(f"timeproto: {poor}", file=sys.stderr)
        return ExitStatus.REFUSED
    if not arguments.json:
        print(f"Paying {format_amount(amount)} TIME to {arguments.address}\n  transaction {payment.txid}")
        payment.on_step(lambda step: print(f"  {step.ms:>8.1f} ms  {step.state}", flush=True))
    proof = await payment.when_final()
    quorum = account.client.genesis.masternode_set.quorum
    if arguments.json:
        steps = [{"state": step.state, "ms": round(step.ms, 3)} for step in payment.history]
        print(
            json.dumps(
                {
                    "txid": payment.txid,
                    "amount": amount,
                    "fee": payment.tx.fee,
                    "steps": steps,
                    "final": True,
                    "votes": len(proof.votes),
                    "quorum": quorum,
                }
            )
        )
    else:
        print(f"  final: the proof holds, {len(proof.votes)} masternodes signed, {quorum} are needed")
    return ExitStatus.OK


async def _watch(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    from twisted.internet.defer import Deferred

    done: Deferred[None] = Deferred()
    told = 0

    def tell(change: Any) -> None:
        nonlocal told
        _tell_change(change, as_json=arguments.json)
        told += 1
        if told == arguments.count and not done.called:
            done.callback(None)

    await account.client.watch(tell, addresses=account.addresses)
    await done
    return ExitStatus.OK


def _tell_change(change: Any, *, as_json: bool) -> None:
    from timeproto.model.utxo_state import holder, kind
    from timeproto.wallet.amounts import format_amount

    old = None if change.old_state is None else kind(change.old_state)
    new = kind(change.new_state)
    if as_json:
        row = {
            "outpoint": str(change.outpoint),
            "address": change.output.address,
            "amount": change.output.amount,
            "old_state": old,
            "new_state": new,
            "txid": holder(change.new_state),
            "timestamp": change.timestamp,
            "proven": change.proven,
        }
        print(json.dumps(row), flush=True)
        return
    moment = time.strftime("%H:%M:%S", time.localtime(change.timestamp / 1000)) if change.timestamp else "now     "
    path = f"{old} → {new}" if old is not None else new
    proven = "proven" if change.proven else "claimed"
    print(
        f"{moment}  {change.outpoint}  {format_amount(change.output.amount):>16} TIME  {path}  ({proven})", flush=True
    )


def _proof(arguments: argparse.Namespace) -> int:
    from timeproto.cli.running import run_until_done
    from timeproto.model.canonical import is_hex
    from timeproto.wallet.ask import ask
    from timeproto.wallet.belief import Belief, Lie
    from timeproto.wire import codec, messages

    if not is_hex(arguments.txid, 32):
        raise ConfigurationError(f"{arguments.txid!r} is not a txid: 64 characters of lower-case hex")
    purse = _open(arguments)

    async def main(reactor: Any) -> int:
        genesis, node = purse.genesis, _nodes(arguments)[0]
        belief = Belief(genesis, lambda question: ask(reactor, node, question, genesis))
        reply = await ask(reactor, node, messages.GetFinalityProof(txid=arguments.txid), genesis)
        try:
            proof = belief.check(reply.proofs[0] if reply.proofs else None, arguments.txid)
        except Lie as lie:
            raise Refusal(ErrorCode.BAD_PROOF, str(lie)) from None
        if arguments.out is not None:
            arguments.out.write_bytes(codec.dump_document(proof))
        if arguments.json:
            print(codec.encode(proof).decode("utf-8"))
        else:
            print(f"{proof.txid} is final: {len(proof.votes)} of {len(genesis.masternode_set)} masternodes signed")
            for vote in proof.votes:
                print(f"  {vote.voter}")
        return ExitStatus.OK

    return run_until_done(main)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "new": _new,
    "restore": _restore,
    "address": _with_account(_address),
    "balance": _with_account(_balance),
    "send": _with_account(_send),
    "watch": _with_account(_watch),
    "proof": _proof,
}
