"""``timeproto wallet``: keys in a file, coins on the network, every proof checked here."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timeproto.cli import wallet_trace
from timeproto.cli.paths import expanded, read_text
from timeproto.cli.terminal import complain, say, warn
from timeproto.cli.wallet_setting import (
    add_options,
    ask_any,
    at_any_node,
    at_the_first,
    connected,
    nodes_of,
    open_wallet,
    password_of,
    phrase_of,
    run_wallet,
    txid_of,
    warnings_told,
    with_account,
)
from timeproto.cli.wallet_text import (
    tell_aborted,
    tell_balance,
    tell_block,
    tell_change,
    tell_incoming,
    tell_new,
    tell_not_aborted,
    tell_proof,
    tell_restored,
    tell_sending,
    tell_sent,
    tell_step,
)
from timeproto.errors import ConfigurationError, ErrorCode, ExitStatus, Refusal, StorageError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "wallet",
        help="keep keys, see coins, pay",
        description="A wallet in one encrypted file. It believes no node: what is final is proven to it.",
        epilog="The options may stand before or after the command. Amounts are decimal TIME on the screen and integers"
        " of the smallest unit in JSON. Exit status: 0 fine, 1 refused, 2 configuration, 3 storage.",
    )
    add_options(parser, may_be_absent=False)
    shared = argparse.ArgumentParser(add_help=False)
    add_options(shared, may_be_absent=True)
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
    send.add_argument("--confirmed", action="store_true", help="wait for the block that contains it, too")
    cancel = add("cancel", "ask the masternodes to end a payment that is not final, and wait for the block's verdict")
    cancel.add_argument("txid", metavar="TXID")
    watch = add(
        "watch",
        "tell every change of this wallet's coins, beginning with their states now, and payments on their way to it",
    )
    watch.add_argument(
        "--count",
        type=_count,
        metavar="N",
        help="stop after N changes, payments on their way not counted (default: at Ctrl-C)",
    )
    trace = add("trace", "show where a payment is: each stage with its time, who voted, who is missing, and its rivals")
    wallet_trace.add_arguments(trace)
    proof = add("proof", "fetch the proof that a transaction is final, and the block that contains it, and verify both")
    proof.add_argument("txid", metavar="TXID")
    proof.add_argument("--block", action="store_true", help="the proof is to be its place in a decided block")
    proof.add_argument("--out", type=Path, metavar="FILE", help="keep the proof here")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


# -- the commands ------------------------------------------------------------------------------------


def _new(arguments: argparse.Namespace) -> int:
    from timeproto.wallet import hd
    from timeproto.wallet.keystore import WalletFile

    path, password = _place(arguments)

    async def main(reactor: Any) -> int:
        genesis = await _genesis(reactor, arguments)
        phrase = hd.generate_phrase(arguments.words)
        address = hd.address(hd.derive(phrase), genesis.params)
        WalletFile.create(path, phrase, password, genesis, receive=1)
        made = _identity(path)
        try:
            tell_new(path, phrase, address, genesis.hash, as_json=arguments.json)
        except BaseException as error:
            sentence = _unmake(path, made)
            if isinstance(error, StorageError):
                raise StorageError(f"{error}; {sentence}") from None
            warn(sentence)  # a reader that has gone has a status, and no sentence of its own
            raise
        return ExitStatus.OK

    return run_wallet(main)


def _identity(path: Path) -> tuple[int, int] | None:
    """What differs between two files that are at one place one after the other; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _unmake(path: Path, made: tuple[int, int] | None) -> str:
    """Removes a wallet whose phrase nobody saw, since money in it could not be restored; says what became of it.
    ``made`` is the file's identity: it may be somewhere else by now."""
    try:
        if made is None or _identity(path) != made:
            return f"the phrase could not be shown, and the new wallet is not at {path} any more: do not use it"
        path.unlink()
    except OSError as error:
        return f"the phrase could not be shown: remove the new wallet {path} by hand ({error.strerror})"
    return f"the phrase could not be shown, so the new wallet {path} was removed again"


