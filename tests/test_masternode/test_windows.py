"""The web port as the node sees it: its settings, its names, whom a commit is told to, what is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster
from tests.test_masternode.test_view import view
from timeproto.errors import ConfigurationError
from timeproto.masternode.config import Config, make_config, read_toml
from timeproto.masternode.tap import Options
from timeproto.masternode.windows import Everybody, Timed, names_of


class Settings(SynchronousTestCase):
    def test_no_web_port_unless_asked_for(self) -> None:
        """A node opens one port; a second one is the operator's wish."""
        config = make_config({})
        self.assertEqual((config.web, config.web_hosts, config.web_origins), (None, (), ()))

    def test_on_the_command_line_and_in_the_file(self) -> None:
        """Under the same names as everything else; lists are given one by one on the command line."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write('web = "127.0.0.1:1"\nweb_hosts = ["a.example", "[fe80::1]"]\nweb_origins = ["https://b"]\n')
        config = make_config(read_toml(Path(path)))
        self.assertEqual(config.web_hosts, ("a.example", "[fe80::1]"))
        options = Options()
        options.parseOptions(
            ["--config", path, "--web", "127.0.0.1:2", "--web-host", "c.example", "--web-host", "d.example"]
        )
        config = make_config(*options.settings())
        self.assertEqual(config.web, "127.0.0.1:2")
        self.assertEqual((config.web_hosts, config.web_origins), (("c.example", "d.example"), ("https://b",)))

    def test_mistakes_are_named(self) -> None:
        """One sentence with the setting and what it was (O-01)."""
        for name, value in (
            ("web", "24180"), ("web", "127.0.0.1:0"), ("web_hosts", ["node.example:24180"]), ("web_hosts", ["a b"]),
            ("web_origins", ["node.example"]), ("web_origins", ["https://node.example/page"]),
        ):  # fmt: skip
            with self.assertRaisesRegex(ConfigurationError, name) as caught:
                make_config({name: value})
            self.assertIn(value if isinstance(value, str) else value[0], str(caught.exception))

    def test_nothing_goes_in_the_clear_by_mistake(self) -> None:
        """Off the loopback the web port needs TLS, or the operator's word, like the other one."""
        with self.assertRaisesRegex(ConfigurationError, r"0\.0\.0\.0:24180 .* in the clear"):
            make_config({"web": "0.0.0.0:24180"})
        for word in ("tls", "allow_plaintext"):
            self.assertIsInstance(make_config({"web": "0.0.0.0:24180", word: True}), Config)

    def test_the_names_of_the_port(self) -> None:
        """The loopback's, the host it listens on if it is one, and what the operator adds."""
        self.assertEqual(names_of("127.0.0.2:1", ["a"])[-2:], ["127.0.0.2", "a"])
        self.assertEqual(names_of("[fe80::1]:1", [])[-1], "[fe80::1]")
        self.assertNotIn("0.0.0.0", names_of("0.0.0.0:1", []))


class Measured(SynchronousTestCase):
    def test_work_is_timed_whatever_comes_of_it(self) -> None:
        """From the hand-over to the return, for a failure too, and the result is passed on."""
        clock, took = Clock(), list[float]()
        jobs: list[Deferred[Any]] = []

        def work(*job: Any) -> Deferred[Any]:
            jobs.append(Deferred())
            return jobs[-1]

        timed = Timed(work, clock, took.append)
        first, second = timed("a"), timed("b")
        clock.advance(0.5)
        jobs[0].callback("done")
        clock.advance(1)
        jobs[1].errback(ValueError("not done"))
        self.assertEqual(self.successResultOf(first), "done")
        self.failureResultOf(second, ValueError)
        self.assertEqual(took, [0.5, 1.5])

    def test_everybody_is_told_the_same(self) -> None:
        """In order, and an iterator of transitions is not used up by the first; hints are for wallets alone."""

        class End:
            def __init__(self) -> None:
                self.told: list[Any] = []
                self.seen: list[Any] = []

            def broadcast_state_notification(self, transitions: Any, proofs: Any, blocks: Any = ()) -> None:
                self.told.append((list(transitions), proofs, blocks))

            def broadcast_seen(self, transactions: Any) -> None:
                self.seen.append(transactions)

        ends = End(), End()
        transitions: Any = iter([1, 2])
        everybody = Everybody(*ends)  # type: ignore[arg-type]
        everybody.broadcast_state_notification(transitions, {}, ())
        self.assertEqual(ends[0].told, [([1, 2], {}, ())])
        self.assertEqual(ends[0].told, ends[1].told)
        everybody.broadcast_seen(["tx"])  # type: ignore[list-item]
        self.assertEqual((ends[0].seen, ends[1].seen), ([["tx"]], []))


class Shown(SynchronousTestCase):
    """What only windows show of a replica."""

    def setUp(self) -> None:
        self.cluster = Cluster(4, 1)
        self.cluster.settle(3)

    def test_who_voted_on_what_is_undecided(self) -> None:
        """Each vote under its voter's key, as they come; nothing is shown of what is final, or unknown."""
        cluster = self.cluster
        tx = cluster.payment(0, 0, 1)
        self.assertIsNone(view(cluster).votes(tx.txid))
        cluster.submit(tx, 0)
        seen = view(cluster).votes(tx.txid)
        assert seen is not None
        self.assertEqual((seen.lock, seen.commit, seen.abort, seen.rivals), ([cluster.nodes[0].key], [], [], []))
        cluster.run()
        self.assertIsNone(view(cluster).votes(tx.txid))

    def test_rivals_and_contests(self) -> None:
        """Two halves lock two payments of one coin: each is the other's rival, and both are contested until a block."""
        cluster = self.cluster
        rivals = [cluster.payment(0, 1, to) for to in (1, 2)]
        for number in range(4):
            cluster.submit(rivals[number // 2], number)
        cluster.run()
        cluster.tick()
        shown = view(cluster)
        for tx, other in (rivals, reversed(rivals)):
            seen = shown.votes(tx.txid)
            assert seen is not None
            self.assertEqual((len(seen.lock), list(seen.rivals)), (2, [other.txid]))
        self.assertEqual(set(shown.contested(10)), {tx.txid for tx in rivals})
        self.assertEqual(len(shown.contested(1)), 1)
        cluster.pass_time(12_000)
        self.assertEqual(view(cluster).contested(10), [])
        self.assertIsNone(view(cluster).votes(rivals[0].txid))

    def test_the_log_and_the_chain(self) -> None:
        """Transitions after a position, decided blocks by height, and the tip that Info tells of."""
        cluster = self.cluster
        cluster.submit(cluster.payment(0, 0, 1), 0)
        cluster.run()
        cluster.pass_time(12_000)
        shown = view(cluster)
        tip = shown.tip()
        self.assertGreater(tip.height, 0)
        block = shown.block(tip.height)
        assert block is not None
        self.assertEqual(block.commit.block, tip.hash)
        self.assertIsNone(shown.block(tip.height + 1))
        position = shown.position()
        self.assertEqual([each.position for each in shown.transitions(position - 3, 2)], [position - 2, position - 1])
        self.assertEqual(shown.transitions(position, 5), [])
