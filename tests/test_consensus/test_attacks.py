"""What one liar or one wallet could do to the consensus core, until somebody tried: and can do no more."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import address, pay, sign
from tests.examples import replace
from tests.test_consensus.blocks import PRECOMMIT, PREVOTE, PROPOSAL, Chained
from timeproto import limits
from timeproto.consensus.effects import Heard, Tick, Timer
from timeproto.consensus.rounds import Judgement, Propose, Rounds, Say
from timeproto.model.transaction import FINAL_SEQUENCE, Outpoint, TxInput, TxOutput
from timeproto.model.vote import sign_batch
from timeproto.params import COIN
from timeproto.wire import codec, messages


class OldLockTests(SynchronousTestCase):
    def test_a_polka_older_than_the_rounds_kept_still_counts_for_its_proposer(self) -> None:
        """Who proposes again the block of a polka long ago prevotes it too: with f silent its word is needed."""
        chained = Chained()
        me = chained.keys[0].public_hex
        round_ = chained.round_of(0, limits.ROUNDS_KEPT + 1)
        rounds = Rounds(1, chained.set, me)
        block = "ab" * 32
        rounds.start()
        rounds.take()
        rounds.judge(block, Judgement.GOOD)
        rounds.hear(chained.word(PROPOSAL, chained.proposer(0), 0, block))
        for voter in (0, 1, 2):
            rounds.hear(chained.word(PREVOTE, voter, 0, block))
        said = [action for _ in range(3) for action in rounds.take()]
        self.assertIn(Say(PRECOMMIT, 0, block), said)
        for voter in (1, 2):
            rounds.hear(chained.word(PREVOTE, voter, round_, None))  # f + 1 are there already
        said = [action for _ in range(3) for action in rounds.take()]
        proposed = next(action for action in said if isinstance(action, Propose))
        self.assertEqual((block, 0), (proposed.block, proposed.valid_round))
        rounds.hear(chained.word(PROPOSAL, 0, round_, block, 0))
        said = [action for _ in range(3) for action in rounds.take()]
        self.assertIn(Say(PREVOTE, round_, block), said)


class AccusationTests(SynchronousTestCase):
    def test_nobody_honest_is_accused_over_a_payment_that_waits_for_a_parent(self) -> None:
        """Voter 3 locked what a block ended, then the freed coin's next payment: it did what it should."""
        chained = Chained()
        mine = chained.coins(0)
        parent = chained.pay([mine[2]])  # final at voter 3, not here yet
        ended = chained.pay([mine[0], mine[1], chained.change_of(parent)])
        winner = chained.pay([mine[1]], amount=2 * COIN)
        chained.show(winner)
        chained.finish(winner)
        early = sign_batch(chained.keys[3], chained.genesis.hash, chained.set.hash, 0, lock=[ended.txid])
        chained.decide([winner])  # ends the payment that spends the same coin
        first, second = chained.pay([mine[0]]), chained.pay([mine[0]], amount=3 * COIN)
        chained.show(first, second)
        late = sign_batch(chained.keys[3], chained.genesis.hash, chained.set.hash, 1, lock=[first.txid])
        chained.hear(late, 3)
        chained.show(ended)
        chained.hear(early, 3)
        self.assertEqual([], chained.store.evidence(9))


