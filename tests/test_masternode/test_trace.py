"""Where a payment is: what one node tells of each stage, who voted, who is missing, and what stands in the way."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import NoPeers
from tests.cluster import COIN, Cluster, address, pay
from tests.test_consensus.alone import Alone
from tests.test_consensus.test_contest import cancel_of
from timeproto import limits
from timeproto.consensus.effects import Cancel
from timeproto.consensus.payments import CONTEST_TICKS
from timeproto.masternode.view import ReplicaView
from timeproto.model.block import check_inclusion, transaction_leaf, verdict_leaf
from timeproto.model.certificate import check_proof
from timeproto.model.transaction import Transaction
from timeproto.wire import codec, messages
from timeproto.wire.messages import Trace, TraceStatus


class Neighbours(NoPeers):
    """Masternodes, and which of them are not connected."""

    def __init__(self, keys: list[str], away: set[str]) -> None:
        self._keys = keys
        self._away = away

    def peers_info(self) -> list[Any]:
        way = "none"
        return [messages.PeerInfo(key, None, way if key in self._away else "inbound") for key in self._keys]


def trace_of(node: Any, genesis: Any, txid: str, away: set[str] | None = None) -> Trace | None:
    """What ``node`` (of a cluster, or alone) answers; the answer crosses the wire."""
    nobody: Any = None
    keys = list(genesis.masternodes)
    view = ReplicaView(
        replica=node.replica, ledger=node.store, integration=nobody, genesis=genesis, node_key=node.key,
        surroundings=Neighbours(keys, away or set()), uptime=lambda: 1.0,
    )  # fmt: skip
    trace = view.trace(txid)
    if trace is not None:
        crossed = codec.decode(codec.encode(trace))
        assert crossed == trace
    return trace


class TraceCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster(4, 1)
        self.cluster.settle(3)
        self.keys = [node.key for node in self.cluster.nodes]

    def trace(self, tx: Transaction | str, number: int = 0, away: set[str] | None = None) -> Trace:
        txid = tx if isinstance(tx, str) else tx.txid
        found = trace_of(self.cluster.nodes[number], self.cluster.genesis, txid, away)
        assert found is not None
        return found

    def half_and_half(self) -> list[Transaction]:
        """Two rivals, each locked by two of four."""
        rivals = [self.cluster.payment(0, 1, to) for to in (1, 2)]
        for number in range(4):
            self.cluster.submit(rivals[number // 2], number)
        self.cluster.run()
        return rivals

    def names(self, trace: Trace) -> list[str]:
        """The stages, whose times never go back."""
        times = [stage.at for stage in trace.stages if stage.at is not None and stage.name != "confirmed"]
        self.assertEqual(times, sorted(times))
        self.assertEqual(len(times), len([stage for stage in trace.stages if stage.name != "confirmed"]))
        return [stage.name for stage in trace.stages]


class Way(TraceCase):
    """A payment that nothing stands in the way of but silence."""

    def test_from_the_first_word_to_the_block(self) -> None:
        """Locked while votes are missing, and whose; final with who signed; confirmed: all with their times."""
        cluster, keys = self.cluster, self.keys
        tx = cluster.payment(0, 0, 1)
        cluster.partition([0, 1], [2, 3])
        cluster.submit(tx, 0)
        cluster.run()
        trace = self.trace(tx, away={keys[2]})
        self.assertEqual((trace.status, trace.waits_for, trace.quorum), ("locked", "lock", 3))
        self.assertEqual(self.names(trace), ["seen", "locked"])
        self.assertEqual((set(trace.lock), trace.commit, trace.abort), (set(keys[:2]), (), ()))
        missing = {each.node_key: each.connected for each in trace.missing}
        self.assertEqual(missing, {keys[2]: False, keys[3]: True})
        self.assertEqual((trace.contested, trace.rivals, trace.complete), (False, (), True))
        cluster.heal()
        cluster.run()
        final = self.trace(tx)
        self.assertEqual((final.status, final.waits_for, final.missing), ("final", "block", ()))
        self.assertEqual(self.names(final), ["seen", "locked", "pending", "final"])
        self.assertEqual(final.stages[:2], trace.stages)
        assert final.proof is not None
        check_proof(final.proof, cluster.genesis.masternode_set, cluster.genesis.hash)
        self.assertEqual(final.commit, tuple(vote.voter for vote in final.proof.votes))
        cluster.pass_time(8_000)
        done = self.trace(tx)
        self.assertEqual((done.status, done.waits_for, done.height), ("confirmed", None, 1))
        self.assertEqual(done.stages[:4], final.stages)
        assert done.inclusion is not None
        check_inclusion(
            done.inclusion, transaction_leaf(tx.txid), cluster.genesis.masternode_set, cluster.genesis.hash
        )
        self.assertEqual(done.stages[4], messages.TraceStage("confirmed", done.inclusion.header.timestamp))

    def test_the_times_survive_a_power_cut(self) -> None:
        """They are in the store with the transaction, at every stage."""
        cluster = self.cluster
        tx = cluster.payment(0, 0, 1)
        for others in ([1], [1, 2], [1, 2, 3]):
            cluster.partition([0, *others], [each for each in (1, 2, 3) if each not in others])
            cluster.submit(tx, 0)
            cluster.run()
            before = self.trace(tx)
            cluster.kill(0)
            cluster.restart(0)
            cluster.run()
            after = self.trace(tx)
            self.assertEqual(after.stages[: len(before.stages)], before.stages)
            self.assertTrue(after.complete)
            cluster.heal()
        self.assertEqual(self.names(self.trace(tx)), ["seen", "locked", "pending", "final"])

    def test_when_it_was_committed_to_survives_a_restart(self) -> None:
        """Before it is final and after: the record is of the first vote, and the coins know the second's time."""
        for is_beaten, lives in ((False, 1), (False, 2), (True, 1)):
            alone = Alone(4)
            tx = alone.pay(alone.coins()[:2])
            alone.submit(tx)
            if is_beaten:  # by who takes one of its coins; the other cannot tell that this replica committed
                rival = alone.pay(alone.coins()[:1], amount=2 * COIN)
                alone.show(rival)
                alone.finish(rival)
            alone.vote(1, lock=[tx])
            alone.vote(2, lock=[tx])
            before = trace_of(alone.node, alone.genesis, tx.txid)
            assert before is not None
            status = "seen" if is_beaten else "pending"
            self.assertEqual((before.status, self.names(before)), (status, ["seen", "locked", "pending"]))
            for _ in range(lives):
                alone.start()
            again = trace_of(alone.node, alone.genesis, tx.txid)
            assert again is not None
            self.assertEqual((again.stages, again.complete), (before.stages, True))
            if not is_beaten:
                alone.finish(tx)
                after = trace_of(alone.node, alone.genesis, tx.txid)
                assert after is not None
                self.assertEqual((after.stages[:3], after.status, after.complete), (before.stages, "final", True))

    def test_what_older_versions_kept_has_no_times(self) -> None:
        """It says that it does not know them, and still who voted."""
        cluster, tx = self.cluster, self.cluster.payment(0, 0, 1)
        cluster.submit(tx, 0)
        cluster.pass_time(8_000)
        store = cluster.nodes[0].store
        store._transactions[tx.txid] = msgspec.structs.replace(  # type: ignore[attr-defined]
            store.transaction(tx.txid), times=None  # type: ignore[type-var]
        )
        trace = self.trace(tx)
        self.assertEqual((trace.status, trace.complete), ("confirmed", False))
        self.assertEqual([stage.name for stage in trace.stages], ["confirmed"])
        self.assertEqual(len(trace.commit), 3)

    def test_a_minted_coin(self) -> None:
        """A coinbase is confirmed and nothing before."""
        self.cluster.pass_time(8_000)
        decided = self.cluster.nodes[0].store.block(1)
        assert decided is not None
        trace = self.trace(decided.block.coinbase.txid)
        self.assertEqual((trace.status, [stage.name for stage in trace.stages]), ("confirmed", ["confirmed"]))
        self.assertEqual((trace.rivals, trace.complete), ((), True))

    def test_unknown(self) -> None:
        """Nothing is known, nothing is told."""
        self.assertIsNone(trace_of(self.cluster.nodes[0], self.cluster.genesis, "ab" * 32))


