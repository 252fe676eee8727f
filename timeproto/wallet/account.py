"""Money: keys from a wallet file, coins from the network, payments that survive a crash of the wallet.

A payment is written to the wallet file before it leaves, so that a wallet that dies knows, when it is back, what it
has promised, and sends the same transaction again rather than another.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from timeproto.errors import ConfigurationError, ErrorCode, Refusal, StorageError
from timeproto.model.address import address_of, require_address
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Transaction, TxOutput
from timeproto.model.utxo_state import Confirmed, SpentFinalized, Unspent, holder
from timeproto.network.requests import ConnectionGone
from timeproto.params import NetworkParams
from timeproto.wallet import builder
from timeproto.wallet.addresses import CHANGE, GAP_LIMIT, RECEIVE, Addresses
from timeproto.wallet.amounts import format_amount
from timeproto.wallet.ask import Others
from timeproto.wallet.belief import Aborted, Belief, Lie, Silence
from timeproto.wallet.coins import Balance, CoinBook, WalletCoin
from timeproto.wallet.payment import ASK_AGAIN, Payment
from timeproto.wallet.promises import Promises
from timeproto.wallet.protocol import WalletClientProtocol
from timeproto.wallet.purse import CoinsTaken, Purse
from timeproto.wallet.waiters import after
from timeproto.wallet.watch import Change, Watch
from timeproto.wire import messages

if TYPE_CHECKING:  # a client with a purse makes itself an account
    from timeproto.wallet.client import WalletClient


OTHERS = 2
"""Nodes beside the one of the moment that a restore asks: one alone can keep an address to itself, for good."""

LOOKS = 5
"""How many times a balance is read again since there are new addresses: somebody may make them without end."""


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
        self._own = Addresses(purse, self._params)
        self._promises = Promises(purse, client, self.book, self._own)
        self._is_troubled = False
        self.on_address: Callable[[str], None] = lambda address: None
        """Called with each address that is new here, by whatever process it was made; what it raises is logged."""
        self.is_open = False
        self.asked = 0
        """Nodes that the last :meth:`restore` asked; of what one says was never used there is only its word."""
        self._watching: Watch | None = None
        self._opening: Deferred[None] | None = None
        client.regularly(self._look_again)

    # -- addresses -----------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """Every address of this account that was handed out or received change."""
        return list(self._own.keys)

    def new_address(self) -> str:
        """A fresh address to be paid at; remembered first, and watched from now on, or when the account is opened."""
        address = self._own.new()
        self._take_in()
        return address

    def _take_in(self) -> None:
        self._watch()
        for address in self._own.fresh():
            try:
                self.on_address(address)
            except Exception:  # whoever pays is told of the payment that has left, and not of this
                self.log.failure("an account's own code failed")

    async def restore(self, tell: Callable[[int, int], None] = lambda used, tried: None) -> int:
        """Finds the addresses that were ever used, by gap limit; returns how many. ``tell(used, tried)``: progress.

        What the node of the moment calls unused, up to ``OTHERS`` other masternodes are asked, too; :attr:`asked` says
        how many it were in all. If one proves an address used that the first still calls unused in the end, that is
        left. Index order is kept: an address below the last used one is ours even if it never was paid.
        Raises ``Lie`` if the node shows a coin that it cannot prove: it could keep us looking for ever; and
        :class:`ConnectionGone` if it goes away.
        """
        own = self.client.connection
        if own is None:
            raise ConnectionGone("no node is connected")
        belief, others, unknown = self.client.belief.of(own.request), Others(self.client), list[str]()
        used = tried = 0
        async with others.connected(OTHERS):
            for change, reserve in (
                (RECEIVE, self._purse.reserve_receive_index),
                (CHANGE, self._purse.reserve_change_index),
            ):
                gap, index = 0, 0
                while gap < GAP_LIMIT:
                    address = self._own.at(change, index)
                    is_used = await self._is_used(address, belief)
                    if not is_used and await others.any(partial(self._is_used, address)):
                        is_used = True
                        unknown.append(address)
                    tried, index = tried + 1, index + 1
                    gap = 0 if is_used else gap + 1
                    used += 1 if is_used else 0
                    tell(used, tried)
                    known = self._purse.receive_index if change == RECEIVE else self._purse.change_index
                    if is_used:
                        for _ in range(known, index):
                            reserve()
                        self._own.learn()
            self.asked = 1 + len(others)
        if self._watching is not None:
            self._take_in()
        await self._confront(own, belief, unknown)
        return used

    async def _confront(self, own: WalletClientProtocol, belief: Belief, unknown: list[str]) -> None:
        """Leaves ``own`` if it still calls one of these unused: what it says of the coins would be no better."""
        for address in unknown:
            is_used = False
            with suppress(ConnectionGone, Refusal):  # who is to be kept does not refuse to say
                is_used = await self._is_used(address, belief)
            if self.client.connection is not own:
                return
            if not is_used:
                self.client.troubled(Silence(f"it knows of no coin of {address}"))
                with suppress(ConnectionGone):  # it may be some seconds before it may be left
                    await own.pause(2 * ASK_AGAIN)
                return

    async def unpaid_addresses(self) -> int:
        """How many of the newest addresses in a row were never paid; counted up to ``GAP_LIMIT``, where a restore
        from the phrase would stop."""
        unpaid = 0
        for index in range(self._purse.receive_index - 1, -1, -1):
            if unpaid == GAP_LIMIT or await self._is_used(self._own.at(RECEIVE, index), self.client.belief):
                break
            unpaid += 1
        return unpaid

    async def _is_used(self, address: str, belief: Belief) -> bool:
        """True if the address ever owned a coin: one is enough, and it is proven."""
        reply = await belief.ask(messages.GetAddressUTXOs(address=address, spent=True, limit=1))
        for coin in reply.coins:
            if coin.output.address != address:
                raise Lie(f"a coin of {coin.output.address} was shown for {address}")
            await belief.coin_exists(coin.outpoint, coin.output)
        return bool(reply.coins)

    def _watch(self) -> None:
        """Watches whatever address is not watched yet; nobody has to wait for a node's answer to that."""
        watch = self._watching
        if watch is not None and len(watch.addresses) < len(self._own.keys):
            self.client.watches.extend(self.client.connection, watch, self._own.keys.keys() - watch.addresses)

    @property
    def pending(self) -> list[Transaction]:
        """The payments this wallet sent that are not decided, as far as it knows."""
        return self._promises.pending

    async def cancel(self, tx: Transaction) -> Aborted:
        """As :meth:`WalletClient.cancel`, by a key of this account; a payment that another process sends is noted to be
        sent by this one too, and one that is not in the purse is added, for it is sent."""
        self.client.require_open()
        key = self.key_in(tx)
        with suppress(CoinsTaken):  # by itself, or by a rival, which a block will tell apart
            self._purse.add_pending(tx)
        self._purse.share(tx.txid)  # or nothing is sent
        self._promises.take_up([tx])
        return await self.client.cancel(tx, key)

    def key_in(self, tx: Transaction) -> SigningKey:
        """A key of this account that owns an input of ``tx``; :class:`Refusal` ``not_owner`` if none does."""
        ours = {bytes.fromhex(key.public_hex): key for key in self._own.keys.values()}
        key = next((ours[each] for each in tx.keys if each in ours), None)
        if key is None:
            raise Refusal(ErrorCode.NOT_OWNER, f"no coin in {tx.txid} is this wallet's", txid=tx.txid)
        return key

    # -- coins ---------------------------------------------------------------------------------------

    async def opened(self) -> None:
        """Returns when a node is there and the account is open. Fails as :meth:`open` does."""
        await self.client.when_connected()
        if not self.is_open:
            await self.open()

    async def open(self) -> None:
        """Reads the coins of every address, keeps reading, and takes up the payments that were left undecided.

        Raises :class:`ConnectionGone` if not all could be read, or the node's :class:`Refusal` to watch them: half the
        coins are no balance. Then it may be called again. Of an open account it reads what is new.
        """
        self.client.require_open()
        if self.is_open:
            await self.read()
            return
        if self._opening is None or self._opening.called:
            self._opening = Deferred.fromCoroutine(self._open())
        await after(self._opening)

    async def _open(self) -> None:
        if self.client.connection is None:
            raise ConnectionGone("no node is connected")
        if self._watching is None:  # for good: what it was told is what the book of coins rests on
            self._own.fresh()
            self._watching = self.client.watches.add(self._changed, self.addresses, (), lambda reason: None)
        await self.read()
        pending = self._promises.pending
        self._promises.leave_to_others(pending)
        undecided = await self._promises.undecided(pending)  # asked first, and sent after: who takes none is left
        self.is_open = True
        self._promises.take_up(undecided)
        await self.settled()

    async def read(self) -> None:
        """Returns when every coin there is now has been read; raises as :meth:`open` does if not all could be."""
        await self.settled()
        self.require_read()

    def require_read(self) -> None:
        """Raises as :meth:`open` does if not every coin of the addresses that are known now has been read."""
        watch = self._watching
        if watch is None or not self.client.is_current:
            raise ConnectionGone("the node went away before it had shown every coin: ask again")
        if not self._own.keys.keys() <= watch.begun:
            if watch.refusal is not None:
                raise watch.refusal.with_traceback(None)  # of all who are told it none adds to its traceback
            raise ConnectionGone("not every coin was shown: ask again")

    async def settled(self) -> None:
        """Returns when what the purse says now has been read: another process may have made addresses meanwhile."""
        for _ in range(LOOKS):
            known = len(self.addresses)
            self.look()
            protocol, watch = self.client.connection, self._watching
            if protocol is not None and watch is not None:
                await self.client.watches.ask(protocol, watch)
            await self.client.settled()
            if len(self.addresses) == known:
                return

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
                self._has_spent(self.client.belief.proven(outpoint.txid))
        else:
            self.book.add(WalletCoin(outpoint, change.output.amount, change.output.address))
            self.book.lock(outpoint, holder(state) or "")

    def _has_spent(self, tx: Transaction | None) -> None:
        """The proof of ``tx`` is here: its coins are gone, whether a node tells of them before, after or never."""
        for entry in () if tx is None else tx.inputs:
            if address_of(bytes(entry.script_sig), self._params) in self._own.keys:
                self.book.spent(entry.previous_output)

    def _occupied(self) -> set[str]:
        """Where coins are, or are to be by a payment of ours."""
        return self.book.addresses | {output.address for tx in self._purse.pending for output in tx.outputs}

    # -- the purse -----------------------------------------------------------------------------------

    def look(self) -> None:
        """Takes in what other processes with this purse have done, and writes what could not be written before."""
        try:
            self._purse.look()
        except (StorageError, ConfigurationError) as error:
            if not self._is_troubled:  # once says enough: this is called every other second
                self.log.error("{why}", why=error)
            self._is_troubled = True
            return
        self._is_troubled = False
        self._own.learn()
        self._take_in()
        if self.is_open:
            self._promises.look()

    async def _look_again(self) -> None:
        self.look()

    # -- payments ------------------------------------------------------------------------------------

    def send(self, address: str, amount: int) -> Payment:
        """Pays ``amount`` to ``address``: picks and reserves coins in one step, signs, remembers, sends.

        Raises ``InsufficientFunds``, :class:`Refusal` for an address or amount that cannot be paid,
        :class:`ConnectionGone` if the client was stopped, or ``StorageError`` if the purse cannot remember it: with
        nothing sent, now or later.
        """
        self.client.require_open()
        require_address(address, self._params)
        if not isinstance(amount, int) or isinstance(amount, bool):
            raise TypeError(f"an amount is a whole number of smallest units, not {amount!r}")
        dust = self._params.dust
        if amount < dust:  # every node says so too; said here it costs no change address
            raise Refusal(ErrorCode.DUST, f"a payment is at least {format_amount(dust)} TIME", limit="dust", value=dust)
        self.look()
        tx = None
        while tx is None:
            try:
                tx = self._prepare([TxOutput(amount, address)])
            except CoinsTaken as taken:  # by another process, a moment ago
                self._promises.leave_to_others(taken.payments)
        payment = self.client.submit(tx)
        payment.take_back = partial(self._promises.take_back, tx)
        self._promises.follow(payment)
        self._take_in()
        return payment

    def _prepare(self, outputs: list[TxOutput]) -> Transaction:
        """A payment with its coins reserved, in the purse; or else nothing is."""
        selection = self.book.select_and_reserve(
            sum(output.amount for output in outputs),
            lambda ins, outs: builder.fee_for(ins, outs, self._params),
            self._params.dust,
        )
        outpoints = [coin.outpoint for coin in selection.coins]
        change_address = tx = None
        try:
            change_address = self._own.take_change(self._occupied) if selection.change else None
            tx = builder.build(
                selection,
                outputs,
                change_address=change_address,
                keys=self._own.keys,
                genesis=self.client.genesis,
                timestamp=self._now(),
            )
            self._purse.add_pending(tx)
        except BaseException as error:
            self.book.release(outpoints)
            if tx is not None and not isinstance(error, CoinsTaken):
                self._promises.withdraw(tx)
            if change_address is not None and (tx is None or tx not in self._purse.pending):
                self._own.give_back(change_address)
            raise
        self.book.reserve(outpoints, tx.txid)
        return tx
