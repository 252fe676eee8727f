"""A standing wish to be told of coins, and what has been told of it: nothing twice, nothing that a proof rules out."""

from __future__ import annotations

from collections.abc import Callable, Set

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from timeproto import limits
from timeproto.errors import Refusal
from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.model.utxo_state import Confirmed, SpentFinalized, UTXOState, holder, kind
from timeproto.wallet.incoming import Incoming
from timeproto.wire.messages import CoinState, Cursor, TransactionStatus

Watched = Outpoint | str
"""An outpoint, or an address."""

ENDED = limits.FILTERS_CONNECTION
"""Coins told Confirmed that one watch remembers, beside all those that it names."""

PAYMENTS = 1_000
"""Payments on their way, or just decided, that one watch remembers. What is final stays until its block is told: of new
ones nothing is told while there are so many."""


@attrs.frozen
class Change:
    """A proven or claimed change of a watched coin. ``proven`` says which: a claim is never money.

    ``timestamp``: Unix milliseconds, of the node that told it. ``cursor``: its place in that node's log. A state that a
    node showed, and not a change it told, has the timestamp 0 and no cursor.
    """

    outpoint: Outpoint
    output: TxOutput
    old_state: UTXOState | None
    new_state: UTXOState
    timestamp: int
    proven: bool
    cursor: Cursor | None = None