class Rivals(TraceCase):
    """Another transaction wants the coin."""

    def test_contested_then_aborted(self) -> None:
        """Both wait for a verdict; once it is decided, its votes, its block and its place in it are told."""
        one, two = self.half_and_half()
        trace = self.trace(one)
        self.assertEqual((trace.status, trace.contested, trace.waits_for), ("locked", True, "verdict"))
        (rival,) = trace.rivals
        self.assertEqual((rival.txid, rival.outpoint, rival.status), (two.txid, one.outpoints[0], "seen"))
        self.assertIsNotNone(rival.seen)
        self.assertFalse(rival.proven)
        self.assertEqual(self.trace(two).rivals[0].status, "locked")
        self.assertEqual(len(trace.missing), 2)
        self.cluster.pass_time(12_000)
        trace = self.trace(one)
        self.assertEqual((trace.status, trace.conflicting_txid, trace.refusal), ("aborted", None, None))
        self.assertEqual(self.names(trace), ["seen", "locked", "aborted"])
        self.assertEqual([(each.txid, each.status, each.height) for each in trace.rivals],
                         [(two.txid, "aborted", trace.height)])
        genesis = self.cluster.genesis
        assert trace.inclusion is not None
        check_inclusion(
            trace.inclusion, verdict_leaf("abort", one.txid), genesis.masternode_set, genesis.hash
        )
        self.assertEqual(trace.inclusion.header.height, trace.height)
        self.assertGreaterEqual(len(trace.abort), genesis.masternode_set.quorum)

    def test_a_loser_is_refused_then_ended_by_the_block(self) -> None:
        """While the winner is final and in no block it is refused by name; then the block with the winner ends it."""
        cluster = self.cluster
        loser, winner = (cluster.payment(0, 0, to) for to in (1, 2))
        cluster.partition([0], [1, 2, 3])
        cluster.submit(loser, 0)
        cluster.submit(winner, 1)
        cluster.run()
        cluster.heal()
        cluster.run()
        for _ in range(2):
            trace = self.trace(loser)
            self.assertEqual((trace.status, trace.waits_for), ("refused", None))
            assert trace.refusal is not None and trace.refusal.details is not None
            self.assertEqual((trace.refusal.code, trace.refusal.details["conflicting_txid"]),
                             ("double_spend", winner.txid))
            (rival,) = trace.rivals
            self.assertEqual((rival.txid, rival.status, rival.proven), (winner.txid, "final", True))
            self.assertEqual(self.names(trace), ["seen", "locked"])
            cluster.kill(0)  # the list of refused is memory, the votes are not
            cluster.restart(0)
        cluster.run()
        winning = self.trace(winner)
        self.assertEqual([(each.txid, each.status) for each in winning.rivals], [(loser.txid, "refused")])
        cluster.pass_time(8_000)
        trace = self.trace(loser)
        self.assertEqual((trace.status, trace.conflicting_txid), ("aborted", winner.txid))
        (rival,) = trace.rivals
        self.assertEqual((rival.status, rival.height, rival.proven), ("confirmed", trace.height, True))
        assert trace.inclusion is not None
        check_inclusion(trace.inclusion, transaction_leaf(winner.txid), cluster.genesis.masternode_set,
                        cluster.genesis.hash)

    def test_no_more_than_can_be_told(self) -> None:
        """Rivals past the bound are left out, and that is said."""
        self.patch(limits, "TRACE_RIVALS", 2)
        cluster = self.cluster
        coins = cluster.coins_of(0)[:1]
        rivals = [pay(cluster.genesis, coins, [(address(cluster.wallets[1]), COIN + each)]) for each in range(5)]
        for tx in rivals:
            cluster.submit(tx, 0)
        trace = self.trace(rivals[4])
        self.assertEqual((trace.status, len(trace.rivals), trace.more), ("seen", 2, True))
        self.assertEqual(trace.rivals[0].txid, rivals[0].txid)  # the one that has the coin comes first
        self.patch(limits, "TRACE_RIVALS", 4)
        self.assertEqual((len(self.trace(rivals[4]).rivals), self.trace(rivals[4]).more), (4, False))


