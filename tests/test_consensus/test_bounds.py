"""Nothing grows without a bound, and nobody can push out what others need (L-7, R-8)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster, pay
from tests.test_consensus.alone import Alone
from timeproto import limits
from timeproto.consensus.recent import Recent
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import Locked, to_wire
from timeproto.model.vote import sign_batch
from timeproto.wire import messages


def made_up(start: int, number: int) -> list[str]:
    """Txids of transactions that nobody can show."""
    return [f"{start + each:064x}" for each in range(number)]


def announce(alone: Alone, voter: int, txids: list[str]) -> Any:
    """``voter`` signs lock votes for txids."""
    batch = sign_batch(alone.keys[voter], alone.genesis.hash, alone.genesis.masternode_set.hash, 0, lock=txids)
    return alone.hear(batch, voter)


def orphan(alone: Alone, number: int, wallet: int = 0) -> Transaction:
    """A well-signed payment of a coin that does not exist."""
    owner = alone.wallets[wallet]
    return pay(alone.genesis, [(Outpoint(f"{number:064x}", 0), 10**9, owner)], [], fee=10_000)


class EarlyVotes(SynchronousTestCase):
    def test_a_voter_pushes_out_only_what_nobody_else_speaks_of(self) -> None:
        """A liar votes early for a real payment, then floods: the honest votes for it stay (B-12)."""
        self.patch(limits, "EARLY_VOTES", 20)
        alone = Alone(7)
        tx = alone.pay(alone.coins()[:1])
        announce(alone, 3, [tx.txid])
        for voter in (1, 2, 4, 5, 6):
            alone.vote(voter, lock=[tx], commit=[tx])
        for start in range(0, 200, 20):
            announce(alone, 3, made_up(start, 20))
        self.assertLessEqual(len(alone.replica.payments), 21)
        alone.show(tx)
        self.assertTrue(alone.is_final(tx))

    def test_a_flood_is_bounded_for_each_voter(self) -> None:
        """10^3 votes for nothing leave at most the bound, the newest; others' early votes are untouched."""
        self.patch(limits, "EARLY_VOTES", 50)
        alone = Alone(4)
        announce(alone, 2, made_up(10_000, 50))
        for start in range(0, 1_000, 100):
            announce(alone, 3, made_up(start, 100))
        self.assertEqual(len(alone.replica.payments), 100)
        self.assertTrue(all(alone.replica.payments.get(txid) for txid in made_up(10_000, 50)))
        self.assertTrue(all(alone.replica.payments.get(txid) for txid in made_up(950, 50)))

    def test_a_flood_takes_no_wallets_room(self) -> None:
        """What votes alone announce does not count as in flight: a wallet is not told ``busy`` for it."""
        self.patch(limits, "IN_FLIGHT", 30)
        alone = Alone(4)
        for start in range(0, 100, 50):
            announce(alone, 3, made_up(start, 50))
        self.assertEqual(alone.answer(alone.submit(alone.pay(alone.coins()[:1]))), "accepted")

    def test_what_nobody_can_show_is_let_go(self) -> None:
        """After ``EARLY_WAIT`` the votes for it are forgotten, every trace."""
        self.patch(limits, "EARLY_WAIT", 5.0)
        alone = Alone(4)
        announce(alone, 3, made_up(0, 10))
        alone.tick(7)
        self.assertEqual(len(alone.replica.payments), 0)
        self.assertEqual(leftovers(alone), {})

    def test_a_hint_is_as_bounded_as_a_vote(self) -> None:
        """A peer that tells of locks that never were fills its own room only."""
        self.patch(limits, "EARLY_VOTES", 10)
        alone = Alone(4)
        for number in range(40):
            alone.hear(hint(alone, f"{number:064x}"), 2)
        self.assertEqual(len(alone.replica.payments), 10)


def hint(alone: Alone, txid: str) -> messages.UTXOStateNotification:
    outpoint, output = alone.genesis.coins()[0]
    return messages.UTXOStateNotification(
        notification=messages.StateChange(outpoint, None, to_wire(Locked(txid, 1)), 1, alone.keys[2].public_hex),
        cursor=messages.Cursor(alone.keys[2].public_hex, 1),
        output=output,
    )


