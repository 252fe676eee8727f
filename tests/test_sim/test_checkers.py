"""Each checker by itself: fed with what an honest masternode never does, it speaks up."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.test_sim.harness import make_scene, quiet_run
from timeproto.consensus.effects import Effects
from timeproto.model.block import BlockVote, BlockVoteKind, DecidedBlock, sign_block_vote
from timeproto.model.ledger import ChainTip, Changes, SignState, Transition
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import UNSPENT, Confirmed, Locked, SpentFinalized, UTXOState
from timeproto.model.vote import VoteBatch, sign_batch
from timeproto.sim.bounds import UNNAMED, excess, left_over
from timeproto.sim.chain_checks import ChainChecks
from timeproto.sim.events import SECOND
from timeproto.sim.masternode import Masternode
from timeproto.sim.promises import Broken
from timeproto.sim.round_checks import RoundChecks
from timeproto.sim.run import Run
from timeproto.sim.setting import address, setting
from timeproto.sim.vote_checks import LOCK, VoteChecks
from timeproto.sim.watchers import Watchers

replace = msgspec.structs.replace


class Checks(SynchronousTestCase):
    def breach(self, invariant: str, function: Any, *given: Any) -> None:
        broken = self.assertRaises(Broken, function, *given)
        self.assertEqual(broken.invariant, invariant, str(broken))


class Votes(Checks):
    def setUp(self) -> None:
        self.run_ = quiet_run()
        self.checks = VoteChecks(make_scene())
        self.checks._book = self.run_.book
        wallets = self.run_.wallets
        coins = wallets.take()
        self.first, self.second = wallets.pay(coins, share=0.2), wallets.pay(coins, share=0.3)

    def batch(self, number: int = 0, height: int = 0, **lists: list[str]) -> VoteBatch:
        genesis = self.run_.setting.genesis
        key = self.run_.setting.masternodes[number]
        return sign_batch(key, genesis.hash, genesis.masternode_set.hash, height, **lists)

    def keep(self, batch: VoteBatch) -> None:
        self.checks.kept([batch])
        self.checks.check([batch])

    def test_two_locks_for_one_coin(self) -> None:
        """I-2, also under another height; after a block ended the first it is no conflict."""
        self.keep(self.batch(lock=[self.first.txid]))
        self.breach("I-2", self.keep, self.batch(height=1, lock=[self.second.txid]))
        self.checks.endings[self.first.txid] = 2
        self.breach("I-2", self.keep, self.batch(height=1, lock=[self.second.txid]))

    def test_a_lock_after_the_end_of_the_other(self) -> None:
        """The height in the vote says that its voter knew the block."""
        self.keep(self.batch(lock=[self.first.txid]))
        self.checks.endings[self.first.txid] = 2
        self.keep(self.batch(height=2, lock=[self.second.txid]))
        self.breach("I-9", self.keep, self.batch(1, height=2, lock=[self.first.txid]))

    def test_a_vote_signed_again(self) -> None:
        """The same vote in another batch means that the first was forgotten."""
        self.keep(self.batch(lock=[self.first.txid]))
        self.breach("I-2", self.keep, self.batch(height=1, lock=[self.first.txid]))

    def test_a_commit_without_its_certificate(self) -> None:
        """q lock votes, those of the faulty counted; two are too few, and one liar more is enough."""
        for number in (0, 1):
            self.keep(self.batch(number, lock=[self.first.txid]))
        self.breach("I-5", self.keep, self.batch(commit=[self.first.txid]))
        self.checks.faulty = frozenset({self.run_.nodes[3].name})
        self.keep(self.batch(1, commit=[self.first.txid]))
        self.assertTrue(self.checks.can_have_quorum(LOCK, self.first.txid))

    def test_two_that_can_both_be_final(self) -> None:
        """I-1 counts what a liar could add: nobody has to show the second proof."""
        self.checks.faulty = frozenset({self.run_.nodes[3].name})
        for number, tx in ((0, self.first), (1, self.first), (2, self.second)):
            self.keep(self.batch(number, lock=[tx.txid]))
        self.checks.voters[LOCK][self.second.txid] = {"somebody", "else"}
        self.keep(self.batch(0, commit=[self.first.txid]))
        self.keep(self.batch(1, commit=[self.first.txid]))
        self.keep(self.batch(2, commit=[self.second.txid]))
        self.breach("I-1", self.keep, self.batch(0, height=1, commit=[self.second.txid]))

    def test_commit_and_abort(self) -> None:
        """Never both, in either order; and no abort of what nobody contests."""
        for number in range(3):
            self.keep(self.batch(number, lock=[self.first.txid]))
        self.keep(self.batch(0, commit=[self.first.txid]))
        self.breach("I-2", self.keep, self.batch(0, abort=[self.first.txid]))
        self.keep(self.batch(1, abort=[self.first.txid]))
        self.breach("I-2", self.keep, self.batch(1, commit=[self.first.txid]))
        alone = self.run_.wallets.next_payment()
        self.breach("I-9", self.keep, self.batch(2, abort=[alone.txid]))

    def test_a_vote_for_what_is_not_valid(self) -> None:
        """Unknown to every wallet, or known to be bad (I-6)."""
        self.breach("I-6", self.keep, self.batch(lock=["ab" * 32]))
        self.run_.book.entries[self.first.txid].valid = False
        self.breach("I-6", self.keep, self.batch(lock=[self.first.txid]))

    def test_votes_that_were_not_kept(self) -> None:
        """What is sent must be what is on the disk (I-3), and what is handed on must be signed (I-14)."""
        node = self.run_.nodes[0]
        batch = self.batch(lock=[self.first.txid])
        self.breach("I-3", self.checks.sent, node, batch)
        self.checks.kept([batch])
        self.breach("I-3", self.checks.sent, node, batch)  # its store does not have it
        forged = replace(self.batch(1, lock=[self.first.txid]), signature="0" * 128)
        self.breach("I-14", self.checks.sent, node, forged)


class Rounds(Checks):
    def setUp(self) -> None:
        self.setting = setting(4, 1)
        self.checks = RoundChecks(make_scene(faulty=(3,)))

    def vote(self, number: int, kind: str, round_: int, block: str | None, valid: int | None = None) -> BlockVote:
        genesis, key = self.setting.genesis, self.setting.masternodes[number]
        unsigned = BlockVote(
            BlockVoteKind(kind), key.public_hex, genesis.masternode_set.hash, 1, round_, block, valid, "0" * 128
        )
        return sign_block_vote(key, genesis.hash, unsigned)

    def keep(self, *votes: BlockVote) -> None:
        for vote in votes:
            self.checks.kept(None, SignState(1, vote.round, (vote,)))  # type: ignore[arg-type]

    def test_two_words_for_one_place(self) -> None:
        """I-2; the same word again is none."""
        self.keep(self.vote(0, "prevote", 0, "ab" * 32))
        self.keep(self.vote(0, "prevote", 0, "ab" * 32))
        self.breach("I-2", self.keep, self.vote(0, "prevote", 0, None))

    def test_a_precommit_without_a_polka(self) -> None:
        """One honest prevote and one that a liar may add are no quorum of four, two and one are."""
        self.keep(self.vote(0, "prevote", 0, "ab" * 32))
        self.breach("I-5", self.keep, self.vote(0, "precommit", 0, "ab" * 32))
        self.keep(self.vote(1, "prevote", 0, "ab" * 32), self.vote(1, "precommit", 0, "ab" * 32))
        self.keep(self.vote(2, "precommit", 0, None))

    def test_a_lock_binds(self) -> None:
        """Whoever precommitted prevotes another block only after a later polka for it."""
        first, second = "ab" * 32, "cd" * 32
        self.keep(self.vote(0, "prevote", 0, first), self.vote(1, "prevote", 0, first))
        self.keep(self.vote(0, "precommit", 0, first))
        self.keep(self.vote(0, "prevote", 1, first))
        self.breach("I-11", self.keep, self.vote(0, "prevote", 2, second))
        self.keep(self.vote(1, "prevote", 2, second), self.vote(2, "prevote", 2, second))
        self.keep(self.vote(0, "prevote", 3, second))

    def test_two_blocks_that_can_be_decided(self) -> None:
        """I-11 on words alone: nobody has to show the second commit."""
        first, second = "ab" * 32, "cd" * 32
        self.keep(*(self.vote(number, "prevote", 0, first) for number in (0, 1)))
        self.keep(*(self.vote(number, "precommit", 0, first) for number in (0, 1)))
        self.checks._locked.clear()
        for number in (0, 1):
            self.keep(self.vote(number, "prevote", 1, second))
        self.keep(self.vote(0, "precommit", 1, second))
        self.breach("I-11", self.keep, self.vote(1, "precommit", 1, second))

    def test_out_of_turn_and_without_ground(self) -> None:
        """A proposal by another than the round's proposer, or for a polka that cannot be."""
        self.breach("I-12", self.keep, self.vote(0, "proposal", 0, "ab" * 32))
        self.keep(self.vote(1, "proposal", 0, "ab" * 32))
        self.breach("I-5", self.keep, self.vote(2, "proposal", 1, "ab" * 32, 0))


