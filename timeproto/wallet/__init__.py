"""The wallet: a client library that believes no node, keys from a phrase, and what the CLI is made of.

Low level: :class:`WalletClientFactory` and :class:`WalletClientProtocol`, one connection, requests and notifications.
Above it: :class:`WalletClient`, a service over several nodes that verifies what it tells. With money:
:class:`Account`, which adds keys, coins and a wallet file.
"""

from timeproto.wallet.account import Account
from timeproto.wallet.belief import Belief, Lie
from timeproto.wallet.client import WalletClient
from timeproto.wallet.nodes import Node
from timeproto.wallet.payment import Payment, Step
from timeproto.wallet.protocol import WalletClientFactory, WalletClientProtocol
from timeproto.wallet.watching import Change, Watch

__all__ = [
    "Account",
    "Belief",
    "Change",
    "Lie",
    "Node",
    "Payment",
    "Step",
    "WalletClient",
    "WalletClientFactory",
    "WalletClientProtocol",
    "Watch",
]
