"""Wallets, liars' blocks, limits, names: the parts of a run that decide what is tried at all."""

from __future__ import annotations

import random
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.test_sim.harness import quiet_run
from timeproto import limits
from timeproto.errors import ConfigurationError
from timeproto.model import keys
from timeproto.model.transaction import sighash
from timeproto.model.validation import check_stateless
from timeproto.sim.bad_blocks import BadBlocks
from timeproto.sim.disk import copy_of
from timeproto.sim.events import SECOND
from timeproto.sim.faults import KINDS, chosen
from timeproto.sim.figure import latency_plot
from timeproto.sim.latency import measure, percentile
from timeproto.sim.setting import key, setting
from timeproto.sim.signatures import CHECKING, Signatures, Signer
from timeproto.sim.tight import HASTY, TIGHT, changed


class SharedArithmetic(SynchronousTestCase):
    def test_every_module_that_checks_signatures_is_known(self) -> None:
        """Whoever imports ``verify`` in the rooms that are simulated asks the run's memory."""
        rooms = ("timeproto.model", "timeproto.consensus")
        using = {
            name for name, module in sys.modules.items()
            if name.startswith(rooms) and vars(module).get("verify") is keys.verify and module is not keys
        }
        self.assertEqual(using, {module.__name__ for module in CHECKING})

    def test_what_was_signed_in_the_run_holds_and_nothing_else(self) -> None:
        """Made here, altered, of another text or key: only the first holds, and a key signs one way."""
        signatures = Signatures()
        signer, message = Signer(key(5), signatures), b"words"
        signature = signer.sign(message)
        self.assertEqual((len(signature), signer.sign(message)), (64, signature))
        self.assertNotEqual(signature, Signer(key(6), Signatures()).sign(message))
        for public, text, signed, holds in (
            (signer.public_bytes, message, signature, True),
            (signer.public_bytes, message, signature[:-1] + bytes([signature[-1] ^ 1]), False),
            (signer.public_bytes, b"other", signature, False),
            (key(6).public_bytes, message, signature, False),
        ):
            for _ in range(2):
                self.assertIs(signatures.verify(public, text, signed), holds)

    def test_the_answers_about_all_else_are_those_of_the_curve(self) -> None:
        """Made elsewhere, forged: the same answer as without the memory, and none is left behind."""
        signatures, message, made = Signatures(), b"words", key(6).sign(b"words")
        for public, text, signed in (
            (key(6).public_bytes, message, made),
            (key(6).public_bytes, message, made[:-1] + b"\xff"),
            (key(5).public_bytes, message, made),
            (b"short", message, made),
        ):
            for _ in range(2):
                self.assertEqual(signatures.verify(public, text, signed), keys.verify(public, text, signed))
        before = [dict(vars(module)) for module in CHECKING]
        with signatures.shared():
            self.assertNotEqual(CHECKING[0].verify, keys.verify)
            for module in CHECKING:  # a keyed hash is not to be taken for a signature that does not hold
                self.assertNotIn(keys.checked_together, vars(module).values())
        self.assertEqual([dict(vars(module)) for module in CHECKING], before)

    def test_a_second_signature_is_valid(self) -> None:
        """Another nonce, another signature, the same key: Ed25519 lets an owner do that."""
        signer = Signer(key(7), Signatures())
        other = signer.sign_otherwise(b"words", bytes(range(64)))
        self.assertNotEqual(other, signer.sign(b"words"))
        self.assertTrue(keys.verify(signer.public_bytes, b"words", other))


class WalletTricks(SynchronousTestCase):
    def test_every_trick_signs_what_it_says(self) -> None:
        """All that the book calls valid passes the stateless checks, under either signature."""
        for seed in range(4):
            run = quiet_run(seed)
            with run.world():
                run.start()
                run.events.run_until(SECOND)
                for _ in range(40):
                    run.wallets.act(hostile=True)
                run.events.run_until(8 * SECOND)
                orders = [order.tx for order in run.wallets.orders.values() if order.tx.txid in run.book.entries]
                self.assertGreater(len(orders), 60)
                valid = [tx for tx in orders if run.book.entries[tx.txid].valid]
                for tx in valid:
                    check_stateless(tx, run.setting.genesis.params, run.setting.genesis.hash)
                self.assertLess(len(valid), len(orders))
                run.recover()

    def test_two_signatures_of_one_transaction(self) -> None:
        """One txid, two texts, both signed by the owner."""
        run = quiet_run()
        with run.world():
            run.start()
            run.wallets.two_signatures()
        sent = {order.tx.signature: order.tx for order in run.wallets.orders.values()}
        self.assertEqual((len(sent), len({tx.txid for tx in sent.values()})), (2, 1))
        for tx in sent.values():
            digest = sighash(tx.canonical, run.setting.genesis.hash)
            self.assertTrue(run.signatures.verify(tx.keys[0], digest, tx.signatures[0]))


