"""Picking coins: exact, in one step, and never one coin for two payments."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, DEVNET, address
from timeproto import limits
from timeproto.model.transaction import Outpoint
from timeproto.params import COIN
from timeproto.wallet import builder
from timeproto.wallet.coins import Balance, CoinBook, InsufficientFunds, Selection, TooManyCoins, WalletCoin

DUST = DEVNET.dust
OURS, THEIRS = "a" * 64, "b" * 64
AMOUNTS = st.integers(1, 50_000) | st.integers(1, 10**6 * COIN)


def fee_for(inputs: int, outputs: int) -> int:
    return builder.fee_for(inputs, outputs, DEVNET)


def flat(inputs: int, outputs: int) -> int:
    """A fee that is easy to count with."""
    return 10 * inputs + outputs


def coin(number: int, amount: int, owner: str = "") -> WalletCoin:
    return WalletCoin(Outpoint(f"{number:064x}", number % 3), amount, owner or address(ALICE))


def book_of(amounts: list[int]) -> CoinBook:
    book = CoinBook()
    for number, amount in enumerate(amounts):
        book.add(coin(number, amount))
    return book


class Picking(SynchronousTestCase):
    def check(self, selection: Selection, target: int, fees: Callable[[int, int], int] = fee_for) -> None:
        """What must hold of every selection: exact sums, enough fee and not a dust more, no dust as change."""
        total = sum(each.amount for each in selection.coins)
        count = len(selection.coins)
        self.assertEqual(total, target + selection.fee + selection.change)
        self.assertEqual(len({each.outpoint for each in selection.coins}), count)
        self.assertTrue(1 <= count <= limits.INPUTS_WALLET)
        if selection.change:
            self.assertGreaterEqual(selection.change, DUST)
            self.assertEqual(selection.fee, fees(count, 2))
        else:
            self.assertGreaterEqual(selection.fee, fees(count, 1))
            self.assertLess(selection.fee, fees(count, 2) + DUST)

    @given(st.lists(AMOUNTS, max_size=30), st.integers(DUST, 10**6 * COIN) | st.integers(DUST, 100_000))
    def test_every_selection_is_exact(self, amounts: list[int], target: int) -> None:
        """Whatever coins there are: the sums fit, or the money is really not there and nothing is reserved."""
        book = book_of(amounts)
        before = book.balance()
        try:
            selection = book.select_and_reserve(target, fee_for, DUST)
        except InsufficientFunds as poor:
            self.assertEqual(book.balance(), before)
            self.assertEqual(poor.available, sum(amounts))
            self.assertLess(sum(amounts), target + fee_for(max(1, len(amounts)), 2))
            return
        self.check(selection, target)
        picked = sum(each.amount for each in selection.coins)
        self.assertEqual(book.balance(), Balance(before.available - picked, picked, 0))

    @given(st.lists(st.sampled_from([2_000, 5_000, 9_000]), min_size=1, max_size=12), st.randoms(use_true_random=False))
    def test_the_order_of_arrival_does_not_matter(self, amounts: list[int], random: object) -> None:
        """The same coins and the same target give the same selection, in whatever order they were heard of."""
        coins = [coin(number, amount) for number, amount in enumerate(amounts)]
        shuffled = [*coins]
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        selections = []
        for order in (coins, shuffled):
            book = CoinBook()
            for each in order:
                book.add(each)
            try:
                selections.append(book.select_and_reserve(sum(amounts) // 2, fee_for, DUST))
            except InsufficientFunds as poor:
                selections.append(str(poor))
        self.assertEqual(selections[0], selections[1])

    def test_one_coin_if_one_will_do(self) -> None:
        """The smallest that suffices, so that the change is small too."""
        book = book_of([100_000, 7_000, 20_000, 9_000])
        selection = book.select_and_reserve(8_000, flat, DUST)
        self.assertEqual([each.amount for each in selection.coins], [9_000])
        self.assertEqual((selection.fee, selection.change), (1_000, 0))

    @given(st.lists(st.integers(DUST, 100_000), min_size=1, max_size=8), st.integers(DUST, 400_000))
    def test_the_fewest_inputs(self, amounts: list[int], target: int) -> None:
        """No selection of fewer coins would have paid."""
        try:
            selection = book_of(amounts).select_and_reserve(target, flat, DUST)
        except InsufficientFunds:
            return
        fewer = len(selection.coins) - 1
        self.assertLess(sum(sorted(amounts)[-fewer:]) if fewer else 0, target + flat(fewer, 1))
        self.check(selection, target, flat)

    def test_change_around_dust(self) -> None:
        """At dust it is change; one unit below it goes to the fee, which grows by at most dust - 1."""
        target = 50_000
        exact = target + flat(1, 2) + DUST
        for amount, wanted in (
            (exact + 1, (flat(1, 2), DUST + 1)),
            (exact, (flat(1, 2), DUST)),
            (exact - 1, (flat(1, 2) + DUST - 1, 0)),
            (target + flat(1, 1), (flat(1, 1), 0)),
        ):
            selection = book_of([amount]).select_and_reserve(target, flat, DUST)
            self.assertEqual((selection.fee, selection.change), wanted, amount)
        self.assertRaises(
            InsufficientFunds, book_of([target + flat(1, 1) - 1]).select_and_reserve, target, flat, DUST
        )

    def test_what_is_held_is_not_picked(self) -> None:
        """Neither a coin of our own undecided payment, nor one the network holds, nor one that is spent."""
        book = book_of([10_000, 20_000, 30_000, 40_000])
        book.reserve([coin(0, 0).outpoint], OURS)
        book.lock(coin(1, 0).outpoint, THEIRS)
        book.spent(coin(2, 0).outpoint)
        self.assertEqual([each.amount for each in book.free()], [40_000])
        self.assertEqual(book.balance(), Balance(available=40_000, pending=10_000, locked=20_000))
        error = self.assertRaises(InsufficientFunds, book.select_and_reserve, 40_000, flat, DUST)
        self.assertEqual(error.available, 40_000)
        self.assertEqual(book.balance().available, 40_000)

    def test_more_coins_than_one_payment_holds(self) -> None:
        """What fits is paid; what would not is refused with a way out, and reserves nothing."""
        most = limits.INPUTS_WALLET
        book = book_of([10_000] * (2 * most))
        error = self.assertRaises(TooManyCoins, book.select_and_reserve, 10_000 * most, flat, DUST)
        self.assertEqual(error.available, 10_000 * most)
        self.assertGreater(error.needed, error.available)
        self.assertIn("parts", str(error))
        self.assertEqual(book.balance(), Balance(20_000 * most, 0, 0))
        selection = book.select_and_reserve(10_000 * most - flat(most, 1), flat, DUST)
        self.assertEqual(len(selection.coins), most)
        error = self.assertRaises(InsufficientFunds, book.select_and_reserve, 30_000 * most, flat, DUST)
        self.assertNotIsInstance(error, TooManyCoins)

    def test_a_book_without_coins(self) -> None:
        """Says how much is needed, in TIME."""
        error = self.assertRaises(InsufficientFunds, CoinBook().select_and_reserve, COIN, flat, DUST)
        self.assertEqual((error.available, error.needed), (0, COIN + flat(1, 2)))
        self.assertIn("1.00000012 TIME", str(error))
        self.assertNotIn("\n", str(error))


class ConcurrentSends(SynchronousTestCase):
    def test_a_hundred_sends_share_no_coin(self) -> None:
        """A hundred payments begun before any is decided: each coin is in at most one, and no money is lost."""
        book = book_of([COIN + number for number in range(100)])
        total = book.balance().total
        picked = [
            each.outpoint
            for _ in range(100)
            for each in book.select_and_reserve(COIN // 2, fee_for, DUST).coins
        ]
        self.assertEqual(len(picked), 100)
        self.assertEqual(len(set(picked)), 100)
        self.assertRaises(InsufficientFunds, book.select_and_reserve, DUST, fee_for, DUST)
        self.assertEqual(book.balance(), Balance(0, total, 0))
        book.release(picked)
        self.assertEqual(book.balance(), Balance(total, 0, 0))

    @settings(max_examples=30)
    @given(
        st.lists(st.integers(DUST, 10 * COIN), min_size=1, max_size=150),
        st.lists(st.integers(DUST, 5 * COIN), min_size=100, max_size=100),
    )
    def test_any_hundred_sends_share_no_coin(self, amounts: list[int], targets: list[int]) -> None:
        """Also when the coins run out in the middle, and whatever the amounts."""
        book = book_of(amounts)
        used: set[Outpoint] = set()
        paid = 0
        for number, target in enumerate(targets):
            try:
                selection = book.select_and_reserve(target, fee_for, DUST)
            except InsufficientFunds:
                continue
            outpoints = {each.outpoint for each in selection.coins}
            self.assertEqual(outpoints & used, set())
            used |= outpoints
            paid += sum(each.amount for each in selection.coins)
            book.reserve(outpoints, f"{number:064x}")
        self.assertEqual(book.balance(), Balance(sum(amounts) - paid, paid, 0))


class Ledger(RuleBasedStateMachine):
    """A book beside the plainest model of one: for each coin, its amount and who holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.book = CoinBook()
        self.amounts: dict[int, int] = {}
        self.ours: set[int] = set()
        self.theirs: set[int] = set()
        self.count = 0

    @rule(amount=st.integers(1, 10 * COIN))
    def hear_of_a_coin(self, amount: int) -> None:
        self.count += 1
        self.amounts[self.count] = amount
        self.book.add(coin(self.count, amount))

    @precondition(lambda self: self.amounts)
    @rule(data=st.data(), what=st.sampled_from(["add", "spent", "lock", "unlock", "reserve", "release"]))
    def something_happens(self, data: st.DataObject, what: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.amounts)))
        outpoint = coin(number, 0).outpoint
        match what:
            case "add":  # told again
                self.book.add(coin(number, self.amounts[number]))
            case "spent":
                self.book.spent(outpoint)
                del self.amounts[number]
                self.ours.discard(number)
                self.theirs.discard(number)
            case "lock":
                self.book.lock(outpoint, THEIRS)
                self.theirs.add(number)
            case "unlock":
                self.book.unlock(outpoint)
                self.theirs.discard(number)
            case "reserve":
                self.book.reserve([outpoint], OURS)
                self.ours.add(number)
            case "release":
                self.book.release([outpoint], OURS)
                self.book.release([outpoint])
                self.ours.discard(number)

    @rule(amount=st.integers(DUST, 10 * COIN))
    def pay(self, amount: int) -> None:
        free = {number for number in self.amounts if number not in self.ours | self.theirs}
        try:
            selection = self.book.select_and_reserve(amount, fee_for, DUST)
        except InsufficientFunds:
            return
        picked = {int(each.outpoint.txid, 16) for each in selection.coins}
        assert picked <= free
        self.ours |= picked

    @invariant()
    def the_balance_is_the_models(self) -> None:
        pending = sum(self.amounts[number] for number in self.ours)
        locked = sum(self.amounts[number] for number in self.theirs - self.ours)
        total = sum(self.amounts.values())
        balance = self.book.balance()
        assert balance == Balance(total - pending - locked, pending, locked), balance
        assert balance.available + balance.pending + balance.locked == balance.total == total

    @invariant()
    def what_is_gone_is_forgotten(self) -> None:
        for number in range(1, self.count + 1):
            assert (coin(number, 0).outpoint in self.book) == (number in self.amounts)


