"use strict";
// A QR code of version 4, level M: up to 62 bytes, which an address never needs. Returns rows of booleans.
const qrCode = (() => {
  const SIZE = 33,
    DATA = 32,
    CHECK = 18,
    BLOCKS = 2;
  const EXP = [],
    LOG = [];
  for (let at = 0, value = 1; at < 255; at++) {
    EXP[at] = value;
    LOG[value] = at;
    value = (value << 1) ^ (value > 127 ? 0x11d : 0);
  }
  const times = (a, b) => (a && b ? EXP[(LOG[a] + LOG[b]) % 255] : 0);
  let generator = [1];
  for (let at = 0; at < CHECK; at++) {
    const next = [...generator, 0];
    generator.forEach((value, place) => {
      next[place + 1] ^= times(value, EXP[at]);
    });
    generator = next;
  }
  function checkBytes(data) {
    const rest = [...data, ...new Array(CHECK).fill(0)];
    data.forEach((_, at) => {
      const lead = rest[at];
      generator.forEach((value, place) => {
        rest[at + place] ^= times(value, lead);
      });
    });
    return rest.slice(data.length);
  }
  function codewords(text) {
    const bytes = new TextEncoder().encode(text);
    if (bytes.length > DATA * BLOCKS - 2) throw new Error("too long for this code");
    const bits = [];
    const put = (value, count) => {
      for (let at = count - 1; at >= 0; at--) bits.push((value >> at) & 1);
    };
    put(4, 4);
    put(bytes.length, 8);
    bytes.forEach((byte) => put(byte, 8));
    put(0, 4);
    const data = [];
    for (let at = 0; at < bits.length; at += 8)
      data.push(
        parseInt(
          bits
            .slice(at, at + 8)
            .join("")
            .padEnd(8, "0"),
          2,
        ),
      );
    for (let at = 0; data.length < DATA * BLOCKS; at++) data.push(at % 2 ? 0x11 : 0xec);
    const blocks = [data.slice(0, DATA), data.slice(DATA)],
      checks = blocks.map(checkBytes),
      all = [];
    for (let at = 0; at < DATA; at++) blocks.forEach((block) => all.push(block[at]));
    for (let at = 0; at < CHECK; at++) checks.forEach((check) => all.push(check[at]));
    return all;
  }
  const MASKS = [
    (r, c) => (r + c) % 2,
    (r) => r % 2,
    (r, c) => c % 3,
    (r, c) => (r + c) % 3,
    (r, c) => (Math.floor(r / 2) + Math.floor(c / 3)) % 2,
    (r, c) => ((r * c) % 2) + ((r * c) % 3),
    (r, c) => (((r * c) % 2) + ((r * c) % 3)) % 2,
    (r, c) => (((r + c) % 2) + ((r * c) % 3)) % 2,
  ];
  function draw(words, mask) {
    const grid = Array.from({ length: SIZE }, () => new Array(SIZE).fill(null));
    const square = (top, left, dark) => {
      for (let r = -1; r < 8; r++)
        for (let c = -1; c < 8; c++)
          if (grid[top + r] && grid[top + r][left + c] !== undefined) grid[top + r][left + c] = dark(r, c);
    };
    const finder = (r, c) => r >= 0 && r < 7 && c >= 0 && c < 7 && Math.max(Math.abs(r - 3), Math.abs(c - 3)) !== 2;
    square(0, 0, finder);
    square(0, SIZE - 7, finder);
    square(SIZE - 7, 0, finder);
    for (let r = -2; r <= 2; r++) for (let c = -2; c <= 2; c++) grid[26 + r][26 + c] = Math.max(Math.abs(r), Math.abs(c)) !== 1;
    for (let at = 8; at < SIZE - 8; at++) grid[6][at] = grid[at][6] = at % 2 === 0;
    let format = mask << 10; // level M is 00
    for (let at = 14; at >= 10; at--) if ((format >> at) & 1) format ^= 0x537 << (at - 10);
    format = ((mask << 10) | format) ^ 0x5412;
    for (let at = 0; at < 15; at++) {
      const dark = ((format >> at) & 1) === 1;
      grid[at < 6 ? at : at < 8 ? at + 1 : SIZE - 15 + at][8] = dark;
      grid[8][at < 8 ? SIZE - 1 - at : at < 9 ? 7 : 14 - at] = dark;
    }
    grid[SIZE - 8][8] = true;
    let place = 0;
    for (let right = SIZE - 1, up = true; right > 0; right -= 2, up = !up) {
      if (right === 6) right--;
      for (let step = 0; step < SIZE; step++)
        for (const c of [right, right - 1]) {
          const r = up ? SIZE - 1 - step : step;
          if (grid[r][c] !== null) continue;
          const bit = place < words.length * 8 ? (words[place >> 3] >> (7 - (place & 7))) & 1 : 0;
          grid[r][c] = (bit === 1) !== (MASKS[mask](r, c) === 0);
          place++;
        }
    }
    return grid;
  }
  function penalty(grid) {
    let sum = 0,
      dark = 0;
    for (const lines of [grid, grid[0].map((_, c) => grid.map((row) => row[c]))])
      for (const line of lines) {
        for (let at = 0; at < SIZE;) {
          let end = at;
          while (end < SIZE && line[end] === line[at]) end++;
          if (end - at >= 5) sum += end - at - 2;
          at = end;
        }
        sum +=
          40 *
          (
            line
              .map(Number)
              .join("")
              .match(/(?=10111010000|00001011101)/g) || []
          ).length;
      }
    for (let r = 0; r < SIZE; r++)
      for (let c = 0; c < SIZE; c++) {
        dark += grid[r][c];
        if (r && c && grid[r][c] === grid[r - 1][c] && grid[r][c] === grid[r][c - 1] && grid[r][c] === grid[r - 1][c - 1])
          sum += 3;
      }
    return sum + 10 * Math.floor(Math.abs(dark / (SIZE * SIZE) - 0.5) * 20);
  }
  return (text) => {
    const words = codewords(text);
    return MASKS.map((_, mask) => draw(words, mask)).reduce((best, grid) => (penalty(grid) < penalty(best) ? grid : best));
  };
})();
