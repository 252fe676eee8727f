"""The judge of the reconnect tests can say no: whatever is left out, told twice, turned round or changed, it finds."""

from __future__ import annotations

import random
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.test_wallet.logs import Heard, judge
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.model.utxo_state import Confirmed, Locked, SpentFinalized, SpentPending, Unspent, UTXOState
from timeproto.wallet.watch import Change, Watch
from timeproto.wire.messages import Cursor

NODE = "ab" * 32
ADDRESS = "TIME0mine"
COINS = 5


def way(number: int) -> list[UTXOState]:
    """All that happens to one coin."""
    txid = f"{number:064x}"
    return [
        Unspent(), Locked(txid, 1), SpentPending(txid, 3, 4, 1), SpentFinalized(txid, 2, 3), Confirmed(txid, 1, 3),
    ]  # fmt: skip


def make_log(chance: random.Random) -> list[Transition]:
    """The coins' ways, mixed: each in its order, some of them not at their end, others' between them."""
    ways = {number: way(number)[: chance.randint(1, 5)] for number in range(COINS)}
    turns = [number for number, states in ways.items() for _ in states]
    chance.shuffle(turns)
    log: list[Transition] = []
    past: dict[int, UTXOState] = {}
    for number in turns:
        output = TxOutput(1, ADDRESS if number else "TIME0another")
        old, new = past.get(number), ways[number].pop(0)
        past[number] = new
        outpoint = Outpoint(f"{number:064x}", 0)
        log.append(Transition(len(log) + 1, outpoint, output, old, new, f"{number:064x}", len(log)))
    return log


def watch() -> Watch:
    def nothing(*_: Any) -> None: ...

    found = Watch(frozenset({ADDRESS}), frozenset(), nothing, nothing, None, nothing, nothing)
    return found


def told(log: list[Transition]) -> list[Change]:
    return [
        Change(each.outpoint, each.output, each.old_state, each.new_state, each.timestamp, True,
               Cursor(NODE, each.position))
        for each in log
        if each.output.address == ADDRESS
    ]  # fmt: skip


class Judge(SynchronousTestCase):
    def verdict(self, heard: Heard, log: list[Transition]) -> bool:
        try:
            judge(heard, {NODE: log}, watch(), NODE)
        except AssertionError:
            return False
        return True

    @given(st.integers(0, 2**32), st.data())
    def test_one_thing_wrong(self, seed: int, data: st.DataObject) -> None:
        """The truth passes; the truth with one change wrong does not."""
        log = make_log(random.Random(seed))
        truth = told(log)
        self.assertTrue(self.verdict(list(truth), log))
        at = data.draw(st.integers(0, len(truth) - 1))
        one = truth[at]
        other = next(each for each in told(log) if each is not one)
        assert one.cursor is not None
        wrong: dict[str, list[Any]] = {
            "left out": truth[:at] + truth[at + 1 :],
            "told twice": truth[: at + 1] + truth[at:],
            "told again at the end": [*truth, one],
            "another coin": [*truth[:at], attrs.evolve(one, output=TxOutput(2, ADDRESS)), *truth[at + 1 :]],
            "another time": [*truth[:at], attrs.evolve(one, timestamp=-1), *truth[at + 1 :]],
            "another place": [*truth[:at], attrs.evolve(one, cursor=Cursor(NODE, 99)), *truth[at + 1 :]],
            "another state": [*truth[:at], attrs.evolve(one, new_state=Locked("f" * 64, 7)), *truth[at + 1 :]],
            "somebody else's": [*truth[:at], attrs.evolve(other, output=TxOutput(1, "TIME0another")), *truth[at:]],
        }
        if at:
            wrong["turned round"] = [*truth[: at - 1], one, truth[at - 1], *truth[at + 1 :]]
        for what, heard in wrong.items():
            self.assertFalse(self.verdict(heard, log), what)

    def test_after_a_reset_anything_may_be_missing_but_the_end(self) -> None:
        """What was told before it may be followed by what the coin has come to, and must be."""
        log = make_log(random.Random(3))
        truth = told(log)
        last = {each.outpoint: each for each in truth}
        seen: dict[Outpoint, UTXOState] = {}
        half = truth[: len(truth) // 2]
        for each in half:
            seen[each.outpoint] = each.new_state
        shown = [
            attrs.evolve(each, old_state=seen.get(each.outpoint), timestamp=0, cursor=None)
            for each in last.values()
            if seen.get(each.outpoint) != each.new_state
        ]
        self.assertTrue(self.verdict([*half, "another_node", *shown], log))
        self.assertTrue(shown)
        self.assertFalse(self.verdict([*half, "another_node", *shown[1:]], log))

    def test_after_a_reset_the_first_change_of_a_coin_may_be_any(self) -> None:
        """It leads on from what was told before, though the log says otherwise; without the reset it may not."""
        at, output = Outpoint("a" * 64, 0), TxOutput(1, ADDRESS)
        states = way(1)
        log = [
            Transition(number + 1, at, output, states[number - 1] if number else None, state, "a" * 64, number)
            for number, state in enumerate(states)
        ]
        first, *_, last = told(log)
        gone = attrs.evolve(last, old_state=first.new_state)
        shown = attrs.evolve(first, cursor=None, timestamp=0, old_state=None)
        self.assertTrue(self.verdict([first, "too_long", gone], log))
        self.assertTrue(self.verdict([shown, "too_long", gone], log))
        self.assertFalse(self.verdict([first, gone], log))
        self.assertFalse(self.verdict([shown, gone], log))
        self.assertFalse(self.verdict(["too_long", shown, gone], log))
        self.assertFalse(self.verdict([first, "too_long", last], log))
