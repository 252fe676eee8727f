"""``timeproto demo``: seven masternodes, a payment, a double spend that is refused, one that freezes a coin, and the
block that frees it, told as a story."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from timeproto.cli.demo_frozen import FrozenCoin
from timeproto.errors import ErrorCode, ExitStatus, Refusal

BASE_PORT = 24300
BLOCK_INTERVAL = 3
"""Seconds: a demo's viewer waits for three or four blocks."""
AMOUNT = 25 * 10**8


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="see a payment become final and confirmed, and what becomes of double spends",
        description="Starts seven masternodes on this machine, pays from one wallet to another, tries to spend the"
        " same coin again at another masternode, waits for the block, then hands two payments of one coin to half the"
        " masternodes each, and shows how a block frees the coin. Stops everything. Status 0 only if all of it held.",
    )
    parser.add_argument("-n", "--masternodes", type=int, default=7, help="how many (default 7)")
    parser.add_argument("--base-port", type=int, default=BASE_PORT, help=f"port of the first (default {BASE_PORT})")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from twisted.internet.defer import ensureDeferred

    from timeproto.cli.devnet import check_masternodes
    from timeproto.cli.running import Interruption, run_until_done
    from timeproto.devnet.layout import lay_out
    from timeproto.devnet.processes import Devnet

    check_masternodes(arguments.masternodes, arguments.base_port)
    with tempfile.TemporaryDirectory(prefix="timeproto-demo-") as folder:
        layout = lay_out(
            Path(folder), arguments.masternodes, arguments.base_port, log_level="warn", block_interval=BLOCK_INTERVAL
        )

        async def main(reactor: Any) -> int:
            devnet, interruption = Devnet(reactor, layout), Interruption(reactor)
            telling = devnet.while_all_run(ensureDeferred(_Story(reactor, devnet).tell()))
            interruption.when.addCallback(lambda _: telling.cancel())
            status: int = ExitStatus.OK
            try:
                status = await telling
            except Exception:
                if not interruption.has_come:  # whatever it was in the midst of; the nodes hear of Ctrl-C, too
                    raise
            finally:
                await devnet.stop()
                _say("Everything is stopped, and nothing is left behind.")
            if interruption.has_come:  # also while the nodes were stopped
                raise KeyboardInterrupt
            return status

        return run_until_done(main)


def _say(line: str = "") -> None:
    print(line, flush=True)


