"""One link for each pair of masternodes, whoever dials, whatever breaks."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.examples import GENESIS, STRANGER, VOTERS, batch
from tests.test_network.harness import Network, address
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.greeting import GreetedEndpoint
from timeproto.wire import messages
from timeproto.wire.messages import Role


class Links(SynchronousTestCase):
    """Who is linked with whom."""

    def setUp(self) -> None:
        self.network = Network()

    def mesh(self, n: int, seed: int = 0) -> Network:
        network = Network(seed)
        for number in range(n):
            network.add(number, [peer for peer in range(n) if peer != number])
        network.start()
        network.run(3)
        return network

    def assert_meshed(self, network: Network, n: int) -> None:
        keys = [voter.public_hex for voter in VOTERS[:n]]
        self.assertEqual(network.links(), {(a, b) for a in keys for b in keys if a != b})
        for manager in network.managers.values():
            open_ones = [each for each in manager._connections if each.is_open]
            self.assertEqual(len(open_ones), n - 1)

    def test_seven_that_dial_each_other_at_once_end_with_one_link_a_pair(self) -> None:
        """In any order of bytes; and it stays so (N-21, failure 40)."""
        for seed in range(40):
            network = self.mesh(4, seed)
            self.assert_meshed(network, 4)
            dials = len(network.dials)
            network.run(200, 1.0)
            self.assert_meshed(network, 4)
            self.assertEqual(len(network.dials), dials, f"seed {seed}: dialling goes on")
        self.assert_meshed(self.mesh(7), 7)

    def test_the_log_tells_them_apart(self) -> None:
        """A connection is written with the key that was proven on it, and without one before: hosts may be shared."""
        network = Network()
        one = network.add(0, [1])
        network.add(1, [])
        network.start()
        self.assertNotIn(VOTERS[1].public_hex[:8], repr(list(one._connections)))
        network.run(3)
        (link,) = one.links.values()
        self.assertRegex(repr(link), rf"^<NodeProtocol masternode \S+ {VOTERS[1].public_hex[:8]}>$")

    def test_two_hundred_simultaneous_pairs(self) -> None:
        """Both ends keep the same one of the two links."""
        for seed in range(200):
            network = Network(seed)
            one, two = network.add(0, [1]), network.add(1, [0])
            network.start()
            network.run(1)
            (mine,), (theirs,) = one.links.values(), two.links.values()
            self.assertTrue(mine.is_open and theirs.is_open)
            self.assertNotEqual(mine.direction, theirs.direction)

    def test_one_sided_dialling_is_enough(self) -> None:
        """Who is dialled need not dial."""
        self.network.add(0, [1])
        self.network.add(1, [])
        self.network.start()
        self.network.run(2)
        self.assertEqual(len(self.network.links()), 2)

    def test_a_lost_link_comes_back(self) -> None:
        """Down is told, up is told again; one link at the end."""
        network = self.mesh(2)
        recorder = network.recorders[address(0)]
        next(iter(network.managers[address(0)].links.values())).abort()
        network.run(5)
        self.assert_meshed(network, 2)
        self.assertEqual(recorder.down, [VOTERS[1].public_hex])
        self.assertEqual(recorder.up, [VOTERS[1].public_hex] * 2)

    def test_a_stale_link_gives_way(self) -> None:
        """An old connection that is dead without knowing it is replaced by an authenticated new one (N-22)."""
        network = self.mesh(2)
        network.run(limits.HANDSHAKE + 1)
        manager = network.managers[address(0)]
        (old,) = manager.links.values()
        network.pumps.clear()  # no FIN, no RST: the wire is just gone
        other = network.managers[address(1)]
        for connection in list(other._connections):
            connection.connectionLost(None)  # voter 1 restarted
        network.run(5)
        (new,) = manager.links.values()
        self.assertIsNot(new, old)
        self.assertTrue(new.is_open)

    def test_who_refuses_us_is_dialled_ever_more_rarely(self) -> None:
        """A peer that ends every handshake: a few dials in ten minutes, not thousands (N-08)."""
        network = self.network
        network.add(0, [1])
        network.add(1, [], key=STRANGER)
        network.start()
        network.run(600, 0.5)
        self.assertLess(len(network.dials), 40)
        self.assertGreater(len(network.dials), 10)
        self.assertEqual(network.links(), set())

    def test_who_never_answers_holds_up_nobody(self) -> None:
        """A dial that hangs, beside one that works (N-25)."""
        network = self.network
        network.add(0, [2, 1])
        network.add(1, [])
        network.silent.add(address(2))
        network.start()
        network.run(1)
        self.assertEqual(len(network.links()), 2)

    def test_peers_tell_where_others_are(self) -> None:
        """A knows B, B knows C: soon A and C are linked."""
        network = self.network
        network.add(0, [1])
        network.add(1, [2])
        network.add(2, [])
        network.start()
        network.run(10)
        self.assert_meshed(network, 3)

    def test_its_own_address_is_dialled_once(self) -> None:
        """Under another name it notices itself by the nonce, and leaves it at that (O-08)."""
        network = self.network
        manager = network.add(0, ["self.example:1"])
        network.managers["self.example:1"] = manager
        network.start()
        network.run(300, 1.0)
        self.assertEqual(network.dials, ["self.example:1"])
        self.assertEqual((network.links(), network.conflicts), (set(), []))

    def test_another_process_with_our_key(self) -> None:
        """Proven by its signature: the conflict is reported (O-05)."""
        network = self.network
        network.add(0, [])
        network.add(0, [0], at="10.0.0.99:1")
        network.start()
        network.run(2)
        self.assertTrue(network.conflicts)
        self.assertEqual(network.links(), set())

    def test_stopping_says_goodbye_and_leaves_nothing(self) -> None:
        """``going_away`` to everybody, and no timer left behind (L-7)."""
        network = self.mesh(3)
        network.stop()
        for waiting in network.stopped:
            self.successResultOf(waiting)
        self.assertEqual([call for call in network.clock.getDelayedCalls() if call.active()], [])
        self.assertEqual(network.links(), set())

    def test_the_door_for_client_service_is_an_endpoint(self) -> None:
        """The interface is kept."""
        verifyObject(IStreamClientEndpoint, GreetedEndpoint(None, None, lambda _: None))  # type: ignore[arg-type,return-value]


class Talk(SynchronousTestCase):
    """Messages over links."""

    def setUp(self) -> None:
        self.network = Network()
        self.network.add(0, [1])
        self.network.add(1, [])
        self.network.start()
        self.network.run(2)
        self.managers = [self.network.managers[address(number)] for number in range(2)]
        self.recorders = [self.network.recorders[address(number)] for number in range(2)]

    def test_the_same_dispatcher_whoever_dialled(self) -> None:
        """What a masternode says arrives from the accepted link and from the dialled one (failure 15)."""
        vote = batch(lock=["11" * 32])
        for here, there in ((0, 1), (1, 0)):
            self.managers[here].broadcast([vote, messages.GetFinalized(since=0)])
            self.network.run()
            heard = [message for _, message in self.recorders[there].messages]
            self.assertEqual(heard, [vote, messages.GetFinalized(since=0)])
            sender = {connection.node_key for connection, _ in self.recorders[there].messages}
            self.assertEqual(sender, {VOTERS[here].public_hex})

    def test_a_large_frame_passes_between_masternodes(self) -> None:
        """Larger than a wallet's limit."""
        many = messages.GetTransactions(txids=tuple(f"{number:064x}" for number in range(limits.FETCH)))
        page = messages.Finalized(txids=many.txids * 4, next=2_000, head=2_000)
        self.managers[0].send(VOTERS[1].public_hex, page)
        self.network.run()
        self.assertEqual(self.recorders[1].messages[-1][1], page)

    def test_hints_go_to_one_or_to_all(self) -> None:
        """The original's two names."""
        hint: Any = _hint()
        self.managers[0].broadcast_utxo_notification(hint)
        self.managers[0].send_utxo_notification_to_peer(VOTERS[1].public_hex, hint)
        self.managers[0].send_utxo_notification_to_peer(VOTERS[4].public_hex, hint)  # not linked: nothing
        self.network.run()
        self.assertEqual([message for _, message in self.recorders[1].messages], [hint, hint])

    def test_faults_add_up_to_a_ban_that_ends(self) -> None:
        """Shut out at the limit, let in again later; never more than f at once."""
        fault = Refusal(ErrorCode.BAD_VOTE, "a false vote")
        culprit = VOTERS[1].public_hex
        for _ in range(limits.MISBEHAVIOUR // 10 - 1):
            self.managers[0].penalize(culprit, fault)
        self.assertIn(culprit, self.managers[0].links)
        self.managers[0].penalize(culprit, fault)
        self.network.run(30)
        self.assertNotIn(culprit, self.managers[0].links)
        self.network.run(limits.BAN + 120, 1.0)
        self.assertIn(culprit, self.managers[0].links)

    def test_never_more_than_f_are_banned(self) -> None:
        """A registry gone wrong must not make a node shut everybody out (failure 39)."""
        fault = Refusal(ErrorCode.BAD_VOTE, "a false vote")
        for voter in VOTERS[1:]:
            for _ in range(50):
                self.managers[0].penalize(voter.public_hex, fault)
        self.assertEqual(len(self.managers[0].record._banned), GENESIS.masternode_set.faulty)

    def test_what_costs_nothing_bans_nobody(self) -> None:
        """Refusals without a penalty (framing, time-outs) count for nothing."""
        for _ in range(1_000):
            self.managers[0].penalize(VOTERS[1].public_hex, Refusal(ErrorCode.BAD_FRAME, "torn"))
        self.assertEqual(self.managers[0].record.entries(), [])

    def test_what_is_known_of_everybody(self) -> None:
        """Every member of the set, with direction and address."""
        rows = {row.node_key: row for row in self.managers[0].peers_info()}
        self.assertEqual(len(rows), len(VOTERS))
        self.assertEqual(rows[VOTERS[0].public_hex].direction, "self")
        self.assertEqual(
            (rows[VOTERS[1].public_hex].direction, rows[VOTERS[1].public_hex].address), ("outbound", address(1))
        )
        self.assertEqual(rows[VOTERS[2].public_hex].direction, "none")


class Crowds(SynchronousTestCase):
    """More connections than there is room for."""

    def test_a_full_house_still_lets_masternodes_in(self) -> None:
        """Wallets past the limit are told ``busy``; a masternode that proves itself stays (H-28)."""
        self.patch(limits, "CONNECTIONS", 3)
        network = Network()
        manager = network.add(0, [])
        network.start()
        wallets = []
        for _ in range(4):
            wallets.append(_wallet(network, manager))
            wallets[-1].ask(messages.GetInfo(id=1))
            network.run(1)
        network.add(1, [0]).startService()
        network.run(1)
        self.assertEqual(len(manager.links), 1)
        self.assertEqual([wallet.codes() for wallet in wallets], [[], [], [], ["busy"]])

    def test_one_block_has_its_share_and_loopback_has_none(self) -> None:
        """An IPv4 address, an IPv6 /64; a proxy on loopback is many wallets."""
        self.patch(limits, "CONNECTIONS_PER_BLOCK", 2)
        manager = Network().add(0, [])
        manager.house._blocks["192.0.2.1"] = 2
        self.assertIs(manager.house.door("192.0.2.1"), False)
        self.assertIs(manager.house.door("192.0.2.2"), True)
        manager.house._blocks["2001:0db8:0000:0000"] = 2
        self.assertIs(manager.house.door("2001:db8::7"), False)
        self.assertIs(manager.house.door("127.0.0.1"), True)

    def test_hosts_are_counted_while_they_are_connected(self) -> None:
        """Up with the connection, down with it."""
        network = Network()
        manager = network.add(0, [])
        network.start()
        wallet = _wallet(network, manager)
        self.assertEqual(manager.house._blocks, {"192.0.2.7": 1})
        wallet.leave()
        network.run(1)
        self.assertEqual(manager.house._blocks, {})


class _Wallet:
    def __init__(self, network: Network, manager: Any) -> None:
        from twisted.test.iosim import FakeTransport, connect

        from tests.test_network.harness import _Address
        from timeproto.network.node_protocol import NodeFactory
        from timeproto.network.protocol import MessageProtocol

        class Client(MessageProtocol):
            remote_role = Role.NODE

        there, here = _Address(manager._listen), _Address("192.0.2.7:5")
        server: Any = NodeFactory(network.clock, manager).buildProtocol(here)
        self.server = server
        self._client = Client(network.clock)
        self._refusals: list[str] = []
        self._client.complained = lambda refusal: self._refusals.append(str(refusal.code))  # type: ignore[method-assign]
        network.pumps.append(
            connect(
                server,
                FakeTransport(server, True, hostAddress=there, peerAddress=here),
                self._client,
                FakeTransport(self._client, False, hostAddress=here, peerAddress=there),
            )
        )
        network.run()

    def ask(self, message: Any) -> None:
        self._client.send(message)

    def codes(self) -> list[str]:
        return self._refusals

    def leave(self) -> None:
        self._client.close()


def _wallet(network: Network, manager: Any) -> _Wallet:
    return _Wallet(network, manager)


def _hint() -> messages.UTXOStateNotification:
    from tests.examples import PAYMENT

    change = messages.StateChange(PAYMENT.outpoints[0], None, "Unspent", 1, VOTERS[0].public_hex)
    cursor = messages.Cursor(VOTERS[0].public_hex, 1)
    return messages.UTXOStateNotification(notification=change, cursor=cursor, output=PAYMENT.outputs[0])
