#!/usr/bin/env -S node --experimental-websocket
// Watches an address and believes nobody: watch.mjs ws://127.0.0.1:24180/v1/socket GENESIS_HASH ADDRESS
// Written from docs/wallet-protocol.md, whose headings the comments name. Node.js 22, or 20 with the flag above.
import { createHash, verify } from "node:crypto";
const [url, pinned, address] = process.argv.slice(2);
const need = (holds, why) => holds || (console.error(`refused: ${why}`), process.exit(1));
// Canonical bytes, hashes and signatures
const join = (...parts) => Buffer.concat(parts.map((part) => Buffer.from(part)));
const hex = (text) => need(/^([0-9a-f]{64}){1,2}$/.test(text), `no hex: ${text}`) && Buffer.from(text, "hex");
const u64 = (n) => Buffer.from(BigInt.asUintN(64, BigInt(n)).toString(16).padStart(16, "0"), "hex").reverse();
const u32 = (n) => u64(n).subarray(0, 4), sized = (bytes) => join(u32(bytes.length), bytes);
const list = (items, form) => join(u32(items.length), ...items.flatMap((item) => form(item)));
const sha256 = (...parts) => createHash("sha256").update(join(...parts)).digest();
const sha256d = (...parts) => sha256(sha256(...parts)).toString("hex");
// Genesis (its hash is all that this program is told) and transactions
const output = ({ amount, address }) => [u64(amount), sized(address)];
const input = ({ previous_output: o, script_sig: k, sequence: s }) => [hex(o.txid), u32(o.vout), sized(k), u32(s)];
const txidOf = (tx) => sha256d(list(tx.inputs, input), list(tx.outputs, output), u64(tx.timestamp), u64(tx.fee));
const genesisHash = (g) => sha256d("timeproto/genesis/v1", u32(g.version), sized(g.network), u64(g.timestamp),
  u32(g.block_interval), list(g.masternodes, hex), list(g.allocations, output));
const setHash = (keys) => sha256("timeproto/masternodes/v1", list([...keys].sort(), hex)).toString("hex");
// Votes and proofs
function root(hash, index, size, path) {
  if (size <= 1) return need(index === 0 && path.length === 0, "a path has the wrong length") && hash;
  const left = 2 ** Math.ceil(Math.log2(size) - 1), step = hex(path.at(-1)), rest = path.slice(0, -1);
  return index < left ? sha256([1], root(hash, index, left, rest), step)
    : sha256([1], step, root(hash, index - left, size - left, rest));
}
function check(proof, txid) {
  const voters = new Set(proof.votes.map((vote) => vote.voter)), quorum = Math.floor(2 * members.length / 3) + 1;
  need(proof.txid === txid && proof.set === setHash(members), "the proof is of something else");
  need(voters.size === proof.votes.length && voters.size >= quorum, "there is no quorum");
  for (const { voter, height, index, size, path, signature } of proof.votes) {
    const top = root(sha256([0, 2], hex(txid)), index, size, path);
    const signed = join("timeproto/vote/v1", hex(pinned), hex(proof.set), u64(height), top);
    const key = { format: "jwk", key: { kty: "OKP", crv: "Ed25519", x: hex(voter).toString("base64url") } };
    need(members.includes(voter) && verify(null, signed, key, hex(signature)), "a vote is not a masternode's");
  }
}
// Messages (amounts may be more than a double holds: they are made texts)
const socket = new WebSocket(url), say = (message) => socket.send(JSON.stringify(message));
const show = (o, is, proof) => console.log("%s:%d %j %s", o.txid, o.vout, is, proof ? "proof verified" : "unproven");
socket.onopen = () => say({ type: "GetGenesis" });
socket.onerror = socket.onclose = () => need(false, "there is no connection");
socket.onmessage = ({ data }) => hear(JSON.parse(data.replace(/"(amount|fee)":(\d+)/g, '"$1":"$2"')));
let members;
function hear({ type, message, genesis, states, notification: told, proof, tx }) {
  need(type !== "Error", message);
  if (genesis) {
    need(genesisHash(genesis) === pinned, "the node has another genesis");
    members = genesis.masternodes;
    say({ type: "UTXOSubscribe", subscriber_id: "watch", addresses: [address] });
  }
  for (const { outpoint, state } of states ?? []) show(outpoint, state);
  const txid = tx ? txidOf(tx) : told?.old_state ? Object.values(told.new_state)[0].txid : told?.outpoint.txid;
  if (proof) check(proof, txid);
  if (told?.old_state) show(told.outpoint, told.new_state, proof);
  else if (told) say({ type: "GetTransaction", txid }); // a new coin: what was paid is in what has this txid
  tx?.outputs.forEach((paid, vout) => paid.address === address && show({ txid, vout }, paid, proof));
}