class Books(SynchronousTestCase):
    def test_any_history(self) -> None:
        """After any run of news and payments the book says what the plainest model says."""
        run_state_machine_as_test(Ledger, settings=settings(max_examples=60, stateful_step_count=30))

    def test_spent_is_forgotten_whoever_held_it_and_for_good(self) -> None:
        """A node that is behind cannot bring a coin back that was proven spent."""
        book = book_of([5_000])
        outpoint = coin(0, 0).outpoint
        book.reserve([outpoint], OURS)
        book.lock(outpoint, THEIRS)
        book.spent(outpoint)
        self.assertEqual(book.balance().total, 0)
        book.add(coin(0, 5_000))
        self.assertEqual(book.balance(), Balance(0, 0, 0))

    def test_our_payment_on_the_network_is_ours(self) -> None:
        """A coin of our own undecided payment is pending, also when the network says it is held; never both."""
        book = book_of([5_000])
        outpoint = coin(0, 0).outpoint
        book.reserve([outpoint], OURS)
        book.lock(outpoint, OURS)
        self.assertEqual(book.balance(), Balance(0, 5_000, 0))
        book.release([outpoint], THEIRS)
        self.assertEqual(book.balance(), Balance(0, 5_000, 0))
        book.release([outpoint], OURS)
        self.assertEqual(book.balance(), Balance(0, 0, 5_000))
        book.unlock(outpoint)
        self.assertEqual(book.balance(), Balance(5_000, 0, 0))

    def test_news_of_a_coin_before_the_coin(self) -> None:
        """Held first, heard of later: it is held all the same."""
        book = CoinBook()
        book.lock(coin(0, 0).outpoint, THEIRS)
        book.add(coin(0, 5_000, address(BOB)))
        self.assertEqual(book.balance(), Balance(0, 0, 5_000))
        self.assertEqual(book.free(), [])