class HugeBatchTests(SynchronousTestCase):
    def test_votes_for_what_nobody_has_seen_are_bounded_whatever_batches_carry_them(self) -> None:
        """A liar's 60 unseen payments keep no more votes of its in memory than the bound for one voter allows."""
        self.patch(limits, "VOTES_KEPT", 30_000)
        chained = Chained()
        filler = [f"{number:064x}" for number in range(limits.BATCH_VOTES - 1)]
        for number in range(60):
            lock = [*filler, f"{number + (1 << 200):064x}"]
            batch = sign_batch(chained.keys[3], chained.genesis.hash, chained.set.hash, 0, lock=lock)
            chained.hear(batch, 3)
        kept = {batch.signature: batch for payment in chained.replica.payments for batch in payment.votes.batches()}
        self.assertLessEqual(sum(batch.tree.size for batch in kept.values()), limits.VOTES_KEPT)

    def test_an_answer_about_votes_leaves_the_link_standing(self) -> None:
        """What one request for votes makes this node send fits what may wait for a masternode that reads slowly."""
        chained = Chained()
        filler = [f"{number:064x}" for number in range(limits.BATCH_VOTES - 1)]
        asked = [f"{number + (1 << 200):064x}" for number in range(82)]
        for txid in asked:
            votes = dict.fromkeys(("commit", "abort"), filler)
            batch = sign_batch(
                chained.keys[3], chained.genesis.hash, chained.set.hash, 0, lock=[*filler, txid], **votes
            )
            chained.hear(batch, 3)
        sent = chained.hear(messages.GetVotes(txids=tuple(asked)), 1).send
        self.assertLess(sum(len(codec.encode(message)) for _, message in sent), limits.OUT_QUEUE_PEER)


class BigPageTests(SynchronousTestCase):
    def test_an_answer_about_transactions_leaves_the_link_standing(self) -> None:
        """A laggard asks for the first 500 transactions of a block, all of nearly the largest size, again and again."""
        chained = Chained()
        owner = chained.wallets[0]
        inputs = tuple(
            TxInput(Outpoint(f"{number:064x}", 0), tuple(owner.public_bytes), FINAL_SEQUENCE)
            for number in range(limits.INPUTS)
        )
        tx = sign(chained.genesis, inputs, (TxOutput(COIN, address(owner)),) * 300, [owner], fee=100_000)
        self.assertLess(len(tx.canonical) + len(tx.signature), limits.TRANSACTION_SIZE)
        payments = chained.replica.payments
        txids = [f"{number:064x}" for number in range(limits.FETCH)]
        for txid in txids:  # one transaction stands in for all: building so many valid ones takes a test too long
            payments.seen(payments.open(txid, 0), tx, None, 0)
        sent = chained.hear(messages.GetTransactions(txids=tuple(txids)), 1).send
        size = len(codec.encode(sent[0][1])) * len(sent)
        self.assertLess(size, limits.OUT_QUEUE_PEER)


class GreedTests(SynchronousTestCase):
    def test_who_asks_again_and_again_is_answered_once_in_a_tick(self) -> None:
        """Thirty times the same question about the same large payments: no more than the bound, until the next tick."""
        self.patch(limits, "ANSWER", 20_000)
        chained = Chained(coins=40)
        payments = [chained.pay([coin]) for coin in chained.coins()]
        chained.show(*payments)
        question = messages.GetTransactions(txids=tuple(tx.txid for tx in payments))

        def told() -> int:
            effects = chained.act(*[Heard(question, chained.keys[1].public_hex)] * 30)
            return sum(len(codec.encode(message)) for _, message in effects.send)

        first = told()
        self.assertTrue(0 < first < 25_000, first)
        self.assertEqual(told(), 0)
        chained.tick(1)
        self.assertEqual(told(), first)

    def test_the_list_of_finals_comes_out_of_the_same_budget(self) -> None:
        """400 small questions in one step were told 54 MB. The last of too many is answered in the next tick."""
        self.patch(limits, "ANSWER", 20_000)
        chained = Chained(coins=40)
        payments = [chained.pay([coin]) for coin in chained.coins()]
        chained.hear(messages.Transactions(
            transactions=tuple(payments), proofs=tuple(chained.proof(tx) for tx in payments)
        ))
        question = Heard(messages.GetFinalized(since=0), chained.keys[1].public_hex)
        listed = messages.Finalized(txids=tuple(tx.txid for tx in payments), next=40, head=40)

        def told(*more: Heard) -> list[messages.AnyMessage]:
            return [message for _, message in chained.act(*[question] * 30, *more).send]

        first = told(Heard(messages.GetTransactions(txids=(payments[0].txid,)), question.sender))
        self.assertEqual(first, [listed] * len(first))
        self.assertTrue(17_500 < sum(len(codec.encode(each)) for each in first) < 25_000)
        self.assertEqual(told(), [])
        self.assertEqual([len(chained.act(Heard(question.message, each.public_hex)).send) for each in chained.keys[2:]],
                         [1] * len(chained.keys[2:]))
        effects = chained.act(Tick())
        self.assertEqual([message for _, message in effects.send if isinstance(message, messages.Finalized)], [listed])
        self.assertEqual(told(), first[1:])


