"""What a watch was told, and a wallet that comes and goes: for tests of subscriptions that go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cluster import address
from tests.test_wallet.logs import Heard
from tests.test_wallet.test_client import ClientCase
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.utxo_state import kind
from timeproto.wallet import client as client_module
from timeproto.wallet.client import WalletClient
from timeproto.wallet.watch import Change


class Ear:
    """What one watch was told: changes, and the reasons of resets."""

    def __init__(self) -> None:
        self.heard: Heard = []

    @property
    def changes(self) -> list[Change]:
        return [each for each in self.heard if isinstance(each, Change)]

    @property
    def resets(self) -> list[str]:
        return [each for each in self.heard if isinstance(each, str)]

    def take(self) -> list[Any]:
        """(outpoint, old state, new state) of each change, and the resets, in order; taken."""
        heard = [each if isinstance(each, str) else _short(each) for each in self.heard]
        self.heard.clear()
        return heard


def _short(change: Change) -> tuple[str, str | None, str]:
    old = None if change.old_state is None else kind(change.old_state)
    return str(change.outpoint), old, kind(change.new_state)


class Resuming(ClientCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(client_module, "back_off", lambda attempt: 0.3)
        self.refused: dict[str, Refusal] = {}

    def watching(self, *wallets: int, **more: Any) -> tuple[WalletClient, Ear]:
        client = self.world.client()
        return client, self.watch(client, *wallets, **more)

    def watch(self, client: WalletClient, *wallets: int, **more: Any) -> Ear:
        ear = Ear()
        addresses = [address(self.world.node.wallets[number]) for number in wallets]
        self.outcome(client.watch(ear.heard.append, on_reset=ear.heard.append, addresses=addresses, **more))
        self.world.run(0.2)
        return ear

    def away(self, meanwhile: Callable[[], None]) -> None:
        """What happens while the wallet is not there."""
        self.world.refuses = True
        self.world.cut()
        meanwhile()
        self.world.refuses = False
        self.world.run(3)

    def pay(self, *numbers: int, **more: Any) -> None:
        for number in numbers:
            self.world.node.integration.process_transaction(self.payment(number, **more))

    def asked(self, name: str) -> list[Any]:
        """Requests of this type that the node gets from now on."""
        found: list[Any] = []
        handle = self.world.node.handler.handle_message

        def note(client: Any, message: Any) -> None:
            if type(message).__name__ == name:
                found.append(message)
            handle(client, message)

        self.patch(self.world.node.handler, "handle_message", note)
        return found

    def steps(self, number: int = 0) -> list[Any]:
        """What there is to tell of a payment to somebody who watches the payer."""
        spent, change = str(self.coin(number)), f"{self.payment(number).txid}:1"
        return [
            (spent, "Unspent", "Locked"),
            (spent, "Locked", "SpentPending"),
            (spent, "SpentPending", "SpentFinalized"),
            (change, None, "Unspent"),
        ]

    def refuse(self, whom: int | str, code: ErrorCode, **details: Any) -> None:
        """The node refuses whoever wants to watch this address, with ``code``, until ``refused`` is cleared."""
        subscriptions = self.world.node.handler._subscriptions
        if not self.refused:
            room = subscriptions._require_room

            def require_room(feed: Any, subscription: Any, items: set[Any], taken: bool) -> None:
                for each in items & self.refused.keys():
                    raise self.refused[each]
                room(feed, subscription, items, taken)

            self.patch(subscriptions, "_require_room", require_room)
        self.refused[address(self.world.node.wallets[whom]) if isinstance(whom, int) else whom] = Refusal(
            code, "there is no room", **{"limit": "room", **details}
        )

    def mute(self, after: int = 0) -> None:
        """The answer to a subscription does not come, after so many that do."""
        coming = iter(range(after))

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] != "UTXOSubscribed" or next(coming, None) is not None:
                return message
            self.world.bend = lambda message: message
            return None

        self.world.bend = bend