class Ledgers(Checks):
    """On a run that has gone well so far."""

    def setUp(self) -> None:
        self.run_ = quiet_run()
        with self.run_.world():
            self.run_.start()
            self.run_.events.run_until(3 * SECOND)
            self.tx: Transaction = self.run_.wallets.next_payment()
            self.run_.wallets.submit(self.tx, self.run_.nodes[0])
            self.run_.events.run_until(8 * SECOND)
        self.node: Masternode = self.run_.nodes[0]
        self.checks = self.run_.checkers.ledgers

    def changes(self, *steps: tuple[UTXOState | None, UTXOState], position: int | None = None) -> Changes:
        summary = self.node.store.summary()
        outpoint = self.tx.output_outpoint(0)
        first = summary.position + 1 if position is None else position
        transitions = [
            Transition(first + place, outpoint, self.tx.outputs[0], old, new, "ab" * 32, 1)
            for place, (old, new) in enumerate(steps)
        ]
        return Changes(summary, transitions=transitions)

    def test_steps_that_the_table_has_not(self) -> None:
        """From Unspent to Confirmed; from a state that it was not in; at another position (I-10, S-1, S-3)."""
        confirmed = Confirmed("ab" * 32, 1, 1)
        self.breach("I-10", self.checks.committed, self.node, self.changes((UNSPENT, confirmed)))
        self.setUp()
        self.breach("S-3", self.checks.committed, self.node, self.changes((None, UNSPENT)))
        self.setUp()
        self.breach("S-1", self.checks.committed, self.node, self.changes((UNSPENT, Locked("ab" * 32, 1)), position=1))

    def test_a_release_without_a_block(self) -> None:
        """I-9: neither to Unspent nor to another transaction."""
        steps = (UNSPENT, Locked("ab" * 32, 1)), (Locked("ab" * 32, 1), UNSPENT)
        self.breach("I-9", self.checks.committed, self.node, self.changes(*steps))
        self.setUp()
        steps = (UNSPENT, SpentFinalized("ab" * 32, 1, 3)), (SpentFinalized("ab" * 32, 1, 3), Locked("cd" * 32, 1))
        self.breach("I-10", self.checks.committed, self.node, self.changes(*steps))

    def test_value_from_nowhere(self) -> None:
        """I-7: the sums in the summary."""
        changes = self.changes()
        tallies = dict(changes.summary.tallies)
        tally = tallies["Unspent"]
        tallies["Unspent"] = replace(tally, amount=tally.amount + 1)
        wrong = Changes(replace(changes.summary, tallies=tallies))
        self.breach("I-7", self.checks.committed, self.node, wrong)

    def test_final_without_proof(self) -> None:
        """I-3 and I-5: what is called final is kept with what makes it so."""
        other = self.run_.wallets.next_payment()
        changes = Changes(self.node.store.summary(), finalized=[other.txid])
        self.breach("I-3", self.checks.committed, self.node, changes)
        self.node.store._transactions[other.txid] = replace(self.node.store.transaction(self.tx.txid), tx=other)
        self.breach("I-5", self.checks.committed, self.node, changes)
        bare = replace(self.node.store.transaction(other.txid), kept=None, height=None)
        self.node.store._transactions[other.txid] = bare
        self.breach("I-5", self.checks.committed, self.node, changes)

    def test_memory_beyond_its_bounds(self) -> None:
        """A container that nobody bounds is found by its size alone, and what is left at rest too (L-7)."""
        self.assertEqual(list(left_over(self.node)), [])
        self.node.replica._gossip._forgotten = list(range(UNNAMED + 1))  # type: ignore[attr-defined]
        self.assertIn("Gossip._forgotten", next(excess(self.node)))
        del self.node.replica._gossip._forgotten  # type: ignore[attr-defined]
        tx = self.run_.wallets.next_payment()
        self.node.replica.payments.seen(self.node.replica.payments.open(tx.txid, 0), tx, None, 0)
        self.node.replica.payments.contend(self.node.replica.payments.get(tx.txid))  # type: ignore[arg-type]
        self.assertIn("coins that somebody wants", next(left_over(self.node)))