class Alone4(SynchronousTestCase):
    """One replica, told exactly this and that."""

    def setUp(self) -> None:
        self.alone = Alone(4)

    def trace(self, tx: Transaction | str) -> Trace | None:
        return trace_of(self.alone.node, self.alone.genesis, tx if isinstance(tx, str) else tx.txid)

    def expect(self, tx: Transaction, status: TraceStatus, waits_for: str | None) -> Trace:
        trace = self.trace(tx)
        assert trace is not None
        self.assertEqual((trace.status, trace.waits_for), (status, waits_for))
        return trace

    def test_only_votes_are_here(self) -> None:
        """Announced: others speak of it, and it is not here."""
        tx = self.alone.pay(self.alone.coins()[:1])
        self.alone.vote(1, lock=[tx])
        trace = self.expect(tx, "announced", "transaction")
        self.assertEqual((trace.lock, trace.stages, trace.tx), ((self.alone.keys[1].public_hex,), (), None))

    def test_waiting_for_a_parent(self) -> None:
        """Seen, with the parents it waits for; when they are final it goes on, and was seen when it was."""
        alone = self.alone
        parent = alone.pay(alone.coins()[:1])
        child = pay(alone.genesis, [(parent.output_outpoint(0), COIN, alone.wallets[1])], [])
        alone.show(child)
        trace = self.expect(child, "seen", "parents")
        self.assertEqual(trace.parents, (parent.txid,))
        alone.show(parent)
        alone.finish(parent)
        after = self.expect(child, "locked", "lock")
        self.assertEqual((after.stages[0], after.stages[1].name, after.parents), (trace.stages[0], "locked", ()))

    def test_a_certificate_without_commits(self) -> None:
        """Pending: a quorum locked, and who has not committed is missing."""
        alone = self.alone
        tx = alone.pay(alone.coins()[:1])
        alone.submit(tx)
        for voter in (1, 2):
            alone.vote(voter, lock=[tx])
        trace = self.expect(tx, "pending", "commit")
        self.assertEqual([stage.name for stage in trace.stages], ["seen", "locked", "pending"])
        self.assertEqual(trace.commit, (alone.keys[0].public_hex,))
        self.assertEqual({each.node_key for each in trace.missing},
                         {alone.keys[each].public_hex for each in (1, 2, 3)})

    def test_final_by_proof_alone(self) -> None:
        """A node that cast no vote was never at the stages between, and says so by leaving them out."""
        alone = Alone(4, voting=False)
        tx = alone.pay(alone.coins()[:1])
        alone.show(tx)
        trace = trace_of(alone.node, alone.genesis, tx.txid)
        assert trace is not None
        self.assertEqual(trace.status, "seen")
        self.assertIsNotNone(trace.not_voting)
        alone.hear(messages.FinalityProofs(proofs=(alone.proof(tx, [1, 2, 3]),)))
        trace = trace_of(alone.node, alone.genesis, tx.txid)
        assert trace is not None
        self.assertEqual([stage.name for stage in trace.stages], ["seen", "final"])
        self.assertTrue(trace.complete)

    def test_refused_for_what_it_is(self) -> None:
        """Coins of another: the reason is remembered, as long as there is memory for it."""
        alone = self.alone
        (outpoint, amount, _), = alone.coins()[:1]
        stolen = pay(alone.genesis, [(outpoint, amount, alone.wallets[1])], [])
        alone.submit(stolen)
        trace = self.expect(stolen, "refused", None)
        assert trace.refusal is not None
        self.assertEqual((trace.refusal.code, trace.tx), ("not_owner", None))
        alone.start()
        self.assertIsNone(self.trace(stolen))

    def test_an_owner_asked_to_end_it(self) -> None:
        """Cancelled and contested without a rival; then this node's abort vote is there."""
        alone = self.alone
        tx = alone.pay(alone.coins()[:1])
        alone.submit(tx)
        alone.act(Cancel(cancel_of(alone, tx), "cancel"))
        trace = self.expect(tx, "locked", "verdict")
        self.assertEqual((trace.contested, trace.cancelled, trace.rivals, trace.abort), (True, True, (), ()))
        alone.tick(CONTEST_TICKS)
        self.assertEqual(self.expect(tx, "locked", "verdict").abort, (alone.keys[0].public_hex,))
