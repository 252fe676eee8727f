"""Random runs: every invariant after every step, whatever fails and whoever lies (protocol §10)."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import address, pay
from tests.test_consensus.ordeal import Ordeal
from timeproto.errors import Refusal
from timeproto.model.transaction import Transaction

SEEDS = int(os.environ.get("TIMEPROTO_SEEDS", "1"))
"""Multiplies the number of seeds of every run below."""


def run(seed: int, *, liars: int | None = None, steps: int = 50) -> Ordeal:
    """One run: payments, double spends, chains, kills, power cuts, partitions, loss, then healing and the reckoning."""
    n = 4 if seed % 3 else 7
    most = (n - 1) // 3
    cluster = Ordeal(n, seed, liars=most if liars is None else liars, wallets=4, coins=6, duplicate=0.15, lose=0.1)
    chance = cluster.random
    cluster.settle(3)
    coins = [(wallet, coin) for wallet in range(4) for coin in range(6)]
    chance.shuffle(coins)
    single: list[tuple[Transaction, int]] = []
    for _ in range(steps):
        up = [number for number, node in enumerate(cluster.nodes) if node.alive and node.key not in cluster.liars]
        dice = chance.random()
        if not up or dice < 0.12:
            down = [number for number, node in enumerate(cluster.nodes) if not node.alive]
            if down:
                cluster.restart(chance.choice(down))
        elif dice < 0.32 and len(coins) > 1:
            first, second = coins.pop(), coins.pop()
            if chance.random() < 0.4:  # rivals for one coin; some of them want another one as well
                for rival in range(chance.randint(2, 3)):
                    spent = [first, second] if chance.random() < 0.4 else [first]
                    cluster.submit(payment_of(cluster, spent, 10**8 + rival), chance.choice(up))
            else:
                for spent in [[first, second]] if chance.random() < 0.5 else [[first], [second]]:
                    tx = payment_of(cluster, spent, 10**8)
                    single.append((tx, cluster.submit(tx, chance.choice(up))))
        elif dice < 0.42 and single:
            parent, _ = chance.choice(single)  # a child of what may not be final yet
            child = spend_first_output(cluster, parent)
            if child is not None:
                single.append((child, cluster.submit(child, chance.choice(up))))
        elif dice < 0.47:
            cluster.kill(chance.choice(up))
        elif dice < 0.53:
            cluster.cut_power(chance.choice(up), chance.randint(1, 3), before=chance.random() < 0.5)
        elif dice < 0.57:
            numbers = list(range(n))
            chance.shuffle(numbers)
            cut = chance.randint(1, n - 1)
            cluster.partition(numbers[:cut], numbers[cut:])
        elif dice < 0.61:
            cluster.heal()
        elif dice < 0.7:
            cluster.tick()
        else:
            for _ in range(chance.randint(1, 30)):
                cluster.deliver()
    cluster.recover()
    accepted = [tx for tx, ticket in single
                if cluster.answer(ticket) is not None and not isinstance(cluster.answer(ticket), Refusal)]
    cluster.conclude(accepted)
    return cluster


def payment_of(cluster: Ordeal, spent: list[tuple[int, int]], amount: int) -> Transaction:
    """Genesis coins, each as (wallet, number), paid to the next wallet."""
    coins = [cluster.coins_of(wallet)[number] for wallet, number in spent]
    to = address(cluster.wallets[(spent[0][0] + 1) % len(cluster.wallets)])
    return cluster.register(pay(cluster.genesis, coins, [(to, amount)]))


def spend_first_output(cluster: Ordeal, parent: Transaction) -> Transaction | None:
    """A payment of a payment's first output, once for each parent."""
    outpoint, output = parent.output_outpoint(0), parent.outputs[0]
    owner = next(wallet for wallet in cluster.wallets if address(wallet) == output.address)
    if any(outpoint in tx.outpoints for tx in cluster.transactions.values()):
        return None
    tx = pay(cluster.genesis, [(outpoint, output.amount, owner)], [(output.address, output.amount // 2)])
    return cluster.register(tx)


class Runs(SynchronousTestCase):
    def test_honest_masternodes_under_every_fault(self) -> None:
        """Kills, power cuts, partitions, loss, repeats, double spends, chains: all invariants, then all is final."""
        crashes = finals = 0
        for seed in range(40 * SEEDS):
            try:
                cluster = run(seed, liars=0)
            except BaseException:
                print(f"seed {seed}")
                raise
            crashes += cluster.crashes
            finals += len(cluster._spent_by)
        self.assertGreater(crashes, 40)  # L-6: a quiet run would prove nothing
        self.assertGreater(finals, 150)

    def test_with_as_many_liars_as_there_may_be(self) -> None:
        """The same with f Byzantine masternodes who sign everything, tell everyone something else, forge and replay."""
        evidence = finals = 0
        for seed in range(1_000, 1_000 + 40 * SEEDS):
            try:
                cluster = run(seed)
            except BaseException:
                print(f"seed {seed}")
                raise
            evidence += sum(node.replica.evidence_count for node in cluster.honest)
            finals += len(cluster._spent_by)
        self.assertGreater(evidence, 20)
        self.assertGreater(finals, 150)