class LateTests(SynchronousTestCase):
    def test_each_peer_is_asked_about_each_late_payment(self) -> None:
        """However many payments are late: with 1,500 and three peers, the window and the turn move in step."""
        chained = Chained()
        txids = [f"{number:064x}" for number in range(3 * limits.FETCH)]
        for start in range(0, len(txids), limits.FETCH):
            votes = txids[start : start + limits.FETCH]
            chained.hear(sign_batch(chained.keys[3], chained.genesis.hash, chained.set.hash, 0, lock=votes), 3)
        since = len(chained.node.effects)
        chained.tick(30)
        asked = {
            to
            for effects in chained.node.effects[since:]
            for to, message in effects.send
            if isinstance(message, messages.GetVotes) and txids[0] in message.txids
        }
        self.assertEqual(asked, {each.public_hex for each in chained.keys[1:]})

    def flood(self, chained: Chained, liar: int, number: int) -> None:
        """``liar`` votes for so many payments that nobody can show."""
        for start in range(0, number, limits.FETCH):
            votes = [f"{liar:032x}{each:032x}" for each in range(start, start + limits.FETCH)]
            chained.hear(sign_batch(chained.keys[liar], chained.genesis.hash, chained.set.hash, 0, lock=votes), liar)

    def asked_by(self, chained: Chained, ticks: int, kind: type, txid: str) -> dict[str | None, int]:
        """Who is asked about ``txid`` within so many ticks, and in which of them first."""
        first: dict[str | None, int] = {}
        for tick in range(1, ticks + 1):
            chained.tick()
            for to, message in chained.node.effects[-1].send:
                if isinstance(message, kind) and txid in message.txids:  # type: ignore[attr-defined]
                    first.setdefault(to, tick)
        return first

    def test_what_nobody_can_show_keeps_no_payment_waiting(self) -> None:
        """Two liars speak of thousands that do not exist: all are asked about what is here, as soon as it is late."""
        chained = Chained(7)
        for liar in (5, 6):
            self.flood(chained, liar, 6 * limits.FETCH)
        tx = chained.pay(chained.coins(0)[:1])
        chained.submit(tx)
        late = int(limits.LATE / limits.TICK) + len(chained.others)
        self.assertEqual(len(self.asked_by(chained, late, messages.GetVotes, tx.txid)), 6)

    def test_each_voter_has_its_share_of_what_is_not_here(self) -> None:
        """An honest one alone speaks of a payment, beside a flood of liars and a thousand late ones: it is asked."""
        chained = Chained(7, coins=3 * limits.FETCH)
        coins = chained.coins(0)
        chained.show(*(chained.pay([coin]) for coin in coins[:-1]))
        for liar in (5, 6):
            self.flood(chained, liar, 6 * limits.FETCH)
        tx = chained.pay(coins[-1:])
        chained.vote(2, lock=[tx])
        chained.tick(int(limits.LATE / limits.TICK))
        asked = self.asked_by(chained, 2, messages.GetTransactions, tx.txid)
        self.assertEqual(list(asked), [chained.keys[2].public_hex])

    def test_made_up_parents_keep_no_other_parent_waiting(self) -> None:
        """A liar's orphans have thousands of them: the one that an honest payment waits for is asked for in turn."""
        chained = Chained()
        parent = chained.pay(chained.coins(0)[:1])
        child = chained.pay([chained.change_of(parent)])
        for number in range(20):
            made_up = [(Outpoint(f"{number:032x}{each:032x}", 0), COIN, chained.wallets[0]) for each in range(200)]
            chained.show(pay(chained.genesis, made_up, [], fee=100_000), peer=3)
        chained.show(child, peer=1)
        asked = self.asked_by(chained, 4, messages.GetTransactions, parent.txid)
        self.assertEqual(set(asked), {each.public_hex for each in chained.keys[1:]})


