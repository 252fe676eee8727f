"use strict";
// The node at the other end: questions, what happens live, and what this browser holds for true of the network.
const node = (() => {
  const { $, h, slot } = parts;
  const KEEP = { rows: 60, finals: 500, begun: 5000, replayed: 60 };

  // -- asking ----------------------------------------------------------------------------------------
  class Refused extends Error {
    constructor(status, error) {
      super(error.message || "the node said no");
      this.status = status;
      this.code = error.code;
    }
  }
  async function ask(path) {
    const reply = await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store" });
    const body = proofs.parse(await reply.text());
    if (!reply.ok) throw new Refused(reply.status, body);
    return body;
  }

  // The genesis, hashed here, and pinned the first time it was seen.
  let trusted = null;
  function trust() {
    trusted =
      trusted ||
      (async () => {
        const { genesis } = await ask("/v1/genesis");
        const hash = await proofs.genesisHash(genesis),
          pin = "genesis of " + location.host;
        let known = null;
        try {
          known = localStorage.getItem(pin);
          if (!known) localStorage.setItem(pin, hash);
        } catch {
          /* no storage: nothing is pinned */
        }
        if (known && known !== hash)
          notice(
            `This node has another genesis (${words.short(hash)}) than the one this browser saw here first (${words.short(known)}). Do not take its word for anything.`,
            true,
          );
        return { hash, members: await proofs.membersOf(genesis), genesis };
      })().catch((error) => {
        trusted = null;
        throw error;
      });
    return trusted;
  }
  function notice(text, bad) {
    $("notices").append(h("p", { class: "notice" + (bad ? " bad" : ""), role: "alert" }, text));
  }

  // -- what happens live -----------------------------------------------------------------------------
  const live = { rows: [], finals: [], info: null, head: 0 };
  const listeners = new Set(),
    begun = new Map(),
    finals = new Set();
  let caughtUp = false;
  const tell = (what, data) => listeners.forEach((listener) => listener(what, data));
  // Returns how to stop listening. ``listener(what, data)``: "change" with a row, "final", "info", "block", "gap".
  function watch(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  function becameFinal(final) {
    if (finals.has(final.txid)) return;
    finals.add(final.txid);
    live.finals.push(final);
    live.finals.sort((a, b) => a.at - b.at);
    if (live.finals.length > KEEP.finals) finals.delete(live.finals.shift().txid);
    tell("final");
  }
  function happened(told) {
    const change = told.notification,
      now = words.kind(change.new_state),
      before = change.old_state && words.kind(change.old_state);
    const txid = now !== "Unspent" ? change.new_state[now].txid : before ? change.old_state[before].txid : change.outpoint.txid;
    const at = Number(change.timestamp);
    if (now === "Locked" && !begun.has(txid)) {
      begun.set(txid, at);
      if (begun.size > KEEP.begun) begun.delete(begun.keys().next().value);
    }
    if (now === "SpentFinalized" && begun.has(txid)) becameFinal({ txid, at, took_ms: Math.max(0, at - begun.get(txid)) });
    const state = now === "Unspent" ? (before ? "Released" : "Created") : now;
    const row = {
      at,
      outpoint: change.outpoint,
      from: before,
      state,
      output: told.output,
      txid,
      fresh: caughtUp ? performance.now() : null,
    };
    live.rows.unshift(row);
    if (live.rows.length > KEEP.rows) live.rows.pop();
    tell("change", row);
  }
  function setLive(on, text) {
    $("dot").className = "dot " + (on ? "on" : "off");
    $("live").textContent = text;
  }
  // From a little before now, so that there is something to see at once; then as it happens.
  function listen() {
    const cursor = live.info && live.info.cursor;
    const since = cursor ? `&since=${cursor.node}:${Math.max(0, Number(cursor.position) - KEEP.replayed)}` : "";
    const stream = new EventSource("/v1/events?proofs=false" + since);
    stream.addEventListener("open", () => setLive(true, "live"));
    stream.addEventListener("error", () => {
      setLive(false, "reconnecting");
      if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    });
    stream.addEventListener("transition", (event) => happened(proofs.parse(event.data)));
    stream.addEventListener("watermark", () => {
      caughtUp = true;
    });
    stream.addEventListener("gap", () => {
      live.rows.length = 0;
      tell("gap");
    });
  }
  async function look() {
    try {
      const info = (live.info = await ask("/v1/node"));
      trouble.show(info.degraded || []);
      $("network").textContent = info.network;
      $("foot").textContent = `${info.software} · node ${words.short(info.node_key)} · up ${words.took(info.uptime_ms)}`;
      $("genesis").textContent = "genesis " + words.short(info.genesis);
      $("genesis").title = info.genesis;
      if (info.height !== live.head) {
        live.head = info.height;
        tell("block");
      }
      tell("info");
    } catch {
      setLive(false, "no answer");
    }
  }
  const TROUBLE = {
    quorum: "no quorum is connected",
    voting: "it does not vote",
    synced: "it has not all that is decided",
    disk: "its disk is almost full",
  };
  const trouble = slot((reasons) => {
    const named = reasons.map((each) => TROUBLE[each] || each);
    return named.length
      ? h("p", { class: "notice bad", role: "alert" }, `This node is not as it should be: ${named.join(", ")}.`)
      : [];
  });
  async function start() {
    $("notices").append(trouble.place);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) look();
    });
    setInterval(() => {
      if (!document.hidden) look();
    }, 2000);
    ask("/v1/finality").then(
      ({ finals }) => finals.forEach((each) => becameFinal({ ...each, at: Number(each.at) })),
      () => {},
    );
    await look();
    listen();
  }

  return { Refused, ask, trust, live, watch, start };
})();
