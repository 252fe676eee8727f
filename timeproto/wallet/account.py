"""Money: keys from a wallet file, coins from the network, payments that survive a crash of the wallet.

A payment is written to the wallet file before it leaves, so that a wallet that dies knows, when it is back, what it
has promised, and sends the same transaction again rather than another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.address import require_address
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Transaction, TxOutput
from timeproto.model.utxo_state import Confirmed, SpentFinalized, Unspent, holder
from timeproto.network.requests import ConnectionGone
from timeproto.params import NetworkParams
from timeproto.wallet import builder, hd
from timeproto.wallet.amounts import format_amount
from timeproto.wallet.belief import Aborted, Lie
from timeproto.wallet.coins import Balance, CoinBook, WalletCoin
from timeproto.wallet.payment import Payment
from timeproto.wallet.purse import Purse
from timeproto.wallet.resuming import is_for_good
from timeproto.wallet.watch import Change, Watch
from timeproto.wallet.watching import after
from timeproto.wire import messages

if TYPE_CHECKING:  # a client with a purse makes itself an account
    from timeproto.wallet.client import WalletClient

GAP_LIMIT = 20
"""Unused addresses in a row after which no more are looked for (BIP-44)."""
RECEIVE, CHANGE = 0, 1


class Account:
    """One purse over one :class:`~timeproto.wallet.client.WalletClient`."""

    log = Logger()

    def __init__(self, purse: Purse, client: WalletClient, *, now: Callable[[], int]) -> None:
        """``now`` gives Unix seconds, for the timestamp of transactions."""
        self.client = client
        self.book = CoinBook()
        self._purse = purse
        self._now = now
        self._params: NetworkParams = client.genesis.params
        self._tree = hd.Tree(hd.seed_of(purse.phrase))
        self._keys: dict[str, SigningKey] = {}
        self.is_open = False
        self._watching: Deferred[Watch] | None = None
        for change, count in ((RECEIVE, purse.receive_index), (CHANGE, purse.change_index)):
            for index in range(count):
                self._know(change, index)

    # -- addresses -----------------------------------------------------------------------------------

    def _know(self, change: int, index: int) -> str:
        key = self._tree.key(0, change, index)
        address = hd.address(key, self._params)
        self._keys[address] = key
        return address

    @property
    def addresses(self) -> list[str]:
        """Every address of this account that was handed out or received change."""
        return list(self._keys)

    def new_address(self) -> str:
        """A fresh address to be paid at; watched from now on, and remembered first."""
        address = self._know(RECEIVE, self._purse.reserve_receive_index())
        self._watch(address)
        return address

    async def restore(self, tell: Callable[[int, int], None] = lambda used, tried: None) -> int:
        """Finds the addresses that were ever used, by gap limit; returns how many. ``tell(used, tried)``: progress.

        Index order is kept: an address below the last used one is ours even if it never was paid. Raises ``Lie`` if a
        node shows a coin that it cannot prove: it could keep us looking for ever.
        """
        used = tried = 0
        for change, reserve in (
            (RECEIVE, self._purse.reserve_receive_index),
            (CHANGE, self._purse.reserve_change_index),
        ):
            gap, index = 0, 0
            while gap < GAP_LIMIT:
                address = hd.address(self._tree.key(0, change, index), self._params)
                is_used = await self._is_used(address)
                tried, index = tried + 1, index + 1
                gap = 0 if is_used else gap + 1
                used += 1 if is_used else 0
                tell(used, tried)
                known = self._purse.receive_index if change == RECEIVE else self._purse.change_index
                if is_used:
                    for missing in range(known, index):
                        reserve()
                        self._know(change, missing)
        return used

    async def unpaid_addresses(self) -> int:
        """How many of the newest addresses in a row were never paid; counted up to ``GAP_LIMIT``, where a restore
        from the phrase would stop."""
        unpaid = 0
        for index in range(self._purse.receive_index - 1, -1, -1):
            if unpaid == GAP_LIMIT or await self._is_used(self._know(RECEIVE, index)):
                break
            unpaid += 1
        return unpaid

    async def _is_used(self, address: str) -> bool:
        """True if the address ever owned a coin: one is enough, and it is proven."""
        reply = await self.client.ask(messages.GetAddressUTXOs(address=address, spent=True, limit=1))
        for coin in reply.coins:
            if coin.output.address != address:
                raise Lie(f"a coin of {coin.output.address} was shown for {address}")
            await self.client.belief.coin_exists(coin.outpoint, coin.output)
        return bool(reply.coins)

    def _watch(self, address: str) -> None:
        """Watches a new address from now on; nobody has to wait for a node's answer to that."""

        def failed(failure: Failure) -> None:
            failure.trap(ConnectionGone, Refusal)  # it is watched from the next connection on
            why = failure.value
            if isinstance(why, Refusal) and is_for_good(why):
                self.log.error("no node watches {address}: {why}", address=address, why=why)

        watching = self.client.watch(self._changed, addresses=[address])
        watching.addErrback(failed).addErrback(
            lambda failure: self.log.failure("an address cannot be watched", failure=failure)
        )

    @property
    def pending(self) -> list[Transaction]:
        """The payments this wallet sent that are not decided, as far as it knows."""
        return list(self._purse.pending)

    def key_in(self, tx: Transaction) -> SigningKey:
        """A key of this account that owns an input of ``tx``; :class:`Refusal` ``not_owner`` if none does."""
        ours = {bytes.fromhex(key.public_hex): key for key in self._keys.values()}
        key = next((ours[each] for each in tx.keys if each in ours), None)
        if key is None:
            raise Refusal(ErrorCode.NOT_OWNER, f"no coin in {tx.txid} is this wallet's", txid=tx.txid)
        return key

    # -- coins ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Reads the coins of every address, keeps reading, and takes up the payments that were left undecided.

        Raises :class:`ConnectionGone` if not all could be read: half the coins are no balance. Then it may be called
        again.
        """
        if self.client.connection is None:
            raise ConnectionGone("no node is connected")
        if self._watching is None:
            self._watching = self.client.watch(self._changed, addresses=self.addresses)
        try:
            await after(self._watching)
        except Refusal as refusal:
            if is_for_good(refusal):
                self._watching = None
            raise
        await self.client.taken_up()
        await self.client.settled()
        if not (self.client.is_current and self.client.has_shown_all(self._changed)):
            raise ConnectionGone("the node went away before it had shown every coin")
        for tx in list(self._purse.pending):
            self.book.reserve(tx.outpoints, tx.txid)
            try:
                await self.client.fetch_proof(tx.txid)
            except (Refusal, Lie):
                self._follow(self.client.submit(tx, again=True))
            else:  # it became final while we were away
                self._is_final(tx)
        self.is_open = True

    def balance(self) -> Balance:
        """In smallest units: available, pending (in our own undecided payments), locked (by others), total."""
        return self.book.balance()

    def _changed(self, change: Change) -> None:
        state, outpoint = change.new_state, change.outpoint
        if isinstance(state, SpentFinalized | Confirmed):
            self.book.spent(outpoint)
        elif isinstance(state, Unspent):
            if change.proven:
                self.book.add(WalletCoin(outpoint, change.output.amount, change.output.address))
                self.book.unlock(outpoint)
        else:
            self.book.add(WalletCoin(outpoint, change.output.amount, change.output.address))
            self.book.lock(outpoint, holder(state) or "")

    # -- payments ------------------------------------------------------------------------------------

    def send(self, address: str, amount: int) -> Payment:
        """Pays ``amount`` to ``address``: picks and reserves coins in one step, signs, remembers, sends.

        Raises ``InsufficientFunds``, :class:`Refusal` for an address or amount that cannot be paid, or
        ``StorageError``, with nothing reserved or sent, if the purse cannot remember it.
        """
        require_address(address, self._params)
        dust = self._params.dust
        if amount < dust:  # every node says so too; said here it costs no change address
            raise Refusal(ErrorCode.DUST, f"a payment is at least {format_amount(dust)} TIME", limit="dust", value=dust)
        outputs = [TxOutput(amount, address)]
        selection = self.book.select_and_reserve(
            amount, lambda ins, outs: builder.fee_for(ins, outs, self._params), self._params.dust
        )
        outpoints = [coin.outpoint for coin in selection.coins]
        try:
            change_address = None
            if selection.change:
                change_address = self._know(CHANGE, self._purse.reserve_change_index())
            tx = builder.build(
                selection,
                outputs,
                change_address=change_address,
                keys=self._keys,
                genesis=self.client.genesis,
                timestamp=self._now(),
            )
            self._purse.add_pending(tx)
        except BaseException:
            self.book.release(outpoints)
            raise
        self.book.reserve(outpoints, tx.txid)
        payment = self.client.submit(tx)
        self._follow(payment)
        if change_address is not None:
            self._watch(change_address)
        return payment

    def _is_final(self, tx: Transaction) -> None:
        """A payment of ours is proven final: its coins are gone, and there is nothing to remember."""
        for outpoint in tx.outpoints:
            self.book.spent(outpoint)
        self._purse.remove_pending(tx.txid)

    def _follow(self, payment: Payment) -> None:
        tx = payment.tx

        def failed(failure: Any) -> None:
            if failure.check(Refusal):  # a node said no, or a block has ended it: the coins are ours to spend again
                self.book.release(tx.outpoints)
                for outpoint in failure.value.spent if failure.check(Aborted) else ():
                    self.book.spent(outpoint)  # but not those that its rival took
                self._purse.remove_pending(tx.txid)
            # otherwise nobody knows: it stays in the file, and is sent again next time

        payment.when_final().addCallbacks(lambda _: self._is_final(tx), failed).addErrback(
            lambda failure: self.log.failure("a payment's end could not be noted", failure=failure)
        )