def _restore(arguments: argparse.Namespace) -> int:
    from timeproto.wallet import hd
    from timeproto.wallet.account import Account
    from timeproto.wallet.client import WalletClient
    from timeproto.wallet.keystore import WalletFile
    from timeproto.wallet.purse import MemoryPurse

    phrase = hd.check_phrase(phrase_of(arguments))
    path, password = _place(arguments)

    async def main(reactor: Any) -> int:
        genesis = await _genesis(reactor, arguments)
        client = WalletClient(reactor, genesis, nodes_of(arguments))
        client.startService()
        try:
            await connected(reactor, client)
            # No file before all is found: half a wallet would show half the money.
            purse = MemoryPurse(phrase, receive_index=0)
            account = Account(purse, client, now=lambda: int(time.time()))
            with warnings_told():
                used = await at_any_node(reactor, client, account.restore)
                await connected(reactor, client)  # a node that kept an address to itself was left
                await at_any_node(reactor, client, account.open)
        finally:
            await client.stopService()
        receive = max(1, purse.receive_index)
        WalletFile.create(path, phrase, password, genesis, receive=receive, change=purse.change_index)
        total, named = account.balance().total, len(client.nodes)
        tell_restored(path, used, total, account.asked, named, as_json=arguments.json)
        return ExitStatus.OK

    return run_wallet(main)


def _place(arguments: argparse.Namespace) -> tuple[Path, str]:
    """Where the new wallet will be, and its password; the folder is made."""
    path = expanded(arguments.wallet)
    if os.path.lexists(path):
        raise ConfigurationError(f"there is a wallet {path} already: move it away, or give --wallet another name")
    password = password_of(arguments, twice=True)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the folder {path.parent} cannot be made: {error.strerror}") from None
    return path, password


async def _genesis(reactor: Any, arguments: argparse.Namespace) -> Any:
    from timeproto.network.requests import ConnectionGone
    from timeproto.wire import codec, messages

    if arguments.genesis is not None:
        return codec.load_genesis(read_text(arguments.genesis, "genesis").encode("utf-8"), str(arguments.genesis))
    try:
        node, document = await ask_any(reactor, arguments, messages.GetGenesis())
    except ConnectionGone as error:
        raise ConfigurationError(f"no node tells the genesis ({error}): give --genesis FILE") from None
    genesis = document.genesis.check()
    complain(f"Trusting genesis {genesis.hash} as told by {node.address}: compare it with a source you trust.")
    return genesis