class Chains(Checks):
    """Every figure of a decided block, bent by one."""

    run_: Run

    def setUp(self) -> None:
        self.run_ = quiet_run()
        with self.run_.world():
            self.run_.start()
            self.run_.events.run_until(2 * SECOND)
            for _ in range(3):
                self.run_.wallets.submit(self.run_.wallets.next_payment(), self.run_.nodes[0])
            self.run_.events.run_until(6 * SECOND)
        store = self.run_.nodes[0].store
        self.blocks = [store.block(height) for height in range(1, store.tip().height + 1)]
        self.summary = store.summary()

    def replay(self, decided: DecidedBlock, height: int) -> None:
        """A new checker is shown the chain, with ``decided`` at ``height``."""
        checkers = self.run_.checkers
        scene = make_scene()
        checks = ChainChecks(scene, checkers.votes, lambda: 10**15)
        checks._book = self.run_.book
        chain = [*self.blocks[: height - 1], decided]
        for place, each in enumerate(chain):
            header, digest = each.block.header, each.commit.block
            commitment = f"{checkers.chain._commitments[place]:x}"
            minted, due = checkers.chain._subsidies[place + 1]
            tip = ChainTip(header.height, digest, header.timestamp, minted, due, commitment)
            with self.run_.world():
                checks.committed(self.run_.nodes[0], Changes(self.summary, blocks=[each], tip=tip), place)

    def test_the_chain_as_it_is(self) -> None:
        """Nothing is wrong with it, retold to a checker that has seen none of it."""
        self.assertGreater(len(self.blocks), 2)
        self.run_.checkers.votes.endings.clear()
        self.replay(self.blocks[-1], len(self.blocks))

    def test_another_tip(self) -> None:
        """A masternode whose tip or commitment is not the chain's (I-11)."""
        first = self.blocks[0]
        checks = ChainChecks(make_scene(), self.run_.checkers.votes, lambda: 10**15)
        changes = Changes(self.summary, blocks=[first], tip=None)
        with self.run_.world():
            self.breach("I-11", checks.committed, self.run_.nodes[0], changes, 0)

    def test_each_thing_that_can_be_wrong(self) -> None:
        """Parent, time, proposer, root, commitment, coinbase, contents, commit."""
        height = next(at for at, each in enumerate(self.blocks, 1) if each.block.transactions)
        good = self.blocks[height - 1]
        block, header = good.block, good.block.header
        coinbase = block.coinbase
        richer = replace(coinbase, outputs=(replace(coinbase.outputs[0], amount=coinbase.outputs[0].amount + 1),))
        for invariant, bad in (
            ("I-12", replace(block, header=replace(header, parent="ab" * 32))),
            ("I-12", replace(block, header=replace(header, timestamp=1))),
            ("I-12", replace(block, header=replace(header, proposer="ab" * 32))),
            ("I-12", replace(block, header=replace(header, root="ab" * 32))),
            ("I-12", replace(block, header=replace(header, set="ab" * 32))),
            ("I-12", replace(block, transactions=block.transactions[:-1])),
            ("I-7", replace(block, coinbase=richer)),
            ("I-5", replace(block, header=replace(header, commitment="ab" * 32))),
        ):
            self.breach(invariant, self.replay, replace(good, block=bad), height)
        few = replace(good.commit, signatures=good.commit.signatures[:-1])
        twice = replace(good.commit, signatures=(*good.commit.signatures[:-1], good.commit.signatures[0]))
        for commit in (few, twice):
            self.breach("I-5", self.replay, replace(good, commit=commit), height)


