"use strict";
// What a wallet does to believe nobody (protocol §1, §2, §4, §6), in the browser: hashes and Ed25519 by WebCrypto.
const proofs = (() => {
  const text = new TextEncoder();
  const fromHex = (hex) => Uint8Array.from(hex.match(/../g) || [], (pair) => parseInt(pair, 16));
  const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const isHex = (value, size) => typeof value === "string" && value.length === 2 * size && /^[0-9a-f]*$/.test(value);
  const join = (...parts) => {
    const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
    parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
    return whole;
  };
  const integer = (size) => (value) => {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    return new Uint8Array(view.buffer, 0, size);
  };
  const u32 = integer(4),
    u64 = integer(8);
  const sized = (bytes) => join(u32(bytes.length), bytes);
  const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));
  const sha256d = async (...parts) => sha256(await sha256(...parts));
  const domain = (what, genesis) => join(text.encode(`timeproto/${what}/v1`), fromHex(genesis));
  const leafHash = (data) => sha256(Uint8Array.of(0), data);
  const nodeHash = (left, right) => sha256(Uint8Array.of(1), left, right);
  const quorum = (n) => Math.floor((2 * n) / 3) + 1;
  const need = (holds, why) => {
    if (!holds) throw new Error(why);
  };

  // The root that a path leads to from a leaf, null if the path does not fit (RFC 9162 §2.1.3.2).
  async function rootFromPath(data, index, size, path) {
    if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return null;
    let node = await leafHash(data),
      last = size - 1;
    for (const sibling of path) {
      if (last === 0) return null;
      if (index % 2 || index === last) {
        node = await nodeHash(sibling, node);
        while (index % 2 === 0 && index) {
          index = Math.floor(index / 2);
          last = Math.floor(last / 2);
        }
      } else node = await nodeHash(node, sibling);
      index = Math.floor(index / 2);
      last = Math.floor(last / 2);
    }
    return last === 0 ? node : null;
  }

  async function signed(voter, message, signature) {
    if (!isHex(voter, 32) || !isHex(signature, 64)) return false;
    const key = await crypto.subtle.importKey("raw", fromHex(voter), { name: "Ed25519" }, false, ["verify"]);
    return crypto.subtle.verify({ name: "Ed25519" }, key, fromHex(signature), message);
  }

  function checkVoters(voters, members) {
    need(voters.length > 0 && voters.length <= 256, "it has no votes, or too many");
    need(new Set(voters).size === voters.length, "a masternode is counted twice");
    need(
      voters.every((voter) => members.keys.includes(voter)),
      "a voter is not a masternode",
    );
    need(voters.length >= members.quorum, `${voters.length} votes of the ${members.quorum} needed`);
  }

  const KINDS = { lock: 1, commit: 2, abort: 3 };

  async function checkVotes(votes, kind, txid, members, genesis) {
    checkVoters(
      votes.map((vote) => vote.voter),
      members,
    );
    const leaf = join(Uint8Array.of(KINDS[kind]), fromHex(txid));
    for (const vote of votes) {
      need(
        Array.isArray(vote.path) && vote.path.length <= 14 && vote.path.every((node) => isHex(node, 32)),
        "a path is malformed",
      );
      const root = await rootFromPath(leaf, vote.index, vote.size, vote.path.map(fromHex));
      const message = root && join(domain("vote", genesis), fromHex(members.hash), u64(vote.height), root);
      const good = root !== null && (await signed(vote.voter, message, vote.signature));
      need(good, `the vote of ${vote.voter} is not signed by it for this transaction`);
    }
  }

  // A finality proof against a masternode set and a genesis hash: returns, or throws saying why not.
  async function checkProof(proof, members, genesis) {
    need(isHex(proof.txid, 32) && Array.isArray(proof.votes), "it is no proof");
    need(proof.set === members.hash, "it names another masternode set");
    await checkVotes(proof.votes, "commit", proof.txid, members, genesis);
  }

  const headerHash = (header, genesis) =>
    sha256d(
      domain("block", genesis),
      u64(header.height),
      fromHex(header.parent),
      u64(header.timestamp),
      fromHex(header.proposer),
      u32(header.round),
      fromHex(header.root),
      fromHex(header.set),
      fromHex(header.commitment),
    ).then(toHex);

  async function checkCommit(header, commit, members, genesis) {
    need(commit.set === members.hash && header.set === members.hash, "it names another masternode set");
    const hash = await headerHash(header, genesis);
    need(String(commit.height) === String(header.height) && commit.block === hash, "its commit is for another block");
    checkVoters(
      commit.signatures.map((each) => each.voter),
      members,
    );
    const place = join(u64(commit.height), u32(commit.round), u32(0), fromHex(commit.block));
    const message = join(domain("precommit", genesis), fromHex(commit.set), place);
    for (const each of commit.signatures)
      need(await signed(each.voter, message, each.signature), `the vote of ${each.voter} is not signed by it`);
  }

  const ENTRIES = { transaction: 1, commit: 2, abort: 3 };

  // An entry of a decided block: kind is "transaction", "commit" or "abort".
  async function checkInclusion(inclusion, kind, txid, members, genesis) {
    const leaf = join(Uint8Array.of(ENTRIES[kind]), fromHex(txid));
    need(inclusion.path.length <= 12 && inclusion.path.every((node) => isHex(node, 32)), "the path is malformed");
    const root = await rootFromPath(leaf, inclusion.index, inclusion.size, inclusion.path.map(fromHex));
    need(root && toHex(root) === inclusion.header.root, "the entry does not stand in the block");
    await checkCommit(inclusion.header, inclusion.commit, members, genesis);
  }

  const outputBytes = (output) => join(u64(output.amount), sized(text.encode(output.address)));

  // The txid that a transaction's contents have, whatever it claims.
  const txidOf = (tx) =>
    sha256d(
      u32(tx.inputs.length),
      ...tx.inputs.map((each) =>
        join(
          fromHex(each.previous_output.txid),
          u32(each.previous_output.vout),
          sized(Uint8Array.from(each.script_sig)),
          u32(each.sequence),
        ),
      ),
      u32(tx.outputs.length),
      ...tx.outputs.map(outputBytes),
      u64(tx.timestamp),
      u64(tx.fee),
    ).then(toHex);

  const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
  function base58(bytes) {
    let value = bytes.reduce((total, byte) => total * 256n + BigInt(byte), 0n),
      text58 = "";
    for (; value; value /= 58n) text58 = BASE58[Number(value % 58n)] + text58;
    return "1".repeat(bytes.findIndex((byte) => byte) < 0 ? bytes.length : bytes.findIndex((byte) => byte)) + text58;
  }
  // The address of a public key (bytes) on a network.
  async function addressOf(key, network) {
    const payload = (await sha256(Uint8Array.from(key))).slice(0, 20),
      checksum = (await sha256d(payload)).slice(0, 4);
    return "TIME" + (network === "mainnet" ? "1" : "0") + base58([...payload, ...checksum]);
  }

  const genesisHash = (genesis) =>
    sha256d(
      text.encode("timeproto/genesis/v1"),
      u32(genesis.version),
      sized(text.encode(genesis.network)),
      u64(genesis.timestamp),
      u32(genesis.block_interval),
      u32(genesis.masternodes.length),
      ...genesis.masternodes.map(fromHex),
      u32(genesis.allocations.length),
      ...genesis.allocations.map(outputBytes),
    ).then(toHex);

  async function membersOf(genesis) {
    const keys = [...genesis.masternodes].sort();
    need(keys.length > 0 && keys.every((key, at) => isHex(key, 32) && key !== keys[at - 1]), "the masternodes are no set");
    const hash = await sha256(text.encode("timeproto/masternodes/v1"), u32(keys.length), ...keys.map(fromHex));
    return { keys, quorum: quorum(keys.length), hash: toHex(hash) };
  }

  // JSON whose whole numbers of 16 digits and more come as strings: doubles would bend them.
  const parse = (json) =>
    JSON.parse(json.replace(/"(?:[^"\\]|\\.)*"|-?\d{16,}/g, (found) => (found[0] === '"' ? found : `"${found}"`)));

  // Whether this browser can check signatures here: WebCrypto wants https or the loopback, and Ed25519 a recent one.
  async function available() {
    if (typeof crypto === "undefined" || !crypto.subtle) return false;
    try {
      const base = fromHex("5866666666666666666666666666666666666666666666666666666666666666");
      await crypto.subtle.importKey("raw", base, { name: "Ed25519" }, false, ["verify"]);
      return true;
    } catch {
      return false;
    }
  }
  return {
    addressOf,
    available,
    checkCommit,
    checkInclusion,
    checkProof,
    genesisHash,
    isHex,
    membersOf,
    parse,
    rootFromPath,
    txidOf,
    fromHex,
    toHex,
  };
})();
