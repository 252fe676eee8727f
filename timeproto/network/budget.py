"""Who may ask how much, over TCP, WebSocket and HTTP alike.

What costs what is in :mod:`timeproto.network.costs`. A connection pays from a purse of its own and from that of its
address block (an IPv4 address, an IPv6 /64), which all connections from there share; on the loopback, where a proxy may
stand for many people, from its own alone. Who spends more than comes in is *held back*: read, or over HTTP answered,
later, so that a burst costs nobody an error. Past ``limits.DEBT`` a request is refused with ``over_limit``, and who
asks on until the debt is twice as large is sent away.

So much for one; any number of them together must leave the node its time for votes. When all wallets ask for more than
``limits.COST_NODE_PER_SECOND``, time passes more slowly for their purses, and so for those who ask much: what each may
have shrinks until all fit, and who asks for less than that notices nothing. And when those who come, say what is none
of ours and come again cost too much, newcomers wait for a moment before they are read, whoever they are.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from typing import Any, Literal, Protocol

import attrs

from timeproto import limits
from timeproto.errors import ErrorCode, Policy, Refusal
from timeproto.network import costs
from timeproto.network.discovery import is_loopback
from timeproto.network.purse import Pace, Purse
from timeproto.wire import codec, messages

BUDGETS = "budgets"
"""The capability: answers say what they cost, and a connection may pay by an operator's key (``GetBudget``)."""
HELD_MOST = 2 * limits.DEBT
"""Longest time for which a connection is not read."""
Way = Literal["tcp", "web"]
_GREETINGS = (messages.Handshake, messages.HandshakeAck)


def block_of(host: str) -> str | None:
    """The block of addresses that one household or server has: an IPv4 address, the first 64 bits of an IPv6 one.

    None on the loopback: whatever stands in front of the node there (a proxy, a tunnel) is many people.
    """
    if is_loopback(host):
        return None
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    mapped = address.ipv4_mapped
    return address.exploded[:19] if mapped is None else block_of(str(mapped))


class Overdrawn(Refusal):
    """An ``over_limit`` to somebody who went on and on after the first: the connection closes."""

    @property
    def policy(self) -> Policy:
        return Policy(closes=True)


@attrs.define(eq=False)
class Block:
    """What the connections of one address block share; ``connections`` of them are open."""

    purse: Purse
    connections: int = 0


@attrs.define(eq=False)
class Quota:
    """What an operator's key allows to all connections that have shown it (network.quota)."""

    name: str
    purse: Purse
    pace: Pace
    accounts: set[Account] = attrs.field(factory=set)