class _Story:
    """Each chapter raises or notes what did not hold; the status is 0 if nothing was noted."""

    def __init__(self, reactor: Any, devnet: Any) -> None:
        self._reactor = reactor
        self._devnet = devnet
        self._broken: list[str] = []

    def _must(self, held: bool, what: str) -> None:
        if not held:
            self._broken.append(what)
            _say(f"  !! {what}")

    async def tell(self) -> int:
        from timeproto.wallet.client import WalletClient

        layout = self._devnet.layout
        masternodes = layout.genesis.masternode_set
        began = self._reactor.seconds()
        _say(f"\nStarting {len(masternodes)} masternodes, each a process of its own …")
        await self._devnet.start()
        took = self._reactor.seconds() - began
        _say(
            f"  they are linked, and each votes ({took:.1f} s). {masternodes.quorum} of them together make a payment"
            f" final; {masternodes.faulty} may lie. A block is made every {BLOCK_INTERVAL} s.\n"
        )
        addresses = self._devnet.addresses
        clients = [WalletClient(self._reactor, layout.genesis, [addresses[at % len(addresses)]]) for at in (0, 1, 2)]
        for client in clients:
            client.startService()
        try:
            for client in clients:
                await client.when_connected()
            txid = await self._pay_and_cheat(*clients)
            await self._confirm(clients[0], txid)
            if len(masternodes) > 3:
                await FrozenCoin(self._reactor, self._devnet, self._must, _say).tell()
            await self._compare()
        finally:
            for client in clients:
                await client.stopService()
        if self._broken:
            _say(f"\nThis did not hold: {'; '.join(self._broken)}.")
            return ExitStatus.REFUSED
        _say("\nAll of it held.")
        return ExitStatus.OK

    async def _pay_and_cheat(self, alice_client: Any, bob_client: Any, cheat_client: Any) -> str:
        """The txid of the payment."""
        from timeproto.cli.listening import Audience
        from timeproto.cli.wallet_text import signers
        from timeproto.model.transaction import TxOutput
        from timeproto.wallet import builder, hd
        from timeproto.wallet.account import Account
        from timeproto.wallet.amounts import format_amount
        from timeproto.wallet.coins import Selection
        from timeproto.wallet.purse import MemoryPurse

        layout = self._devnet.layout
        params = layout.genesis.params
        alice = Account(MemoryPurse(layout.phrase("alice")), alice_client, now=lambda: int(time.time()))
        bob = Account(MemoryPurse(layout.phrase("bob")), bob_client, now=lambda: int(time.time()))
        await alice.open()
        await bob.open()
        before = bob.balance().total
        _say(f"Alice, at {alice_client.node}, has {format_amount(alice.balance().available)} TIME.")
        _say(f"Bob,   at {bob_client.node}, has {format_amount(before)} TIME.\n")
        to = bob.addresses[0]
        free = alice.book.free()
        _say(f"Alice pays Bob {format_amount(AMOUNT)} TIME:")
        payment = alice.send(to, AMOUNT)
        audience = Audience(self._reactor)
        payment.on_step(lambda step: audience.tell(_tell_step, step))
        proof = await audience.wait(payment.when_final())
        _say(
            f"  Alice has checked the proof herself: {signers(proof)} masternodes signed that {payment.txid[:16]}… is"
            " final.\n"
        )
        for _ in range(200):
            await bob_client.settled()
            if bob.balance().total == before + AMOUNT:
                break
            await _pause(self._reactor, 0.01)
        self._must(bob.balance().total == before + AMOUNT, "Bob was told of his money")
        _say(
            "Bob was told, by another masternode, checked the proof too, and has"
            f" {format_amount(bob.balance().total)} TIME.\n"
        )

        spent = payment.tx.outpoints[0]
        coin = next(coin for coin in free if coin.outpoint == spent)
        key = hd.derive(layout.phrase("alice"))
        mine = hd.address(key, params)
        fee = builder.fee_for(1, 1, params)
        rival = builder.build(
            Selection(coins=(coin,), fee=fee, change=0),
            [TxOutput(coin.amount - fee, mine)],
            change_address=None,
            keys={mine: key},
            genesis=layout.genesis,
            timestamp=int(time.time()),
        )
        _say(f"Now she signs another payment of the same coin, to herself, and hands it to {cheat_client.node}:")
        refusal: Exception | None = None
        try:
            await cheat_client.submit(rival).when_accepted()
        except Refusal as error:
            refusal = error
        is_refused = isinstance(refusal, Refusal) and refusal.code is ErrorCode.DOUBLE_SPEND
        self._must(is_refused, "the double spend was refused")
        if isinstance(refusal, Refusal):
            _say(f"  refused ({refusal.code}): {refusal.message}")
            named = refusal.details.get("conflicting_txid")
            self._must(named == payment.txid, "the refusal named the payment that has the coin")
        _say()
        return str(payment.txid)

    async def _confirm(self, client: Any, txid: str) -> None:
        began = self._reactor.seconds()
        height = await client.wait_confirmed(txid)
        took = self._reactor.seconds() - began
        _say(
            f"After {took:.1f} s more, block {height} contains the payment: Confirmed. Alice has checked its place in"
            " the block, and the signatures under that.\n"
        )

    async def _compare(self) -> None:
        infos: list[Any] = []
        for _ in range(40):
            infos = [await self._devnet.info(number + 1) for number in range(len(self._devnet.processes))]
            if len({info.digest if info is not None else "" for info in infos}) == 1:
                break
            await _pause(self._reactor, 0.1)
        digests = {info.digest if info is not None else "" for info in infos}
        self._must(len(digests) == 1 and "" not in digests, "all masternodes hold the same coins")
        if len(digests) == 1:
            _say(f"All {len(infos)} masternodes hold the same coins in the same states: digest {digests.pop()[:16]}…")


_STORY = {
    "accepted": "her masternode has locked her coin, on its disk",
    "Locked": "she is told: Locked",
    "SpentPending": "she is told: SpentPending, enough have locked it",
    "SpentFinalized": "she is told: SpentFinalized, with the proof",
}


def _tell_step(step: Any) -> None:
    if step.state in _STORY:  # Confirmed has a chapter of its own
        _say(f"  {step.ms:>7.1f} ms  {_STORY[step.state]}")


async def _pause(reactor: Any, seconds: float) -> None:
    from twisted.internet.task import deferLater

    await deferLater(reactor, seconds)
