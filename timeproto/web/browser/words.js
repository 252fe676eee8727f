"use strict";
// How states, amounts, times and long names are written: text in, text out.
const words = (() => {
  const STATES = ["Unspent", "Locked", "SpentPending", "SpentFinalized", "Confirmed"];
  const LABELS = {
    Unspent: "Unspent",
    Locked: "Locked",
    SpentPending: "Pending",
    SpentFinalized: "Final",
    Confirmed: "Confirmed",
    Released: "Released",
    Created: "Created",
    announced: "Announced",
    seen: "Seen",
    locked: "Locked",
    pending: "Pending",
    final: "Final",
    confirmed: "Confirmed",
    refused: "Refused",
    aborted: "Aborted",
  };

  const short = (id) => (id.length > 20 ? id.slice(0, 8) + "…" + id.slice(-6) : id);
  const coinName = (outpoint) => `${outpoint.txid}:${outpoint.vout}`;
  // A state is "Unspent", or an object with one key.
  const kind = (state) => (typeof state === "string" ? state : Object.keys(state)[0]);
  const plural = (n, one, many) => `${whole(n)} ${Number(n) === 1 ? one : many || one + "s"}`;

  const whole = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  // An amount in smallest units as [whole TIME, the places that say something, the zeroes behind them].
  function places(units) {
    const digits = String(units).padStart(9, "0"),
      cut = digits.length - 8;
    const kept = digits.slice(cut).replace(/0+$/, "");
    return [whole(digits.slice(0, cut)), kept, digits.slice(cut + kept.length)];
  }
  function amount(units) {
    const [before, kept] = places(units);
    return before + (kept ? "." + kept : "");
  }

  const pad = (n, size = 2) => String(n).padStart(size, "0");
  function clock(ms) {
    const t = new Date(Number(ms));
    return `${pad(t.getHours())}:${pad(t.getMinutes())}:${pad(t.getSeconds())}.${pad(t.getMilliseconds(), 3)}`;
  }
  const date = (ms) => new Date(Number(ms)).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const day = (ms) => new Date(Number(ms)).toLocaleDateString(undefined, { dateStyle: "medium" });
  function took(ms) {
    if (ms < 1000) return `${Math.round(ms)} ms`;
    if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
    if (ms < 5400000) return `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;
    return ms < 172800000 ? `${Math.round(ms / 3600000)} h` : `${Math.round(ms / 86400000)} d`;
  }
  // From one moment to a later one; two clocks may be involved, so it may be less than nothing.
  const since = (ms) => (ms < 0 ? "−" + took(-ms) : "+" + took(ms));
  function ago(ms) {
    const gone = Math.max(0, (Date.now() - Number(ms)) / 1000);
    if (gone < 90) return `${Math.round(gone)} s ago`;
    if (gone < 5400) return `${Math.round(gone / 60)} min ago`;
    return gone < 172800 ? `${Math.round(gone / 3600)} h ago` : day(ms);
  }
  function percentile(sorted, share) {
    return sorted.length ? sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] : null;
  }

  return { STATES, LABELS, short, coinName, kind, plural, whole, places, amount, clock, date, day, took, since, ago, percentile };
})();