class Account:
    """Who pays for what one connection asks. ``owes`` is true while it, or its block, has spent more than it had; then
    ``hold`` says how long it is not to be read."""

    __slots__ = (
        "_block", "_budgets", "_held_since", "_name", "_own", "_pace", "_plain", "_prices", "host", "opened_at", "owes",
        "quota", "spent", "way",
    )  # fmt: skip

    def __init__(
        self,
        budgets: Budgets,
        own: Purse,
        name: str | None = None,
        block: Purse | None = None,
        *,
        host: str = "?",
        way: Way = "tcp",
    ) -> None:
        """``name`` and ``block``: of the address block that pays too, if there is one."""
        self.host = host
        self.way = way
        self.opened_at = budgets.seconds()
        self.spent = 0.0
        self._budgets = budgets
        self._name = name
        self._plain = self._own, self._block, self._pace = own, block, budgets.pace
        self._prices: dict[int, int] | None = None
        self._held_since: float | None = None
        self.quota: Quota | None = None
        self.owes = False

    def close(self) -> None:
        """The connection is gone, or need not pay any more."""
        if self.quota is not None:
            self.quota.accounts.discard(self)
        self._budgets.closed(self, self._name)

    def use(self, secret: str | None) -> None:
        """Pays by an operator's key from now on, or with None as before; raises ``not_found`` for no key of ours."""
        quota = None if secret is None else self._budgets.keys.find(secret)
        if quota is self.quota:
            return
        if self.quota is not None:
            self.quota.accounts.discard(self)
        self.quota = quota
        if quota is None:
            self._own, self._block, self._pace = self._plain
        else:
            quota.accounts.add(self)
            self._own, self._block, self._pace = quota.purse, None, quota.pace
        self.owes = False

    @property
    def welcome(self) -> float:
        """Seconds until a connection that is new is to be read."""
        return self._budgets.welcome

    def tell_prices(self) -> None:
        """From here on answers that cost more than a little say so."""
        self._prices = {}

    def ask(self, message: Any, size: int) -> None:
        """A message that came in ``size`` bytes. Raises :class:`Refusal` if it is not to be answered."""
        cost = costs.of_request(message, size)
        self.spend(cost, counts=cost)
        if self._prices is not None and cost >= costs.WORTH_TELLING:
            self._remember(getattr(message, "id", None), cost)
        # Who greets may be a masternode, whatever its neighbours owe.
        if self.owes and type(message) not in _GREETINGS:
            self._require_credit(cost)

    def add(self, message: Any, cost: int) -> None:
        """A message that was asked turned out to cost so much more."""
        self.spend(cost)
        if self._prices is not None:
            self._remember(message.id, cost + self._prices.pop(message.id, 0))

    def pay(self, cost: float) -> None:
        """What is about to be done; raises :class:`Refusal` if it is not to be."""
        self.spend(cost, counts=cost)
        if self.owes:
            self._require_credit(cost)

    def answer(self, reply: Any, payload: bytes) -> bytes:
        """The payload of an answer as it is to be sent; it is paid for by whoever asked."""
        cost = costs.of_reply(reply, len(payload))
        if cost:
            self.spend(cost, counts=cost)
        if self._prices is not None:
            cost += self._prices.pop(reply.id, 0)
            if cost >= costs.WORTH_TELLING:
                return codec.extend(payload, "charge", messages.Charge(cost, self.left))
        return payload

    def _remember(self, request: int | None, cost: int) -> None:
        prices = self._prices
        if prices is None or request is None:
            return
        if len(prices) >= limits.REQUESTS:  # nobody can tell which of its requests are answered yet
            del prices[next(iter(prices))]
        prices[request] = cost

    @property
    def left(self) -> int:
        """What may be spent at once."""
        level = self._own.level if self._block is None else min(self._own.level, self._block.level)
        return max(0, int(level))

    @property
    def block(self) -> str | None:
        """The address block with which it shares; None if with none: on the loopback, and with an operator's key."""
        return self._name if self.quota is None else None

    @property
    def rate(self) -> tuple[int, int]:
        """What may be spent a second, and at once."""
        return int(self._own.rate), int(self._own.burst)

    def garbage(self, size: int) -> None:
        """Something that is no message, in ``size`` bytes."""
        cost = costs.of_garbage(size)
        self.spend(cost)
        self._budgets.newcomer(cost)

    def spend(self, cost: float, counts: float = 0.0) -> None:
        """What is done already. ``counts`` is what of it is held against all together: who comes, sends garbage and is
        thrown out cannot be held back, and the others cannot make room for it."""
        self.spent += cost
        now = self._pace.now(counts)
        owes = self._own.take(cost, now) < 0
        block = self._block
        self.owes = owes if block is None else block.take(cost, now) < 0 or owes

    @property
    def hold(self) -> float:
        """Seconds until the next message is to be read, or this one answered."""
        if not self.owes:
            return 0.0
        debt = self._own.debt if self._block is None else max(self._own.debt, self._block.debt)
        return min(debt / self._pace.speed, HELD_MOST)

    def went_on(self, *, more: bool) -> None:
        """A hold is over; ``more``: something had come already. Raises :class:`Overdrawn` if that goes on for too long.

        Who is held back is not seen to hang up while there is more to read: this is the end of such too.
        """
        now = self._budgets.seconds()
        if not more or self._held_since is None:
            self._held_since = now if more else None
        elif now - self._held_since > limits.HELD_ON_END:
            self._budgets.sent_away += 1
            rate, _ = self.rate
            raise Overdrawn(ErrorCode.OVER_LIMIT, "this was asked without an end", limit="cost_per_second", value=rate)

    def _require_credit(self, cost: float) -> None:
        """Raises if too much was owed before this."""
        own = "cost_per_second" if self.quota is None else "key_cost_per_second"
        for limit, purse in ((own, self._own), ("cost_block_per_second", self._block)):
            if purse is None:
                continue
            over = purse.debt - cost / purse.rate - limits.DEBT
            if over > 0:
                back = min(0.0, costs.REFUSED - cost)  # what was not done is given back
                self.spend(back, counts=back)
                self._refuse(limit, purse, over, cost)

    def _refuse(self, limit: str, purse: Purse, over: float, cost: float) -> None:
        budgets = self._budgets
        wait = over / self._pace.speed
        details: dict[str, str | int] = {
            "limit": limit, "value": int(purse.rate), "cost": int(cost), "retry_after_ms": int(wait * 1000) + 1
        }  # fmt: skip
        if over > limits.DEBT:
            budgets.sent_away += 1
            raise Overdrawn(ErrorCode.OVER_LIMIT, "too much was asked, and asked again", **details)
        budgets.refused += 1
        raise Refusal(ErrorCode.OVER_LIMIT, "more is asked from here than this node answers in time", **details)


