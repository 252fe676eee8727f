"""The wallet: a client library that believes no node, keys from a phrase, and what the CLI is made of.

Low level: :class:`WalletClientFactory` and :class:`WalletClientProtocol`, one connection, requests and notifications.
Above it: :class:`WalletClient`, a service over several nodes that verifies what it tells. With a purse (a wallet file,
or a :class:`MemoryPurse` of a phrase) it has money: ``send``, ``balance``, ``watch``, ``wait_final``::

    client = WalletClient(reactor, genesis, ["127.0.0.1:24100"], purse=MemoryPurse(phrase))
    client.startService()
    payment = await client.send("TIME0…", 150_000_000)
    proof = await payment.when_final()
"""

from timeproto.wallet.account import Account
from timeproto.wallet.belief import Belief, Lie
from timeproto.wallet.client import WalletClient
from timeproto.wallet.incoming import Incoming
from timeproto.wallet.nodes import Node
from timeproto.wallet.payment import Payment, Step
from timeproto.wallet.protocol import WalletClientFactory, WalletClientProtocol
from timeproto.wallet.purse import MemoryPurse, Purse
from timeproto.wallet.watch import Change, Watch

__all__ = [
    "Account",
    "Belief",
    "Change",
    "Incoming",
    "Lie",
    "MemoryPurse",
    "Node",
    "Payment",
    "Purse",
    "Step",
    "WalletClient",
    "WalletClientFactory",
    "WalletClientProtocol",
    "Watch",
]