@attrs.define(eq=False)
class Watch:
    """A standing wish to be told. ``on_change(change)`` is called in order, once for each transition.

    ``on_reset(reason)`` is called where that cannot be: the node cannot tell what happened since, and the changes that
    follow lead from the states told last to those of now, whatever was in between.

    ``on_payment(incoming)``, if there is one, is called with hints of payments on their way: they are no changes, and
    touch none.
    """

    log = Logger()

    addresses: frozenset[str]
    outpoints: frozenset[Outpoint]
    on_change: Callable[[Change], None]
    on_reset: Callable[[str], None]
    on_payment: Callable[[Incoming], None] | None
    _stop: Callable[[Watch], None]
    _came: Callable[[Watch, str], None]
    begun: set[Watched] = attrs.field(factory=set, init=False)
    """Items whose coins have been shown: from there on every change of them is told."""
    untaken: set[Watched] = attrs.field(default=attrs.Factory(lambda watch: set(watch.items), True), init=False)
    """Items that no node has taken yet, because none was there or it refused: no connection hangs on them."""
    refusal: Refusal | None = attrs.field(default=None, init=False)
    """Why the node that was asked last did not take all of them."""
    asking: Deferred[None] | None = attrs.field(default=None, init=False)
    """Of whoever waits in line to ask a node for what was not shown yet."""
    ahead: dict[Outpoint, int] = attrs.field(factory=dict, init=False)
    """Coins that were shown as they were at a later position of the log than what begins there: changes up to it are
    no news."""
    is_stopped: bool = attrs.field(default=False, init=False)
    told: dict[Outpoint, UTXOState] = attrs.field(factory=dict, init=False)
    """The states told last of coins that may change again."""
    stale: set[Outpoint] = attrs.field(factory=set, init=False)
    """Of those, what was told before a reset and not since: what became of it is to be asked."""
    payments: dict[str, Incoming] = attrs.field(factory=dict, init=False)
    """What was told last of payments on their way, and of the newest that have ended."""
    _ended: dict[Outpoint, None] = attrs.field(factory=dict, init=False)
    _ended_by_name: dict[Outpoint, None] = attrs.field(factory=dict, init=False)

    @property
    def items(self) -> frozenset[Watched]:
        return self.addresses | self.outpoints

    def names(self, outpoint: Outpoint, output: TxOutput) -> bool:
        """True if this coin is among those asked for."""
        return outpoint in self.outpoints or output.address in self.addresses

    def stop(self) -> None:
        self._stop(self)

    def reset(self, reason: str) -> None:
        """What was told is the last word until everything has been shown again."""
        self.ahead.clear()
        self.stale.update(self.told)
        if self.begun:
            self.begun.clear()
            self._call(self.on_reset, reason)

    def hears(self, outpoint: Outpoint, output: TxOutput) -> bool:
        """True if every change of this coin is told from now on."""
        return outpoint in self.begun or output.address in self.begun

    def waits_for(self, outpoint: Outpoint, output: TxOutput, position: int) -> bool:
        """True if a change at this position of the log is one to be told."""
        return self.hears(outpoint, output) and position > self.ahead.get(outpoint, -1)

    def is_news(self, coin: CoinState, state: UTXOState, items: Set[Watched]) -> bool:
        """True if a coin is to be told where ``items`` begin. Of an address what is not spent is shown: a spent coin
        that this watch has never heard of is no news."""
        is_named, is_new = coin.outpoint in items, coin.outpoint in self.told or not _is_final(state)
        return (is_named or (coin.output.address in items and is_new)) and self.differs(coin.outpoint, state)

    def show_page(
        self, coin: CoinState, state: UTXOState, items: Set[Watched], proven: bool | None, later: int | None
    ) -> None:
        """A coin of a page, as it is where ``items`` of this watch begin; or ``later``, at that position of the log,
        which is nothing to whom every change until then is told. ``proven``: None if it was not looked into."""
        outpoint, output = coin.outpoint, coin.output
        is_shown = outpoint in items or output.address in items
        if not is_shown or (later is not None and self.hears(outpoint, output)):
            return
        self.stale.discard(outpoint)
        if later is not None and (proven is not None or outpoint in self.told):
            self.ahead[outpoint] = later  # what was not checked may be invented, any number of it
        if proven is not None and self.is_news(coin, state, items):
            self.show(outpoint, output, state, proven)

    def show(self, outpoint: Outpoint, output: TxOutput, state: UTXOState, proven: bool) -> None:
        """A coin as it is now, if that is not what was told last."""
        if self.differs(outpoint, state):
            self._tell(Change(outpoint, output, self.told.get(outpoint), state, 0, proven))

    def hear(self, change: Change) -> None:
        """A change that a node told: it leads on from what was told last."""
        self.stale.discard(change.outpoint)
        if self.differs(change.outpoint, change.new_state):
            self._tell(attrs.evolve(change, old_state=self.told.get(change.outpoint, change.old_state)))

    # -- what others show ----------------------------------------------------------------------------

    def lacks(self, coin: CoinState, state: UTXOState) -> bool:
        """True if a node that keeps nothing back has told this: a coin that is new here, or that one is spent."""
        return self.is_news(coin, state, self.begun) and (_is_final(state) or coin.outpoint not in self.told)

    def is_locked(self, outpoint: Outpoint) -> bool:
        """True if something was told to hold the coin for now."""
        told = self.told.get(outpoint)
        return told is not None and not _is_final(told) and holder(told) is not None

    # -- telling -------------------------------------------------------------------------------------

    def differs(self, outpoint: Outpoint, state: UTXOState) -> bool:
        """False for what was told already, and for what is told of a spent coin by a node that is behind."""
        before = self.told.get(outpoint)
        if self._has_ended(outpoint) or (_is_final(before) and not isinstance(state, Confirmed)):
            return False
        return before is None or (kind(before), holder(before)) != (kind(state), holder(state))

    def _has_ended(self, outpoint: Outpoint) -> bool:
        return outpoint in self._ended or outpoint in self._ended_by_name

    def _tell(self, change: Change) -> None:
        if isinstance(change.new_state, Confirmed):  # the last there is to be told
            self.told.pop(change.outpoint, None)
            ended = self._ended_by_name if change.outpoint in self.outpoints else self._ended
            ended[change.outpoint] = None
            if len(self._ended) > ENDED:
                del self._ended[next(iter(self._ended))]
        else:
            self.told[change.outpoint] = change.new_state
        self._call(self.on_change, change)
        if change.outpoint.txid in self.payments:
            self._came(self, change.outpoint.txid)

    # -- payments on their way -----------------------------------------------------------------------

    def hint(self, message: TransactionStatus) -> Incoming | None:
        """What a node says, as far as it concerns this watch and is to be told: what is final is told by its coins."""
        if self.on_payment is None or message.status == "final":
            return None
        incoming = Incoming.of(message, self.names)
        return incoming if incoming is not None and self._is_step(incoming) else None

    def expect(self, incoming: Incoming) -> None:
        """Tells what is new of a payment on its way."""
        if self.on_payment is None or not self._is_step(incoming):
            return
        if incoming.txid not in self.payments and len(self.payments) >= PAYMENTS:  # a node may tell of any number
            oldest = next((txid for txid, each in self.payments.items() if each.status != "final"), None)
            if oldest is None:
                return  # a mere word makes nobody miss the block of what has come
            del self.payments[oldest]
        self.payments.pop(incoming.txid, None)
        self.payments[incoming.txid] = incoming
        self._call(self.on_payment, incoming)

    def _is_step(self, incoming: Incoming) -> bool:
        """False for what was told already, and for words against what is proven."""
        known = self.payments.get(incoming.txid)
        if incoming.status == "confirmed":
            return known is not None and known.status == "final"
        if known is None:  # what has come is not on its way any more
            coins = (Outpoint(incoming.txid, each.vout) for each in incoming.outputs)
            return not any(coin in self.told or self._has_ended(coin) for coin in coins)
        return not known.is_final and (known.status, known.rival) != (incoming.status, incoming.rival)

    def _call(self, listener: Callable[..., None], told: object) -> None:
        if self.is_stopped:
            return  # by what another one was told, perhaps
        try:
            listener(told)
        except Exception:
            self.log.failure("a watch's own code failed")


def _is_final(state: UTXOState | None) -> bool:
    return isinstance(state, SpentFinalized | Confirmed)