class Orphans(SynchronousTestCase):
    def test_wallets_orphans_are_few_and_the_oldest_is_told(self) -> None:
        """Past the bound the oldest is refused at once; none is locked, voted for or relayed (H-22)."""
        self.patch(limits, "ORPHANS_WALLET", 5)
        alone = Alone(4)
        tickets = [alone.submit(orphan(alone, number)) for number in range(20)]
        self.assertEqual([alone.answer(ticket) for ticket in tickets[:15]], ["unknown_input"] * 15)
        self.assertEqual([alone.answer(ticket) for ticket in tickets[15:]], [None] * 5)
        self.assertEqual(len(alone.replica.payments), 5)
        self.assertEqual(alone.cast(), [])
        self.assertEqual(alone.store.transitions(0, 10), [])

    def test_a_masternode_fills_its_own_room_only(self) -> None:
        """A flood of one peer's orphans leaves another's waiting child where it is."""
        self.patch(limits, "ORPHANS_PEER", 10)
        alone = Alone(4)
        parent = alone.pay(alone.coins()[:1])
        child = alone.pay([alone.change_of(parent)])
        alone.show(child, peer=1)
        for number in range(100):
            alone.show(orphan(alone, number), peer=3)
        self.assertEqual(len(alone.replica.payments), 11)
        alone.finish(parent, child)
        alone.show(parent)
        self.assertTrue(alone.is_final(child))

    def test_large_ones_are_fewer(self) -> None:
        """What waits is bounded by its size too, or a liar's thousand of the largest would take a gigabyte."""
        alone = Alone(4)
        size = len(orphan(alone, 0).canonical) + len(orphan(alone, 0).signature)
        self.patch(limits, "ORPHANS_BYTES", 10 * size + size // 2)
        for number in range(100):
            alone.show(orphan(alone, number), peer=3)
            self.assertLessEqual(len(alone.replica.payments), 10)
        self.assertTrue(all(alone.replica.payments.get(orphan(alone, number).txid) for number in range(90, 100)))

    def test_they_take_no_room_of_a_wallets_payment(self) -> None:
        """However many liars hand on children of nobody: a wallet is not told that too much is undecided."""
        self.patch(limits, "IN_FLIGHT", 20)
        self.patch(limits, "IN_FLIGHT_PEER", 25)
        alone = Alone(4)
        for peer in (2, 3):
            for number in range(20):
                alone.show(orphan(alone, number + 1_000 * peer), peer=peer)
        self.assertEqual(len(alone.replica.payments), 40)
        first, second = (alone.pay([coin]) for coin in alone.coins()[:2])
        self.assertEqual(alone.answer(alone.submit(first)), "accepted")
        alone.show(second, peer=1)
        self.assertTrue(alone.voted(second)[0])
        self.assertEqual(alone.replica.payments.seen_count, 2)

    def test_a_wallet_cannot_make_one_node_ask_all_the_others(self) -> None:
        """However many orphans come, and however often, peers are asked by time: one of them, once a tick (B-31)."""
        alone = Alone(4)
        asked = self.patched_requests(alone)
        for number in range(50):
            alone.submit(orphan(alone, number % 30))
        self.assertEqual(asked, [])
        for ticks in range(1, 5):
            alone.tick()
            self.assertLessEqual(len(asked), ticks)
        self.assertEqual(len(asked[0].txids), 30)

    def patched_requests(self, alone: Alone) -> list[messages.GetTransactions]:
        """What the replica asks for from now on."""
        asked: list[messages.GetTransactions] = []
        step = alone.node.step

        def noting(inputs: Any, now: int) -> Any:
            effects = step(inputs, now)
            asked.extend(each for _, each in effects.send if isinstance(each, messages.GetTransactions))
            return effects

        self.patch(alone.node, "step", noting)
        return asked

    def test_a_parent_that_another_masternode_holds_is_fetched_in_time(self) -> None:
        """The child reached this node first: the tick asks for the parent well before the wallet is refused."""
        alone = Alone(4)
        parent = alone.pay(alone.coins()[:1])
        ticket = alone.submit(alone.pay([alone.change_of(parent)]))
        asked = self.patched_requests(alone)
        alone.tick(int(limits.ORPHAN_WAIT_WALLET / limits.TICK) - 2)
        self.assertEqual(asked[0].txids, (parent.txid,))
        alone.show(parent)
        alone.finish(parent)
        self.assertEqual(alone.answer(ticket), "accepted")

    def test_orphans_of_peers_are_let_go_in_time(self) -> None:
        """After ``ORPHAN_WAIT_PEER`` a parent that never came is given up, every trace."""
        self.patch(limits, "ORPHAN_WAIT_PEER", 4.0)
        alone = Alone(4)
        alone.show(*(orphan(alone, number) for number in range(5)))
        alone.tick(6)
        self.assertEqual(leftovers(alone), {})


class Crowds(SynchronousTestCase):
    def test_rivals_for_one_coin_are_bounded_for_peers_and_wallets(self) -> None:
        """Votes by one liar and transactions by his wallet make no more rivals than are kept (B-28)."""
        self.patch(limits, "RIVALS_PER_OUTPOINT", 4)
        alone = Alone(4)
        crowd = [alone.pay(alone.coins()[:1], amount=1_000_000 + number) for number in range(20)]
        for number, tx in enumerate(crowd):
            alone.vote(3, lock=[tx])
            if number % 2:
                alone.show(tx, peer=3)
            else:
                alone.submit(tx)
        (_, wanted_by), = alone.replica.payments.contenders()
        self.assertEqual(len(wanted_by), 4)
        ticket = alone.submit(crowd[18])
        self.assertEqual(alone.answer(ticket), "busy")
        self.assertEqual(alone.node.replies[ticket].details["limit"], "rivals_per_outpoint")

    def test_a_crowd_cannot_hide_what_honest_masternodes_vote_for(self) -> None:
        """Votes for a crowded-out payment are kept, and with f + 1 of them it is let in."""
        self.patch(limits, "RIVALS_PER_OUTPOINT", 4)
        alone = Alone(7)
        *crowd, real = [alone.pay(alone.coins()[:1], amount=1_000_000 + number) for number in range(8)]
        alone.show(*crowd, peer=6)
        for voter in (1, 2, 3, 4):
            alone.vote(voter, lock=[real])
            alone.show(real, peer=voter)
        alone.vote(5, lock=[real])
        self.assertTrue(alone.voted(real)[1])

    def spread(self, alone: Alone, tx: Transaction) -> int:
        """A wallet's payment that has reached other masternodes."""
        ticket = alone.submit(tx)
        for voter in (1, 2):
            alone.vote(voter, lock=[tx])
        return ticket

    def test_in_flight_is_bounded_and_says_so(self) -> None:
        """A wallet past the bound is told ``busy``, which limit, and when to come back; peers have more room."""
        self.patch(limits, "IN_FLIGHT", 3)
        self.patch(limits, "IN_FLIGHT_PEER", 5)
        alone = Alone(4, coins=10)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        tickets = [self.spread(alone, tx) for tx in payments[:4]]
        self.assertEqual([alone.answer(ticket) for ticket in tickets], ["accepted"] * 3 + ["busy"])
        details = alone.node.replies[tickets[3]].details
        self.assertEqual((details["limit"], details["value"]), ("in_flight", 3))
        self.assertGreater(details["retry_after_ms"], 0)
        alone.show(*payments[3:])
        self.assertEqual(len(alone.replica.payments), 5)
        alone.finish(*payments[:3])
        self.assertEqual(alone.answer(alone.submit(payments[9])), "accepted")

    def test_large_ones_in_flight_are_fewer(self) -> None:
        """They are bounded by their size as by their number, for wallets and peers; what is decided makes room."""
        alone = Alone(4, coins=12)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        size = len(payments[0].canonical) + len(payments[0].signature)
        self.patch(limits, "IN_FLIGHT_BYTES", 3 * size)
        self.patch(limits, "IN_FLIGHT_PEER_BYTES", 5 * size)
        for number in range(20):
            alone.show(orphan(alone, number), peer=3)  # these have a bound of their own
        tickets = [self.spread(alone, tx) for tx in payments[:4]]
        self.assertEqual([alone.answer(ticket) for ticket in tickets], ["accepted"] * 3 + ["busy"])
        details = alone.node.replies[tickets[3]].details
        self.assertEqual((details["limit"], details["value"]), ("in_flight_bytes", 3 * size))
        alone.show(*payments[3:])
        self.assertEqual((alone.replica.payments.seen_count, alone.replica.payments.seen_bytes), (5, 5 * size))
        alone.finish(*payments[:3])
        self.assertEqual(alone.answer(alone.submit(payments[9])), "accepted")
        alone.finish(*payments[3:5], payments[9])
        self.assertEqual((alone.replica.payments.seen_count, alone.replica.payments.seen_bytes), (0, 0))


class Traces(SynchronousTestCase):
    def test_final_payments_leave_nothing_behind(self) -> None:
        """When all is decided every container of undecided things is empty, on every masternode (L-7)."""
        for seed in range(4):
            cluster = Cluster(4, seed, duplicate=0.3, lose=0.1)
            cluster.settle(3)
            for wallet in range(3):
                for coin in range(4):
                    cluster.submit(cluster.payment(wallet, coin, (wallet + 1) % 3), cluster.random.randrange(4))
            cluster.lose = 0.0
            cluster.settle(12)
            for node in cluster.nodes:
                self.assertEqual(node.replica.final_count, 12, f"seed {seed}")
                self.assertEqual(leftovers(node), {}, f"seed {seed}")

    def test_the_memory_of_recent_finals_is_bounded(self) -> None:
        """What was put in first is forgotten first, no more is kept than allowed, and the newest half always is."""
        self.patch(limits, "RECENTLY_FINAL", 10)
        recent: Recent[int, str] = Recent(limits.RECENTLY_FINAL)
        for number in range(50):
            recent.put(number, str(number))
            kept = [each for each in range(number + 1) if each in recent]
            self.assertEqual(kept, list(range(number + 1))[-len(recent) :])
            self.assertTrue(min(number + 1, 5) <= len(recent) <= 10, kept)
            self.assertEqual([recent.get(each) for each in kept], list(map(str, kept)))

    def test_what_nobody_will_ask_for_makes_room(self) -> None:
        """What is forgotten is here no more, in whichever half it was, and pushes nothing else out."""
        recent: Recent[int, str] = Recent(6)
        recent.put(0, "stays")
        for number in range(1, 50):
            recent.put(number, "goes")
            recent.forget(number)
            recent.forget(number)
            self.assertNotIn(number, recent)
        self.assertEqual((recent.get(0), len(recent)), ("stays", 1))
        recent.put(50, "older")
        recent.put(51, "older")  # which fills the newer half
        recent.forget(50)
        self.assertEqual((recent.get(50), recent.get(51)), (None, "older"))

    def test_the_list_of_refused_is_bounded(self) -> None:
        """Invalid transactions without end leave the bound of them, and no payment."""
        self.patch(limits, "REFUSED_CACHE", 5)
        alone = Alone(4)
        outpoint, amount, owner = alone.coins()[0]
        for number in range(30):
            alone.show(alone.pay([(outpoint, amount + 1 + number, owner)]))
        self.assertEqual(len(alone.replica.payments), 0)
        self.assertLessEqual(sum(leftovers(alone).values()), 5)


def leftovers(holder: Any) -> dict[str, int]:
    """The containers of a replica's payments that are not empty, by name."""
    payments = holder.replica.payments
    sizes = {name: len(value) for name, value in vars(payments).items() if isinstance(value, dict)}
    sizes["_early"] = sum(len(spoken) for spoken in payments._early.values())
    sizes["seen"], sizes["seen_bytes"] = payments.seen_count, payments.seen_bytes
    sizes["finishing"] = len(holder.replica._finality._finishing)
    return {name: size for name, size in sizes.items() if size}
