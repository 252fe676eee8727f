"""The five states, in memory and on the wire."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import plain
from timeproto.model.utxo_state import (
    STATES,
    UNSPENT,
    Confirmed,
    Locked,
    SpentFinalized,
    SpentPending,
    TaggedState,
    Unspent,
    UTXOState,
    WireState,
    from_wire,
    holder,
    kind,
    to_wire,
)

T = "ab" * 32
FORMS: dict[UTXOState, object] = {
    UNSPENT: "Unspent",
    Locked(T, 7): {"Locked": {"txid": T, "locked_at": 7}},
    SpentPending(T, 5, 7, 8): {"SpentPending": {"txid": T, "votes": 5, "total_nodes": 7, "spent_at": 8}},
    SpentFinalized(T, 9, 5): {"SpentFinalized": {"txid": T, "finalized_at": 9, "votes": 5}},
    Confirmed(T, 3, 10): {"Confirmed": {"txid": T, "block_height": 3, "confirmed_at": 10}},
}


class States(SynchronousTestCase):
    def test_every_state_has_its_wire_form(self) -> None:
        """All five, to the JSON the protocol fixes and back."""
        self.assertEqual({type(state) for state in FORMS}, set(STATES))
        for state, form in FORMS.items():
            self.assertEqual(plain(to_wire(state)), form)
            self.assertEqual(from_wire(msgspec.convert(form, WireState)), state)

    def test_names_and_holders(self) -> None:
        """Each state knows its name, and all but Unspent whose payment holds the coin."""
        self.assertEqual([kind(state) for state in FORMS],
                         ["Unspent", "Locked", "SpentPending", "SpentFinalized", "Confirmed"])
        self.assertEqual([holder(state) for state in FORMS], [None, T, T, T, T])
        self.assertEqual(Unspent(), UNSPENT)

    def test_forms_that_are_no_state(self) -> None:
        """Two names, no name, another name, a missing or an extra field: refused."""
        locked, final = FORMS[Locked(T, 7)], FORMS[SpentFinalized(T, 9, 5)]
        assert isinstance(locked, dict)
        assert isinstance(final, dict)
        for form in (
            {}, locked | final, {"Unspent": {}}, "Locked", "unspent", None, 1, [], {"Spent": {}},
            {"Locked": None}, {"Locked": {"txid": T}}, {"Locked": {"txid": T, "locked_at": 7, "by": T}},
            {"Locked": {"txid": T.upper(), "locked_at": 7}}, {"Locked": {"txid": T, "locked_at": True}},
            {"Locked": {"txid": T, "locked_at": 2**63}},
        ):  # fmt: skip
            self.assertRaises(msgspec.ValidationError, msgspec.convert, form, WireState)
        self.assertRaises(ValueError, TaggedState)
        self.assertRaises(ValueError, Confirmed, T, 2**64, 0)
