"""What a block contains is marked Confirmed in parts: nothing else that a masternode does depends on how far it is."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from twisted.trial.unittest import SynchronousTestCase

from timeproto import limits
from timeproto.consensus.effects import Effects, Input, Timer
from timeproto.consensus.replica import Replica
from timeproto.model.ledger import Changes
from timeproto.model.utxo_state import Confirmed
from timeproto.sim import tight
from timeproto.sim.disk import Disk, copy_of
from timeproto.sim.masternode import Masternode
from timeproto.sim.run import Plan, Run
from timeproto.storage.memory import MemoryStore

SEEDS = 2_024, 2_025, 2_033, 2_056, 2_108
"""Among them restarts while something is left to mark, and rivals that come then."""


@attrs.define
class Life:
    """One start of a masternode; of each step its inputs, its time, and whether its changes were committed."""

    steps: list[list[Any]] = attrs.field(factory=list)


class InParts(SynchronousTestCase):
    steps = starts = 0

    def recorded(self, seed: int) -> tuple[Run, dict[str, list[Life]]]:
        """A run, with all that its honest masternodes were given."""
        run = Run(Plan(seed, faults="limits,crashes,wallets,byzantine"))
        lives: dict[str, list[Life]] = {node.name: [] for node in run.honest}
        make, commit = Masternode.make_replica, Disk.commit
        owners = {node.disk: node.name for node in run.honest}

        def made(node: Masternode) -> Replica:
            replica = make(node)
            if node.name in lives:
                life = Life()
                lives[node.name].append(life)
                step = replica.step

                def kept(inputs: list[Input], now: int) -> Effects:
                    life.steps.append([list(inputs), now, False])
                    return step(inputs, now)

                replica.step = kept  # type: ignore[method-assign, assignment]
            return replica

        def committed(disk: Disk, changes: Changes) -> None:
            commit(disk, changes)
            if disk in owners:
                lives[owners[disk]][-1].steps[-1][2] = True

        patches = self.patch(Masternode, "make_replica", made), self.patch(Disk, "commit", committed)
        run.execute()
        for each in patches:
            each.restore()
        return run, lives

    def replay(self, run: Run, node: Masternode, lives: list[Life]) -> None:
        """The same again, in parts and all at once; ``starts`` and ``steps`` are those with something left to mark."""
        parts, whole = copy_of(run.setting.founded), copy_of(run.setting.founded)
        for life in lives:
            one = Replica(parts, run.setting.genesis, node._signer)
            other = Replica(whole, run.setting.genesis, node._signer)
            self.starts += one.confirmed_height < one.height
            for inputs, now, is_committed in life.steps:
                if one.confirmed_height < one.height:
                    self.steps += 1
                else:
                    self.assertEqual(kept(parts), kept(whole))
                self.assertEqual(known(one), known(other))
                effects = one.step(inputs, now)
                with_all = self.patch(limits, "CONFIRMED_AT_ONCE", 10**6)
                effects_of_all = other.step(inputs, now)
                with_all.restore()
                self.assertEqual(told(effects), told(effects_of_all))
                if is_committed:
                    for store, changes in ((parts, effects.changes), (whole, effects_of_all.changes)):
                        if changes is not None:
                            store.commit(changes)

    def test_nothing_depends_on_how_far_it_is(self) -> None:
        """All that masternodes were given, crashes and lies among it, again: same votes, answers, endings and coins."""
        self.patch(tight, "TIGHT", {**tight.TIGHT, "CONFIRM_PAUSE": 30})
        for seed in SEEDS:
            run, lives = self.recorded(seed)
            with run.world():
                for node in run.honest:
                    self.replay(run, node, lives[node.name])
        self.assertGreater(self.steps, 200)
        self.assertGreater(self.starts, 2)


def told(effects: Effects) -> dict[str, Any]:
    """What a step decided and lets out, but for what is marked."""
    changes = effects.changes
    found: dict[str, Any] = {
        "send": effects.send,
        "timers": [each for each in effects.timers if each[1].what is not Timer.CONFIRM],
        "answers": [(ticket, str(answer)) for ticket, answer in effects.replies],
        "blame": [(key, str(refusal)) for key, refusal in effects.blame],
        "seen": effects.seen,
        "alarm": (effects.alarm, effects.identity_conflict),
    }
    names = "own_votes", "batches", "finalized", "evidence", "blocks", "endings", "sign_state", "caught_up"
    found |= {name: getattr(changes, name) or None if changes is not None else None for name in names}
    steps = [] if changes is None else changes.transitions
    steps = [each for each in steps if not isinstance(each.new_state, Confirmed)]
    found["steps"] = [msgspec.structs.replace(each, position=0) for each in steps]
    return found


def known(replica: Replica) -> tuple[Any, ...]:
    """What a replica makes of it all."""
    payments = [(each.txid, each.standing, each.contested, dict(each.missing)) for each in replica.payments]
    figures = replica.height, replica.unconfirmed, replica.contested, replica.not_voting, replica.state_digest()
    return payments, figures


def kept(store: MemoryStore) -> list[Any]:
    """What is durable of coins and transactions."""
    return [store._coins, store._transactions, list(store.unconfirmed()), store._endings, store._blocks]
