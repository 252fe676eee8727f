"""Change sets as a replica makes them, for tests of stores."""

from __future__ import annotations

import random

from tests.cluster import COIN, DEVNET, address, key, make_genesis, pay
from timeproto.consensus.effects import Submit
from timeproto.consensus.replica import Replica, found
from timeproto.model.ledger import Changes, Store

WALLETS = [key(1_000 + number) for number in range(3)]
GENESIS = make_genesis(1, WALLETS, coins=40)
OWNER = key(1)


def change_sets(seed: int, count: int, store: Store) -> list[Changes]:
    """``count`` change sets of a one-masternode replica over ``store``, which takes each as it comes."""
    chance = random.Random(seed)
    made = []
    founding = found(store, GENESIS)
    if founding is not None:
        store.commit(founding)
        made.append(founding)
    replica = Replica(store, GENESIS, OWNER)
    coins = [
        (outpoint, output.amount, next(each for each in WALLETS if address(each) == output.address))
        for outpoint, output in GENESIS.coins()
    ]
    chance.shuffle(coins)
    while len(made) < count:
        taken = [coins.pop() for _ in range(chance.randint(1, 3))]
        to = [(address(chance.choice(WALLETS)), chance.randint(DEVNET.dust, COIN)) for _ in range(chance.randint(1, 3))]
        tx = pay(GENESIS, taken, to, timestamp=chance.randrange(1000))
        changes = replica.step([Submit(tx, object())], len(made)).changes
        assert changes is not None
        store.commit(changes)
        made.append(changes)
    return made