class Watching(Checks):
    def test_every_way_to_tell_wrongly(self) -> None:
        """Twice, out of order, of another owner, not at all, without the block (S-2, S-3, S-5, S-6, S-10)."""
        run = quiet_run()
        with run.world():
            run.start()
            run.events.run_until(SECOND)
        node = run.nodes[0]
        genesis = run.setting.genesis
        mine = address(run.wallets.keys[0])
        coins = [(outpoint, output.address) for outpoint, output in genesis.coins()]
        watchers = Watchers((mine,), coins)
        watchers.started(node)
        watcher = watchers._watchers[node.name]
        outpoint, output = next(each for each in genesis.coins() if each[1].address == mine)
        other = next(each for each in genesis.coins() if each[1].address != mine)
        locked = Locked("ab" * 32, 1)
        step = Transition(5, outpoint, output, UNSPENT, locked, "ab" * 32, 1)
        self.breach("S-6", watcher.tell, node, replace(step, outpoint=other[0], output=other[1]))
        self.breach("S-3", watcher.tell, node, replace(step, old_state=locked))
        watcher.tell(node, step)
        self.breach("S-2", watcher.tell, node, step)
        self.breach("S-5", watchers.conclude, node)
        confirmed = replace(step, position=6, old_state=locked, new_state=Confirmed("ab" * 32, 1, 1))
        bare = Effects(Changes(node.store.summary(), transitions=[confirmed]))
        self.breach("S-10", watchers.released, node, bare)
        watcher.cursor = 10**6
        self.breach("S-10", watchers.started, node)
