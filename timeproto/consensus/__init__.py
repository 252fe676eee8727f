"""Every decision, as pure functions of state and input: no Twisted, clock, randomness, threads or files.

:class:`~timeproto.consensus.replica.Replica` is the only hub: inputs go in by ``step``, effects come out as a value.
"""
