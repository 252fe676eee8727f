"""Reads a QR code of version 4, level M: written from the standard's side of the reader, to check the page's writer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

SIZE, DATA, CHECK, BLOCKS = 33, 32, 18, 2
FORMATS = {"101010000010010": 0, "101000100100101": 1, "101111001111100": 2, "101101101001011": 3,
           "100010111111001": 4, "100000011001110": 5, "100111110010111": 6, "100101010100000": 7}
"""The fifteen bits for level M by mask, as the standard prints them."""


def read(rows: Sequence[str]) -> str:
    """The text of a code, given as rows of 0 and 1; raises ValueError if it is none."""
    grid = [[cell == "1" for cell in row] for row in rows]
    if [len(row) for row in grid] != [SIZE] * SIZE:
        raise ValueError("the size is another")
    around = [(8, c) for c in (0, 1, 2, 3, 4, 5, 7, 8)] + [(r, 8) for r in (7, 5, 4, 3, 2, 1, 0)]
    beside = [(r, 8) for r in range(SIZE - 1, SIZE - 8, -1)] + [(8, c) for c in range(SIZE - 8, SIZE)]
    first, second = ("".join(str(int(grid[r][c])) for r, c in cells) for cells in (around, beside))
    if first != second or not grid[SIZE - 8][8]:
        raise ValueError("the formats differ")
    mask = FORMATS[first]
    bits = [grid[r][c] != masked(mask, r, c) for r, c in places()][: (DATA + CHECK) * BLOCKS * 8]
    words = [int("".join(str(int(bit)) for bit in bits[at : at + 8]), 2) for at in range(0, len(bits), 8)]
    data: list[int] = []
    for block in range(BLOCKS):
        mine = words[block : DATA * BLOCKS : BLOCKS]
        if any(syndromes(mine + words[DATA * BLOCKS + block :: BLOCKS])):
            raise ValueError("the check words do not fit")
        data += mine
    stream = "".join(f"{word:08b}" for word in data)
    if stream[:4] != "0100":
        raise ValueError("it holds no bytes")
    count = int(stream[4:12], 2)
    return bytes(int(stream[12 + 8 * at : 20 + 8 * at], 2) for at in range(count)).decode("utf-8")


def masked(mask: int, r: int, c: int) -> bool:
    return (
        (r + c) % 2, r % 2, c % 3, (r + c) % 3, (r // 2 + c // 3) % 2, r * c % 2 + r * c % 3,
        (r * c % 2 + r * c % 3) % 2, ((r + c) % 2 + r * c % 3) % 2,
    )[mask] == 0  # fmt: skip


def is_fixed(r: int, c: int) -> bool:
    corner = (r < 9 and c < 9) or (r < 9 and c >= SIZE - 8) or (r >= SIZE - 8 and c < 9)
    return corner or r == 6 or c == 6 or (24 <= r <= 28 and 24 <= c <= 28)


def places() -> Iterator[tuple[int, int]]:
    """The cells of data in their order: two columns at a time, upwards and downwards in turn."""
    columns = [c for c in range(SIZE - 1, 0, -2) if c > 6] + [5, 3, 1]
    for turn, right in enumerate(columns):
        for step in range(SIZE):
            r = step if turn % 2 else SIZE - 1 - step
            for c in (right, right - 1):
                if not is_fixed(r, c):
                    yield r, c


def syndromes(block: Sequence[int]) -> list[int]:
    """All zero exactly when the block is a Reed-Solomon code word."""
    found = []
    for power in range(CHECK):
        root, value = 1, 0
        for _ in range(power):
            root = times(root, 2)
        for word in block:
            value = times(value, root) ^ word
        found.append(value)
    return found


def times(a: int, b: int) -> int:
    """The product in GF(256) with the polynomial 0x11d."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = (a << 1) ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product
