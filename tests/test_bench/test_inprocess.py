"""The network in one process that the parts are measured on: it is a network, and every cost has its phase."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench import codec, scale, step, store
from timeproto.bench.inprocess import Cluster, Node
from timeproto.bench.progress import Progress
from timeproto.model.ledger import Changes
from timeproto.model.vote import VoteBatch
from timeproto.wire import codec as wire


class Lockstep(SynchronousTestCase):
    def test_payments_become_final(self) -> None:
        """At every node, with one digest, in the phases of the protocol."""
        committed: list[tuple[str, str]] = []

        def note(node: Node, phase: str, changes: Changes) -> None:
            committed.append((node.key, phase))

        cluster = Cluster(4, 10, committed=note)
        committed.clear()
        cluster.pay(3)
        cluster.pay(2, at=1)
        self.assertEqual({node.replica.final_count for node in cluster.nodes}, {5})
        self.assertEqual(len({node.replica.state_digest() for node in cluster.nodes}), 1)
        phases = [phase for key, phase in committed if key == cluster.nodes[0].key]
        self.assertEqual(phases, ["submit", "lock votes", "commit votes", "transactions", "lock votes", "commit votes"])

    def test_blocks_are_decided(self) -> None:
        """Every node has the block, and nothing is left to confirm."""
        cluster = Cluster(4, 10)
        cluster.pay(5)
        cluster.decide_block()
        self.assertEqual([(node.replica.height, node.replica.unconfirmed) for node in cluster.nodes], [(1, 0)] * 4)
        cluster.decide_block()
        self.assertEqual(len({node.replica.tip.hash for node in cluster.nodes}), 1)

    def test_costs_have_an_address(self) -> None:
        """Each phase of a payment has its step; forgetting them forgets all."""
        cluster = Cluster(4, 10)
        self.assertEqual(cluster.costs.part("step"), 0)
        cluster.pay(2)
        self.assertLessEqual({(phase, "step") for phase in step.OF_PAYMENTS}, set(cluster.costs.seconds))
        self.assertGreater(cluster.costs.part("step"), 0)
        self.assertGreater(cluster.bytes_sent, 0)
        cluster.costs.clear()
        self.assertEqual(cluster.costs.part("step", "verify"), 0)

    def test_one_alone(self) -> None:
        """A network of one needs nobody."""
        cluster = Cluster(1, 2)
        cluster.pay(2)
        self.assertEqual(cluster.nodes[0].replica.final_count, 2)


class Quiet(Progress):
    """Says nothing."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def stage(self, name: str) -> None:
        pass

    def show(self, share: float, note: str = "") -> None:
        self.shares.append(share)

    def clear(self) -> None:
        pass


class Parts(SynchronousTestCase):
    """Each bench of a part, as small as it goes: what it reports is whole, and can be told and drawn."""

    def told(self, bench: Any, report: dict[str, Any]) -> str:
        self.assertTrue(bench.draw(report, "note").startswith("<svg"))
        return "\n".join(bench.text(report))

    def test_step(self) -> None:
        """Every phase of a payment with every part, and the longest step of a block."""
        progress = Quiet()
        report = step.measure(4, (1, 5), (10,), 1, progress)
        self.assertEqual([batch["payments"] for batch in report["batches"]], [1, 5])
        for batch in report["batches"]:
            self.assertEqual(list(batch["phases"]), ["submit", "transactions", "lock votes", "commit votes"])
            for parts in batch["phases"].values():
                self.assertTrue(all(parts[part]["median"] >= 0 for part in step.PARTS))
            self.assertGreater(batch["in_verifications"], 0)
        (block,) = report["blocks"]
        self.assertGreater(block["longest_step_ms"]["median"], 0)
        self.assertIn("block of    10", self.told(step, report))
        self.assertEqual(max(progress.shares), 1.0)

    def test_codec(self) -> None:
        """Every sample survives the wire, and is what its name says."""
        for name, value in (("SLICE", 0.0005), ("BATCH", 6), ("BLOCK", 12)):
            self.patch(codec, name, value)
        for name, message in codec.samples().items():
            self.assertEqual(wire.encode(wire.decode(wire.encode(message))), wire.encode(message))
            self.assertTrue("Notification" in name or "State" in name or name.startswith(type(message).__name__), name)
            if isinstance(message, VoteBatch):
                self.assertIn(f"of {message.tree.size}", name)
        report = codec.measure(1, Quiet())
        for each in report["types"].values():
            self.assertGreater(each["decode_to_json"], 0)
        self.assertIn("TransactionBroadcast", self.told(codec, report))

    def test_store(self) -> None:
        """The commits of a real store, beside a bare durable write."""
        self.patch(store, "COMMITS", 6)
        report = store.measure((1, 3), 1, Quiet(), None)
        self.assertEqual([each["payments"] for each in report["sizes"]], [1, 3])
        for each in report["sizes"]:
            self.assertGreater(each["to_bare"], 0)
        self.assertIn("fdatasync", self.told(store, report))

    def test_scale(self) -> None:
        """A row for each size, with more bytes for more masternodes; nobody is told if nobody is asked for."""
        self.patch(scale, "SINGLE", 3)
        report = scale.measure((1, 4, 7), 3, (), 1, Quiet())
        moved = [each["bytes_per_payment"] for each in report["sizes"]]
        self.assertEqual(moved, sorted(moved))
        self.assertIsNone(report["subscribers"])
        self.assertIn("SIMULATED", self.told(scale, report))

    def test_scale_of_telling(self) -> None:
        """Of a real node, and drawn below the rest."""
        self.patch(scale, "SINGLE", 3)
        report = scale.measure((1,), 3, (2,), 1, Quiet())
        self.assertIn("2 subscribers", self.told(scale, report))
        self.assertEqual(scale.draw(report, "").count("<svg "), 4)