class VerdictTests(SynchronousTestCase):
    def test_verdicts_that_no_block_had_room_for_do_not_wait_for_an_interval(self) -> None:
        """With more contested payments in line than a block can decide the next height begins at once."""
        self.patch(limits, "BLOCK_VERDICTS", 2)
        chained = Chained()
        mine = chained.coins(0)
        pairs = [(chained.pay([coin]), chained.pay([coin], amount=2 * COIN)) for coin in mine]
        for pair in pairs:
            chained.show(*pair)
        for tx in (tx for pair in pairs for tx in pair):
            for voter in (1, 2, 3):
                chained.hear(
                    sign_batch(chained.keys[voter], chained.genesis.hash, chained.set.hash, 0, abort=[tx.txid]), voter
                )
        chained.tick(6)
        self.assertEqual(2 * len(mine), chained.replica.contested)
        chained.now = chained.time + 10_000
        since = len(chained.node.effects)
        doomed = sorted((tx for pair in pairs for tx in pair), key=lambda tx: tx.txid)[:2]
        chained.decide(verdicts=[chained.verdict(tx, "abort") for tx in doomed])
        self.assertEqual(1, chained.tip)
        waits = [
            milliseconds
            for effects in chained.node.effects[since:]
            for milliseconds, wake in effects.timers
            if wake.what is Timer.HEIGHT
        ]
        self.assertEqual([0], waits)


class WorkTests(SynchronousTestCase):
    def test_a_block_of_what_is_not_final_costs_nothing_in_the_steps_that_follow(self) -> None:
        """A liar's proposal names what is here and undecided: it is judged again when one of them is final."""
        chained = Chained(coins=100)
        payments = [chained.pay([coin]) for coin in chained.coins(0)]
        chained.show(*payments)
        chained.propose(chained.block(sorted(payments, key=lambda tx: tx.txid)))
        chained.begin()
        looks: list[str] = []
        look = chained.store.transaction
        self.patch(chained.store, "transaction", lambda txid: looks.append(txid) or look(txid))
        chained.hear(messages.GetFinalized(since=0))
        self.assertEqual([], looks)


class NamingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(limits, "RIVALS_PER_OUTPOINT", 4)
        self.chained = Chained()
        if self.chained.proposer() == 0:
            self.chained.decide()
        self.rivals = [self.chained.pay(self.chained.coins(0)[:1], amount=COIN + each) for each in range(20)]
        self.chained.tick()
        self.chained.begin()

    def kept(self) -> list[str]:
        """The rivals that the replica keeps."""
        return [each.txid for each in self.chained.replica.payments.wanting(self.rivals[0].outpoints[0])]

    def test_a_liars_proposal_lets_no_crowd_in(self) -> None:
        """It names twenty rivals of one coin and shows them: the replica keeps as many as without it."""
        block = self.chained.block(self.rivals[:1])
        block = replace(block, transactions=tuple(sorted(each.txid for each in self.rivals)))
        block = replace(block, header=replace(block.header, root=block.tree.root.hex()))
        self.chained.propose(block)
        self.chained.show(*self.rivals, peer=self.chained.proposer())
        self.assertEqual(self.kept(), [each.txid for each in self.rivals[:4]])

    def test_what_a_verdict_commits_is_let_in(self) -> None:
        """The coin's crowd is here and the one that is certified is not: it is fetched, and the block voted for."""
        chained, tx = self.chained, self.rivals[19]
        chained.show(*self.rivals[:4])
        block = chained.block([tx], [chained.verdict(tx, "commit")])
        effects = chained.propose(block)
        proposer = chained.keys[chained.proposer()].public_hex
        self.assertIn((proposer, messages.GetTransactions(txids=(tx.txid,))), effects.send)
        chained.show(*self.rivals[5:])
        self.assertEqual(self.kept(), [each.txid for each in [*self.rivals[:4], tx]])
        self.assertEqual(chained.said(), [("prevote", 0, chained.hash(block))])

    def test_what_is_final_is_let_in_with_its_proof(self) -> None:
        """An honest block names what is final and not here, and nothing undecided has room any more."""
        self.patch(limits, "IN_FLIGHT_PEER", 4)
        chained = self.chained
        chained.show(*self.rivals[:4])
        paid = chained.pay(chained.coins(0)[1:2])
        block = chained.block([paid])
        chained.propose(block)
        chained.show(paid)
        self.assertEqual(chained.said(), [])
        chained.hear(messages.Transactions(transactions=(paid,), proofs=(chained.proof(paid),)))
        self.assertEqual(chained.said(), [("prevote", 0, chained.hash(block))])


