"""A whole network in one process, and time that is a number: hunts for a seed in which a promise breaks (protocol §10).

The real replicas, codec and verify stage run over a network, disks, clocks, liars and wallets that one seed decides;
:mod:`~timeproto.sim.checkers` reads what is sent, committed and told, and knows the protocol but not the replica.
The same seed gives the same run to the byte. :func:`timeproto.sim.run.simulate` is one run.
"""
