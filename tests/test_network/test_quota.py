"""Keys of the operator with a quota of their own, and answers that say what they cost, over TCP."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Client, Node
from tests.cluster import COIN, key, pay
from tests.cluster import address as address_of
from tests.test_network.harness import Network
from tests.test_network.test_protocol import framed
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.masternode.service import Dispatcher
from timeproto.network import costs
from timeproto.network.budget import Budgets
from timeproto.network.node_protocol import NodeFactory
from timeproto.network.peer_manager import PeerManager
from timeproto.network.quota import Keys
from timeproto.wallet.protocol import WalletClientProtocol
from timeproto.wire import messages

NOW = 1_700_000_000_000
QUERY = messages.UTXOStateQuery(outpoints=("x",) * 400)


class Minted(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.keys = Keys(self.clock)
        self.budgets = Budgets(self.clock, self.keys)

    def test_a_secret_is_known_by_its_hash_alone(self) -> None:
        """It is told once, found again after a restart, and nowhere in what is kept."""
        secret = self.keys.mint("shop", 50_000, NOW)
        again = Keys(self.clock, self.keys.kept)
        self.assertEqual(again.find(secret).name, "shop")
        self.assertNotIn(secret, repr(self.keys.kept))
        self.assertNotEqual(secret, self.keys.mint("other", 50_000, NOW))
        self.assertEqual(self.assertRaises(Refusal, again.find, "00" * 32).code, ErrorCode.NOT_FOUND)

    def test_names_are_one_key_each_and_keys_are_few(self) -> None:
        """A second of one name is refused, and one too many; nothing is changed by either."""
        self.patch(limits, "KEYS", 2)
        self.keys.mint("shop", 1, NOW)
        self.assertEqual(self.assertRaises(Refusal, self.keys.mint, "shop", 2, NOW).code, ErrorCode.BAD_FIELD)
        self.keys.mint("b", 1, NOW)
        self.assertEqual(self.assertRaises(Refusal, self.keys.mint, "c", 1, NOW).details["limit"], "keys")
        self.assertEqual([(each.name, each.cost_per_second) for each in self.keys.kept], [("shop", 1), ("b", 1)])
        self.assertEqual(self.assertRaises(Refusal, self.keys.revoke, "c").code, ErrorCode.NOT_FOUND)

    def test_who_shows_it_pays_by_it_and_nothing_else(self) -> None:
        """All its connections share the quota, wherever they come from; neighbours and crowds do not matter to it."""
        secret = self.keys.mint("shop", 100, NOW)
        one, two, other = (self.budgets.open(host) for host in ("192.0.2.1", "198.51.100.1", "192.0.2.1"))
        other.spend(limits.COST_BLOCK_BURST * 3)
        self.budgets.pace.speed = 0.1
        for account in (one, two):
            account.use(secret)
            account.use(secret)
        self.assertEqual(self.keys.users("shop"), 2)
        one.pay(limits.KEY_BURST * 100)
        self.assertEqual((one.hold, one.left), (0, 0))
        two.pay(100)
        self.assertAlmostEqual(two.hold, 1)
        two.pay(100 * limits.DEBT)
        refusal = self.assertRaises(Refusal, one.pay, 1)
        self.assertEqual((refusal.details["limit"], refusal.details["value"]), ("key_cost_per_second", 100))
        one.close()
        self.assertEqual(self.keys.users("shop"), 1)

    def test_a_revoked_one_pays_for_nothing_more(self) -> None:
        """Whoever used it pays for itself from the same moment, and it is not found again."""
        secret = self.keys.mint("shop", 100, NOW)
        account = self.budgets.open("127.0.0.1")
        account.use(secret)
        self.keys.revoke("shop")
        self.assertEqual((account.quota, account.rate), (None, (limits.COST_PER_SECOND, limits.COST_BURST)))
        self.assertRaises(Refusal, account.use, secret)
        self.assertRaises(Refusal, self.budgets.open("127.0.0.1").use, secret)
        self.keys.mint("shop", 100, NOW)
        account.close()


class OverTcp(SynchronousTestCase):
    """A real handler behind a real peer manager, and the wallet library's connection to it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.keys = Keys(self.clock)
        self.node = Node()
        self.manager = PeerManager(
            reactor=self.clock,
            key=key(1),
            genesis=self.node.genesis,
            listen="127.0.0.1:1",
            dispatcher=Dispatcher(self.node.integration, self.node.handler),
            on_identity_conflict=lambda reason: None,
            budgets=Budgets(self.clock, self.keys),
        )
        self.manager.startService()

    def connect(self, *, greets: bool = True, **more: Any) -> WalletClientProtocol:
        server: Any = NodeFactory(self.clock, self.manager).buildProtocol(None)
        client = WalletClientProtocol(self.clock, self.node.genesis if greets else None, **more)
        self.pump = connect(server, FakeTransport(server, True), client, FakeTransport(client, False), greet=False)
        self.pump.flush()
        (self.server,) = [each for each in self.manager._connections if each is server]
        self.successResultOf(client.when_ready())
        return client

    def ask(self, client: WalletClientProtocol, message: Any) -> Any:
        asked = client.request(message)
        self.pump.flush()
        return self.successResultOf(asked)

    def test_heavy_answers_say_what_they_cost_and_what_is_left(self) -> None:
        """To who offers ``budgets``; the price is that of the question and its answer, and is really taken."""
        client = self.connect()
        before = self.server.account.left
        charge = self.ask(client, QUERY).charge
        self.assertGreaterEqual(charge.cost, 1 + 400 // 8)
        self.assertEqual(charge.left, before - charge.cost)
        self.assertIsNone(self.ask(client, messages.Ping()).charge)
        self.assertEqual(self.server.account._prices, {})

    def test_who_does_not_ask_is_not_told(self) -> None:
        """A wallet that knows no such field gets none."""
        self.assertIsNone(self.ask(self.connect(greets=False), QUERY).charge)

    def test_prices_of_what_is_never_answered_are_forgotten(self) -> None:
        """The book of open requests is bounded; the oldest is told no price."""
        self.patch(limits, "REQUESTS", 3)
        self.connect()
        account = self.server.account
        for number in range(10):
            account.ask(messages.UTXOStateQuery(id=number, outpoints=QUERY.outpoints), 100)
        self.assertEqual(list(account._prices), [7, 8, 9])

    def test_a_wallet_asks_for_its_budget(self) -> None:
        """Without a key it is the connection's own."""
        told = self.ask(self.connect(), messages.GetBudget())
        self.assertEqual((told.key, told.cost_per_second), (None, limits.COST_PER_SECOND))
        self.assertEqual(told.burst, limits.COST_BURST)
        self.assertEqual(told.left, self.server.account.left)

    def test_a_key_is_shown_in_a_request(self) -> None:
        """From there on the key pays; one that is not known changes nothing, and the connection stays."""
        client = self.connect()
        wrong = client.request(messages.GetBudget(key="ab" * 32))
        self.pump.flush()
        self.assertEqual(self.failureResultOf(wrong, Refusal).value.code, ErrorCode.NOT_FOUND)
        secret = self.keys.mint("shop", 50_000, NOW)
        told = self.ask(client, messages.GetBudget(key=secret))
        self.assertEqual((told.key, told.cost_per_second), ("shop", 50_000))
        self.assertEqual(self.ask(client, QUERY).charge.left, self.server.account.left)
        self.assertEqual(self.keys.users("shop"), 1)
        self.server.connectionLost(None)
        self.assertEqual(self.keys.users("shop"), 0)

    def test_the_wallet_library_shows_its_key(self) -> None:
        """As soon as the node has proven itself; if the node does not take it, it goes on without."""
        secret = self.keys.mint("shop", 50_000, NOW)
        self.connect(access_key=secret)
        self.assertEqual(self.server.account.quota.name, "shop")
        client = self.connect(access_key="ab" * 32)
        self.assertIsNone(self.server.account.quota)
        self.ask(client, messages.Ping())

    def test_the_wallet_library_comes_back_when_it_is_told_to(self) -> None:
        """What was refused for what its neighbours cost is asked again, later, and answered."""
        client = self.connect()
        debt = limits.COST_BURST + limits.COST_PER_SECOND * (limits.DEBT + 2)
        self.server.account.spend(debt)
        asked = client.request(messages.GetInfo())
        self.pump.flush()
        self.assertNoResult(asked)
        for _ in range(30):
            self.clock.advance(1)
            self.pump.flush()
        self.assertIsInstance(self.successResultOf(asked), messages.Info)
        self.assertEqual(self.manager._budgets.refused, 1)

    def test_what_cannot_be_waited_for_is_told(self) -> None:
        """A node that names no time, or one too far, is not waited for; nor is one that goes away meanwhile."""
        client = self.connect()
        for details in ({}, {"retry_after_ms": int(limits.IDLE * 1000) + 1}, {"retry_after_ms": -5}):
            asked = client.request(messages.GetInfo())
            (number,) = client._requests._waiting
            refusal = Refusal(ErrorCode.OVER_LIMIT, "no", **details)
            client.dataReceived(framed(messages.error_of(refusal, number)))
            self.failureResultOf(asked, Refusal)
        asked = client.request(messages.GetInfo())
        (number,) = client._requests._waiting
        client.dataReceived(framed(messages.error_of(Refusal(ErrorCode.OVER_LIMIT, "no", retry_after_ms=9), number)))
        client.connectionLost(None)
        self.failureResultOf(asked)
        self.assertFalse([each for each in self.clock.getDelayedCalls() if each.func is None])

    def test_where_nobody_pays(self) -> None:
        """There is no budget to be told."""
        refusal = self.node.ask(_Told(), messages.GetBudget(id=1))
        self.assertEqual(refusal.code, "unsupported")
        self.assertEqual(costs.of_request(messages.GetBudget(), 20), 1)


class Masternodes(SynchronousTestCase):
    """What a masternode asks as wallets do."""

    def setUp(self) -> None:
        self.node = Node()
        self.network = Network()
        self.manager = self.network.add(0, [])
        self.manager._dispatcher = Dispatcher(self.node.integration, self.node.handler)
        self.peer = self.network.add(1, [0])
        self.network.start()
        self.network.run(1)

    def ask(self, message: Any = QUERY, times: int = 1) -> list[str]:
        """What each was answered with: the type, or the code of an error; nothing for what still waits."""
        (link,) = self.peer.links.values()
        asked = [link.request(message) for _ in range(times)]
        self.network.run()
        said: list[str] = []
        for each in asked:
            each.addCallbacks(
                lambda reply: said.append(type(reply).__name__), lambda failure: said.append(failure.value.code)
            )
        return said

    def test_it_pays_for_them(self) -> None:
        """Past its debt it is refused and linked as before, comes back to the same purse, and can ask again later."""
        most = limits.COST_BURST + limits.COST_PER_SECOND * limits.DEBT
        said = self.ask(times=1_000)
        answered = said.count("UTXOStateResponse")
        self.assertTrue(0.9 * most < answered * costs.of_request(QUERY, 0) < 1.1 * most, answered)
        self.assertEqual(said[answered:], ["over_limit"] * (1_000 - answered))
        self.manager._budgets.of_link(self.peer._key.public_hex).spend(limits.COST_PER_SECOND * 3)
        for link in list(self.manager.links.values()):
            link.abort()
        self.network.run(2)
        self.assertEqual(self.ask(), ["over_limit"])
        self.network.run(2)
        self.assertEqual(self.ask(), ["UTXOStateResponse"])

    def test_its_votes_are_read_whatever_it_owes(self) -> None:
        """What masternodes say among themselves costs nothing, and is not held back."""
        self.manager._budgets.of_link(self.peer._key.public_hex).spend(limits.COST_BURST * 100)
        before = self.manager._budgets.of_link(self.peer._key.public_hex).spent
        self.assertEqual(self.ask(), ["over_limit"])
        self.assertEqual(self.ask(messages.GetPeers()), ["Peers"])
        self.assertEqual(self.manager._budgets.of_link(self.peer._key.public_hex).spent, before)

    def test_little_of_it_waits_at_once(self) -> None:
        """During a commit it has asked what it may, and then as much again; errors are answers too."""
        self.patch(limits, "HANDOVERS", 3)
        wallet = self.node.wallets[0]
        mine = address_of(wallet)
        coin, output = next(each for each in self.node.genesis.coins() if each[1].address == mine)
        tx = pay(self.node.genesis, [(coin, output.amount, wallet)], [(mine, COIN)])
        self.node.hold()
        self.node.handler.handle_message(Client(), messages.TransactionBroadcast(id=1, tx=tx))
        self.assertEqual(self.ask(messages.GetTransaction(txid="ab" * 32), 5), ["busy"] * 2)
        self.node.release()
        self.network.run()
        bad = messages.GetAddressUTXOs(address="nowhere")
        for message, code in ((messages.GetTransaction(txid="ab" * 32), "not_found"), (bad, "bad_address")):
            for _ in range(2):
                self.assertEqual(self.ask(message, 3), [code] * 3)

    def test_what_it_watches_goes_with_its_connection(self) -> None:
        """Also what it watched before it had proven anything."""
        watch = messages.UTXOSubscribe(subscriber_id="w", outpoints=("11" * 32 + ":0",))
        self.assertEqual(self.ask(watch), ["UTXOSubscribed"])
        (link,) = self.manager.links.values()
        self.node.handler.handle_message(link, watch)
        self.assertEqual(self.node.handler.subscription_count, 2)
        link.abort()
        self.network.run()
        self.assertEqual(self.node.handler.subscription_count, 0)


class _Told:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def send(self, message: Any) -> None:
        self.told.append(message)

    def send_payload(self, payload: bytes) -> None: ...
