"""The nouns. Frozen, pure, without I/O.

Nouns that travel are ``msgspec.Struct`` classes whose declared fields *are* the strict schema of the wire:
a value is declared once, decoded once, and used to the end. (Measured: 4.7 µs to decode a two-output
transaction into these, against 8 to 12 µs through a second layer of classes.)
"""