async def _address(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    from timeproto.wallet.addresses import GAP_LIMIT

    if await at_any_node(reactor, account.client, account.unpaid_addresses) >= GAP_LIMIT:
        warn(f"the last {GAP_LIMIT} addresses were never paid: a restore from the phrase would not look beyond them")
    address = account.new_address()
    say(json.dumps({"address": address}) if arguments.json else address)
    return ExitStatus.OK


async def _balance(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    tell_balance(account.balance(), as_json=arguments.json)
    return ExitStatus.OK


async def _send(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    from timeproto.cli.listening import Audience
    from timeproto.wallet.amounts import parse_amount
    from timeproto.wallet.coins import InsufficientFunds

    audience = Audience(reactor)
    amount = parse_amount(arguments.amount)
    try:
        payment = account.send(arguments.address, amount)
    except InsufficientFunds as poor:
        warn(str(poor))
        return ExitStatus.REFUSED
    if not arguments.json:
        tell_sending(payment, arguments.address, amount)
        payment.on_step(lambda step: audience.tell(tell_step, step))
    await audience.wait(payment.when_final())
    height = await audience.wait(account.client.wait_confirmed(payment.txid)) if arguments.confirmed else None
    tell_sent(payment, amount, account.client.genesis.masternode_set.quorum, height, as_json=arguments.json)
    return ExitStatus.OK


async def _cancel(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    txid, client = txid_of(arguments), account.client
    tx = next((tx for tx in account.pending if tx.txid == txid), None)
    if tx is None:
        tx = await at_the_first(reactor, arguments, client.genesis, lambda belief: belief.claimed(txid))
    account.key_in(tx)
    if not arguments.json:
        say(f"Asking the masternodes to end {txid} …")
    try:
        end = await account.cancel(tx)
    except Refusal as refusal:
        if refusal.code is not ErrorCode.ALREADY_FINAL:
            raise
        tell_not_aborted(txid, await _height(client, txid), as_json=arguments.json)
        return ExitStatus.REFUSED
    tell_aborted(end, as_json=arguments.json)
    return ExitStatus.OK


async def _height(client: Any, txid: str) -> int | None:
    """The block that contains what is final, if the node shows one."""
    from timeproto.network.requests import ConnectionGone
    from timeproto.wallet.belief import Lie

    try:
        height: int = await client.belief.confirmed(txid)
    except (Refusal, ConnectionGone, Lie):
        return None
    return height


async def _watch(reactor: Any, account: Any, arguments: argparse.Namespace) -> int:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from timeproto.cli.listening import Audience
    from timeproto.network.requests import ConnectionGone

    audience = Audience(reactor)
    done: Deferred[None] = Deferred()
    told = 0

    def tell(change: Any) -> None:
        nonlocal told
        if told == arguments.count:
            return
        audience.tell(tell_change, change, as_json=arguments.json)
        told += 1
        if told == arguments.count:
            done.callback(None)

    def hint(incoming: Any) -> None:
        if told != arguments.count:
            audience.tell(tell_incoming, incoming, as_json=arguments.json)

    def watch(addresses: list[str]) -> Deferred[Any]:
        watching: Deferred[Any] = account.client.watch(tell, addresses=addresses, on_payment=hint)
        return watching.addErrback(Failure.trap, ConnectionGone)

    account.on_address = lambda each: watch([each]).addErrback(lambda failure: warn(failure.getErrorMessage()))
    await audience.wait(watch(account.addresses))
    await audience.wait(done)
    return ExitStatus.OK


def _proof(arguments: argparse.Namespace) -> int:
    from timeproto.wire import codec, messages

    txid = txid_of(arguments)
    out = None if arguments.out is None else expanded(arguments.out)
    genesis = open_wallet(arguments).genesis

    async def proven(belief: Any) -> tuple[Any, Any]:
        """What is asked for, and the place in a block if there is one, as one node shows them."""
        info = await belief.ask(messages.GetTransaction(txid=txid))
        belief.named(txid, info.tx)
        if info.status == "aborted":
            raise await belief.end_of(info.tx) or Refusal(ErrorCode.NOT_FOUND, f"the node is undecided on {txid}")
        if info.status == "pending":
            raise Refusal(ErrorCode.NOT_FOUND, f"{txid} is not final")
        if info.inclusion is not None:
            belief.check(info.inclusion, txid)
        elif arguments.block:
            raise Refusal(ErrorCode.NOT_FOUND, f"no block contains {txid} yet")
        return info.inclusion if arguments.block else belief.check(info.proof or info.inclusion, txid), info.inclusion

    async def main(reactor: Any) -> int:
        proof, place = await at_the_first(reactor, arguments, genesis, proven)
        if out is not None:
            try:
                out.write_bytes(codec.dump_document(proof))
            except OSError as error:
                raise StorageError(f"the proof cannot be kept in {out}: {error.strerror}") from None
        tell_proof(proof, txid, genesis.masternode_set, as_json=arguments.json)
        if place is not None and not arguments.json:
            tell_block(place)
        return ExitStatus.OK

    return run_wallet(main)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "new": _new,
    "restore": _restore,
    "address": with_account(_address),
    "balance": with_account(_balance),
    "send": with_account(_send),
    "cancel": with_account(_cancel),
    "watch": with_account(_watch),
    "proof": _proof,
    "trace": wallet_trace.run,
}