class Blocks(SynchronousTestCase):
    def test_a_liar_makes_good_and_bad_ones(self) -> None:
        """The other good block differs; of the spoilt ones every kind comes up, and each is another block."""
        run = quiet_run()
        with run.world():
            run.start()
            run.events.run_until(SECOND)
            for node in run.nodes[1:3]:
                node.kill()
            for _ in range(3):
                run.wallets.submit(run.wallets.next_payment(), run.nodes[0])
            run.events.run_until(2 * SECOND)
            replica = run.nodes[0].replica
            block = replica._agreement.chain.build(0, 10**13, ())
            blocks = BadBlocks(run.book, random.Random(1))
            self.assertNotEqual(blocks.other_good(replica, block), block)
            spoilt = [blocks.spoilt(replica, block, (), ()) for _ in range(60)]
        hashes = {each.header.hash(run.setting.genesis.hash) for each in spoilt}
        self.assertGreater(len(hashes), 8)


class Names(SynchronousTestCase):
    def test_faults_by_name(self) -> None:
        """None, some, or a mix that the seed draws; a name that is none is refused."""
        self.assertEqual(chosen("none", random.Random(1)), frozenset())
        self.assertEqual(chosen("loss, clocks", random.Random(1)), frozenset({"loss", "clocks"}))
        mixes = {chosen("all", random.Random(seed)) for seed in range(50)}
        self.assertGreater(len(mixes), 45)
        self.assertEqual(frozenset().union(*mixes), frozenset(KINDS))
        self.assertRaises(ConfigurationError, chosen, "loss,fire", random.Random(1))

    def test_limits_are_tight_for_a_while(self) -> None:
        """Each name exists, becomes what the table says, and is what it was afterwards."""
        names = [*TIGHT, *HASTY]
        before = [getattr(limits, name) for name in names]
        with changed(("limits", "haste")):
            self.assertEqual({name: getattr(limits, name) for name in names}, TIGHT | HASTY)
        self.assertEqual([getattr(limits, name) for name in names], before)

    def test_a_copied_store_is_its_own(self) -> None:
        """What is committed to one is not in the other."""
        founded = setting(4, 1).founded
        twin = copy_of(founded)
        twin._coins.clear()
        next(iter(twin._addresses.values())).clear()
        self.assertNotEqual(founded._coins, {})
        self.assertTrue(all(founded._addresses.values()))


class WideArea(SynchronousTestCase):
    def test_a_payment_takes_less_than_two_round_trips(self) -> None:
        """Three messages one after the other: transaction, lock votes, commit votes."""
        latency = measure(4, 6)
        row = latency.row()
        self.assertEqual(len(latency.here), 6)
        self.assertTrue(0.9 < row["here_p50_rtt"] < 2.0, row)
        self.assertTrue(row["here_p50_ms"] <= row["everywhere_p50_ms"] <= row["everywhere_p99_ms"])

    def test_the_plot_is_a_picture_of_the_table(self) -> None:
        """Well-formed, a mark for each size and series, and every size written below it."""
        import xml.etree.ElementTree as ElementTree

        rows = [
            {"masternodes": float(n), **{f"{where}_{share}_rtt": 1.0 + n / 100 for where in ("here", "everywhere")
                                         for share in ("p50", "p99")}}
            for n in (4, 7, 16)
        ]
        root = ElementTree.fromstring(latency_plot(rows))
        marks = root.findall("{http://www.w3.org/2000/svg}circle")
        texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        self.assertEqual(len(marks), 12)
        self.assertTrue({"4", "7", "16", "masternodes", "round trips"} <= texts)

    def test_percentiles(self) -> None:
        """Of one there is one; of a hundred the last but none is the 99th."""
        self.assertEqual(percentile([5.0], 0.99), 5.0)
        self.assertEqual(percentile([float(n) for n in range(100)], 0.99), 99.0)