class LinkAccount(Account):
    """What one masternode asks as wallets do, over all its connections: past its debt it is refused, at no cost, and
    never held back or sent away."""

    __slots__ = ()

    def ask(self, message: Any, size: int) -> None:
        self.spend(0)
        over = self._own.debt - limits.DEBT
        if over > 0:
            self._refuse("cost_per_second", self._own, min(over, limits.DEBT), costs.of_request(message, size))
        super().ask(message, size)


class Keyring(Protocol):
    """Where keys are looked up (network.quota.Keys)."""

    def find(self, secret: str) -> Quota: ...


class NoKeys:
    """The keyring of a node that has given out none."""

    def find(self, secret: str) -> Quota:
        raise Refusal(ErrorCode.NOT_FOUND, "this node knows no such key")


class Budgets:
    """The accounts of one node's wallets. ``refused`` and ``sent_away`` count requests since the start."""

    def __init__(self, clock: Any, keys: Keyring | None = None) -> None:
        """``clock``: an IReactorTime provider. ``keys``: the operator's, if there are any."""
        self.seconds = clock.seconds
        self.pace = Pace(clock)
        self.keys = keys or NoKeys()
        self._real = Pace(clock)
        self._newcomers = Purse(limits.COST_NEWCOMERS_PER_SECOND, limits.COST_NEWCOMERS_BURST, self._real)
        self.accounts: dict[Account, None] = {}
        self._busy: dict[str, Block] = {}
        self._idle: OrderedDict[str, Block] = OrderedDict()
        self._links: dict[str, LinkAccount] = {}
        self.refused = 0
        self.sent_away = 0

    def open(self, host: str, cost: float = 0.0, way: Way = "tcp") -> Account:
        """The account of a new connection from ``host``; each is to be closed once."""
        own = Purse(limits.COST_PER_SECOND, limits.COST_BURST, self.pace)
        name = block_of(host)
        account = Account(self, own, name, None if name is None else self._join(name), host=host, way=way)
        account.spend(cost)
        self.newcomer(cost)
        self.accounts[account] = None
        self.pace.payers += 1
        return account

    def of_link(self, key: str) -> LinkAccount:
        """The account of a masternode of the set, which stays."""
        account = self._links.get(key)
        if account is None:
            own = Purse(limits.COST_PER_SECOND, limits.COST_BURST, self.pace)
            account = self._links[key] = LinkAccount(self, own)
            self.pace.payers += 1
        return account

    def newcomer(self, cost: float) -> None:
        """What coming cost, and what was said that was none of ours: those who do that come again and again."""
        purse = self._newcomers
        purse.take(cost, self._real.now())
        purse.level = max(purse.level, -limits.WELCOME * purse.rate)  # however long it went on, it is over then

    @property
    def welcome(self) -> float:
        """Seconds that a newcomer waits before it is read."""
        return max(0.0, self._newcomers.debt)

    def _join(self, name: str) -> Purse:
        block = self._busy.get(name) or self._idle.pop(name, None)
        if block is None:
            block = Block(Purse(limits.COST_BLOCK_PER_SECOND, limits.COST_BLOCK_BURST, self.pace))
        self._busy[name] = block
        block.connections += 1
        return block.purse

    def closed(self, account: Account, name: str | None) -> None:
        """A connection of this block is gone. The block is remembered: the next one goes on where this one ended."""
        del self.accounts[account]
        self.pace.payers -= 1
        if name is None:
            return
        block = self._busy[name]
        block.connections -= 1
        if not block.connections:
            self._idle[name] = self._busy.pop(name)
            if len(self._idle) > limits.BLOCKS_KNOWN:
                self._idle.popitem(last=False)

    def is_overdrawn(self, host: str) -> bool:
        """True if so much is owed from there that nobody is let in, not even to be told so."""
        name = block_of(host)
        block = None if name is None else self._busy.get(name) or self._idle.get(name)
        if block is None:
            return False
        block.purse.take(0, self.pace.now())
        return block.purse.debt > 2 * limits.DEBT
