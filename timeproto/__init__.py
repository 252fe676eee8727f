"""The UTXO State Protocol: payments that are final in a fraction of a second, and wallets that check it.

The rooms, from the ground up:

``model``       the nouns: keys, transactions, coin states, votes, proofs
``wire``        the messages and their one codec
``consensus``   every decision, as pure functions of state and input
``storage``     what must survive a power cut
``network``     connections: frames, handshake, peers, wallets' subscriptions
``masternode``  the node, assembled from the rooms above
``wallet``      the client library and its keys
``devnet``      seven masternodes on one machine
``bench``       measurements
``cli``         the ``timeproto`` command
"""

__version__ = "0.1.0"
