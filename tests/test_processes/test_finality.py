"""The promises that matter, on real processes: final is final, whoever is killed and whatever is signed twice."""

from __future__ import annotations

import random
import signal

from twisted.internet import reactor
from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater

from tests.test_processes.harness import DevnetCase, rival_of, until
from timeproto.errors import Refusal
from timeproto.wallet.payment import Payment


class Killing(DevnetCase):
    """kill -9 of real processes."""

    async def kill(self, *numbers: int) -> None:
        for number in numbers:
            process = self.devnet.processes[number - 1]
            process.signal(signal.SIGKILL)
            await process.when_ended()

    async def test_two_of_seven_are_not_needed_three_are(self) -> None:
        """With two of seven killed payments are final; with three none is, none is lost; restarted, all are."""
        await self.start(7)
        client = await self.client(1)
        await self.kill(6, 7)
        for tx in self.transactions[:5]:
            await client.submit(tx).when_final()
        await self.kill(5)
        waiting = [client.submit(tx) for tx in self.transactions[5:10]]
        for payment in waiting:
            await payment.when_accepted()  # locked, durably, at one masternode
        await deferLater(reactor, 3)
        self.assertEqual([payment.proof for payment in waiting], [None] * 5)
        self.assertEqual(await self.finals(1), 5)
        for number in (5, 6, 7):
            self.devnet.restart(number)
        for payment in waiting:
            await payment.when_final()
        await self.agree()
        self.assertEqual({await self.finals(number) for number in range(1, 8)}, {10})
        log = self.devnet.layout.nodes[0].log.read_text("utf-8")
        self.assertIn("no quorum of masternodes is linked", log)

    async def test_all_killed_at_once_and_restarted(self) -> None:
        """A power cut for everybody in mid-load: what was final stays final, what was accepted becomes final (P-10)."""
        await self.start(4)
        client = await self.client(1, 2, 3, 4)
        payments = [client.submit(tx) for tx in self.transactions[:30]]
        await DeferredList([payment.when_final() for payment in payments[:10]], fireOnOneErrback=True)
        before = [payment.txid for payment in payments if payment.proof is not None]
        await self.kill(1, 2, 3, 4)
        for number in (1, 2, 3, 4):
            self.devnet.restart(number)
        for payment in payments:
            await payment.when_final()
        await self.agree()
        self.assertGreaterEqual(len(before), 10)
        for number in range(1, 5):
            info = await self.devnet.info(number)
            assert info is not None
            self.assertEqual((info.final, info.evidence), (30, 0))

    async def test_random_kills_under_load(self) -> None:
        """Masternodes are killed and restarted, one at a time, while payments go on: all final, no double vote."""
        devnet = await self.start(4)
        client = await self.client(1, 2, 3, 4)
        chance = random.Random(7)
        payments: list[Payment] = []
        for round_number in range(4):
            victim = chance.randrange(4) + 1
            for tx in self.transactions[round_number * 15 : round_number * 15 + 15]:
                payments.append(client.submit(tx))
                await deferLater(reactor, 0.01)
                if len(payments) % 15 == 7:
                    await self.kill(victim)
            devnet.restart(victim)
            await devnet.meshed()
        for payment in payments:
            await payment.when_final()
        await self.agree()
        for number in range(1, 5):
            info = await devnet.info(number)
            assert info is not None
            self.assertEqual((info.final, info.evidence, info.voting), (60, 0, True))


class DoubleSpends(DevnetCase):
    """Two signed payments of one coin, handed to two masternodes at once, a hundred times."""

    coins = 100

    async def test_never_both_final(self) -> None:
        """At most one of each pair is final, on any node; afterwards all nodes agree on every coin."""
        devnet = await self.start(7)
        clients = [await self.client(number) for number in range(1, 8)]
        pairs = []
        for number, tx in enumerate(self.transactions):
            rival = rival_of(devnet.layout, tx)
            one, other = number % 7, (number + 1 + number // 7 % 6) % 7
            pairs.append((clients[one].submit(tx), clients[other].submit(rival)))
        answers = [payment.when_accepted() for pair in pairs for payment in pair]
        outcomes = await DeferredList(answers, consumeErrors=True)
        for held, outcome in outcomes:
            if not held:
                self.assertEqual(str(outcome.value.code), "double_spend")
        await self.agree()
        decided = 0
        for first, second in pairs:
            proofs = [payment.proof for payment in (first, second)]
            self.assertLessEqual(sum(proof is not None for proof in proofs), 1)
            decided += any(proofs)
        finals = {await self.finals(number) for number in range(1, 8)}
        self.assertEqual(finals, {decided})
        self.assertGreater(decided, 0)
        for number in range(1, 8):
            info = await devnet.info(number)
            assert info is not None
            self.assertEqual(info.evidence, 0)  # no honest masternode voted twice

    async def test_a_later_double_spend_is_refused_by_name(self) -> None:
        """What is final is defended by every masternode, and the refusal names the payment that has the coin."""
        devnet = await self.start(4)
        client = await self.client(1)
        tx = self.transactions[0]
        await client.submit(tx).when_final()

        async def everywhere() -> bool:
            return {await self.finals(number) for number in range(1, 5)} == {1}

        await until(everywhere)
        for number in range(1, 5):
            other = await self.client(number)
            refusal = await self.assertFailure(other.submit(rival_of(devnet.layout, tx)).when_accepted(), Refusal)
            self.assertEqual(str(refusal.code), "double_spend")
            self.assertEqual(refusal.details["conflicting_txid"], tx.txid)