class LastRoundTests(SynchronousTestCase):
    def test_the_last_round_there_is_ends_no_node(self) -> None:
        """More than f liars speak of round 2^32 - 1: whatever follows, no exception leaves the step."""
        chained = Chained()
        chained.begin()
        last = 2**32 - 1
        chained.say(PREVOTE, last, None)
        chained.say(PRECOMMIT, last, None)
        for what in (Timer.PROPOSE, Timer.PREVOTE, Timer.PRECOMMIT):
            chained.wake(what, last)
        for round_ in (last, last + 1):
            chained.wake(Timer.PROPOSE, round_)
        self.assertEqual(0, chained.tip)


class RetainedTests(SynchronousTestCase):
    def test_a_wallets_double_spends_do_not_make_an_honest_voter_unheard(self) -> None:
        """In each batch of voter 1 one vote is for a contested payment, the rest are over: its next votes count."""
        chained = Chained(coins=76)
        mine = chained.coins(0)
        contested = [chained.pay([coin]) for coin in mine[:75]]
        rivals = [chained.pay([coin], amount=2 * COIN) for coin in mine[:75]]
        chained.show(*contested, *rivals)
        for number, tx in enumerate(contested):
            over = [f"{number:x}{each:063x}" if number < 16 else f"{number:02x}{each:062x}" for each in range(4095)]
            lock = sorted({*over, tx.txid})
            chained.hear(sign_batch(chained.keys[1], chained.genesis.hash, chained.set.hash, 0, lock=lock), 1)
        payment = chained.pay([mine[75]])
        chained.show(payment)
        busy = [f"{each:064x}" for each in range(500)]
        for voter in (1, 2):  # 3 is the silent liar
            votes = {kind: sorted([*busy, payment.txid]) for kind in ("lock", "commit")}
            chained.hear(sign_batch(chained.keys[voter], chained.genesis.hash, chained.set.hash, 0, **votes), voter)
        self.assertTrue(chained.is_final(payment))


class ForgottenTests(SynchronousTestCase):
    def test_votes_forgotten_for_want_of_room_take_no_certificate_away_in_the_same_step(self) -> None:
        """A liar's padded batch makes a quorum of commits; its next one, in the same step, pushes that one out."""
        chained = Chained()
        liar, payment = chained.keys[3], chained.pay([chained.coins(0)[0]])
        chained.show(payment)

        filler = [f"{each:064x}" for each in range(limits.BATCH_VOTES - 1)]

        def padded(**votes: list[str]) -> Heard:
            batch = sign_batch(liar, chained.genesis.hash, chained.set.hash, 0, **votes)
            return Heard(batch, liar.public_hex)

        chained.act(padded(lock=filler, abort=filler))
        chained.act(padded(lock=[payment.txid]))
        chained.act(padded(commit=[payment.txid], lock=filler, abort=filler))
        for number in range(68):
            chained.act(padded(lock=[*filler, f"{number + (1 << 200):064x}"]))
        ours = Heard(chained.batch(1, [payment], [payment]), chained.keys[1].public_hex)
        chained.act(ours, *(padded(lock=[*filler, f"{number + (1 << 210):064x}"]) for number in range(4)))
        self.assertIsNone(chained.replica.not_voting)
        self.assertTrue(chained.is_final(payment))
