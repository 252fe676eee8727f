"use strict";
// The elements that views are made of. What is shown is text: nothing in here, or behind it, makes markup of a string.
const parts = (() => {
  const $ = (id) => document.getElementById(id);

  function fill(element, options, children) {
    for (const [name, value] of Object.entries(options || {})) {
      if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
      else if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
    const given = children.flat(Infinity).filter((child) => child !== null && child !== undefined);
    element.append(...given.map((child) => (child instanceof Node ? child : String(child))));
    return element;
  }
  const h = (tag, options, ...children) => fill(document.createElement(tag), options, children);
  const s = (tag, options, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), options, children);

  // -- names that lead somewhere ---------------------------------------------------------------------
  const to = (...place) => "#/" + place.map(encodeURIComponent).join("/");
  const link = (place, label, title) => h("a", { href: to(...place), class: "mono", title }, label);
  // On a narrow screen the beginning of an id has to do.
  const narrow = (id) => h("span", {}, id.slice(0, 8), h("span", { class: "wider" }, "…" + id.slice(-6)));
  const txLink = (txid) => link(["tx", txid], narrow(txid), txid);
  const coinLink = (outpoint) =>
    link(["coin", words.coinName(outpoint)], [narrow(outpoint.txid), ":" + outpoint.vout], words.coinName(outpoint));
  const addressLink = (address) => link(["address", address], words.short(address), address);
  const blockLink = (height) => link(["block", String(height)], words.whole(height));

  // -- small things ----------------------------------------------------------------------------------
  const SOLID = new Set(["SpentFinalized", "Confirmed", "Released", "final", "confirmed", "aborted", "refused"]);
  const chip = (state, label) =>
    h("span", { class: `chip ${state}${SOLID.has(state) ? " solid" : ""}` }, label || words.LABELS[state] || state);
  // In a column every amount has its eight places, so that they can be compared by eye.
  function money(units) {
    const [before, kept, zeroes] = words.places(units);
    return h("span", {}, before + (kept ? "." + kept : ""), h("span", { class: "soft wider" }, (kept ? "" : ".") + zeroes));
  }
  const empty = (text) => h("p", { class: "empty" }, text);
  const dot = (mood) => h("span", { class: "dot " + mood, "aria-hidden": "true" });
  function copyButton(text) {
    const button = h("button", { type: "button", class: "slight" }, "Copy");
    const answer = (word) => {
      button.textContent = word;
      setTimeout(() => {
        button.textContent = "Copy";
      }, 1500);
    };
    button.addEventListener("click", () => {
      if (navigator.clipboard)
        navigator.clipboard.writeText(text).then(
          () => answer("Copied"),
          () => answer("Not allowed"),
        );
      else answer("Not allowed");
    });
    return button;
  }

  // -- cards and tables ------------------------------------------------------------------------------
  function card(title, size, note, ...children) {
    const aside = note === null || note === undefined || note instanceof Node ? note : h("span", { class: "soft small" }, note);
    return h("section", { class: "card " + size }, h("header", {}, h("h2", {}, title), aside), children);
  }
  // Who cannot use a mouse must reach what can be scrolled; what fits should not be in the way.
  const fitting = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const over = target.scrollWidth > target.clientWidth + 1 || target.scrollHeight > target.clientHeight + 1;
      const name = target.firstChild && target.firstChild.getAttribute("aria-label");
      for (const [key, value] of [
        ["tabindex", "0"],
        ["role", "region"],
        ["aria-label", `${name}, can be scrolled`],
      ])
        if (over) target.setAttribute(key, value);
        else target.removeAttribute(key);
    }
  });
  // A head that begins with # is a column of numbers, with ~ one that a narrow screen leaves out, with | one of marks.
  function table(name, heads, rows, nothing, low) {
    if (!rows.length) return empty(nothing);
    const look = (head) => ({ "#": "num", "~": "wider", "|": "mid" })[head[0]] || "";
    const top = h(
      "tr",
      {},
      heads.map((head) => h("th", { scope: "col", class: look(head) }, head.replace(/^[#~|]/, ""))),
    );
    const lines = rows.map((cells) =>
      cells instanceof Node
        ? cells
        : h(
            "tr",
            {},
            cells.map((cell, at) => h("td", { class: look(heads[at]) }, cell)),
          ),
    );
    const box = h(
      "div",
      { class: low ? "scroll low" : "scroll" },
      h("table", { "aria-label": name }, h("thead", {}, top), h("tbody", {}, lines)),
    );
    fitting.observe(box);
    return box;
  }
  const facts = (pairs) =>
    h(
      "dl",
      {},
      pairs.filter(Boolean).map(([term, what]) => [h("dt", {}, term), h("dd", {}, what)]),
    );

  // A place that is drawn again only when what it shows has changed, and keeps the focus that is in it.
  function slot(draw, tag = "div", options = {}) {
    const place = h(tag, options);
    let last;
    function show(data) {
      const now = JSON.stringify(data);
      if (now === last) return false;
      last = now;
      const name = (element) => element.getAttribute("href") || element.textContent;
      const held = place.contains(document.activeElement) ? name(document.activeElement) : null;
      place.replaceChildren(...[draw(data)].flat(Infinity).filter(Boolean));
      if (held) {
        const again = [...place.querySelectorAll("a, button")].find((each) => name(each) === held);
        if (again) again.focus({ preventScroll: true });
      }
      return true;
    }
    return { place, show };
  }

  // -- what views share ------------------------------------------------------------------------------
  function heading(crumb, title, marks, id, under) {
    return h(
      "div",
      { class: "head" },
      h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Node"), " / " + crumb),
      h("div", { class: "title" }, h("h1", { tabindex: "-1" }, title), marks),
      under ? h("p", { class: "small soft" }, under) : null,
      id ? h("p", { class: "id" }, h("span", { class: "mono" }, id), copyButton(id)) : null,
    );
  }
  const ICONS = {
    good: "M4 12.5l5 5L20 6",
    bad: "M6 6l12 12M18 6L6 18",
    unsure: "M12 5v9M12 18.5v.1",
    wait: "M12 3a9 9 0 1 0 .01 0M12 7.5V12l3 2",
  };
  function verdict(mood, title, why) {
    const icon = s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: ICONS[mood] }));
    return h("div", { class: "verdict " + mood, id: "verdict" }, icon, h("b", {}, title), h("p", {}, why));
  }
  const checks = (done, failed) =>
    h(
      "ul",
      { class: "checks" },
      done.map((each) => h("li", {}, each)),
      failed ? h("li", { class: "no" }, failed) : null,
    );
  const MARKS = {
    yes: ["yes-vote", "✓", "yes"],
    abort: ["abort-vote", "✓", "yes"],
    missing: ["missing-vote", "missing", ""],
    no: ["no-vote", "–", "no"],
  };
  function mark(which) {
    const [look, sign, spoken] = MARKS[which];
    return spoken
      ? h("span", { class: look }, h("span", { "aria-hidden": "true" }, sign), h("span", { class: "unseen" }, spoken))
      : h("span", { class: look }, sign);
  }
  // Votes out of all, with the line that a quorum has to reach.
  function gauge(count, members, tone) {
    const bar = h("span", { class: `gauge ${tone || ""}`, "aria-hidden": "true" }),
      size = members.keys.length;
    const cells = Math.min(size, 40);
    for (let at = 0; at < cells; at++) bar.append(h("i", { class: at < Math.round((count * cells) / size) ? "yes" : "" }));
    const line = h("u");
    line.style.left = (100 * members.quorum) / size + "%";
    bar.append(line);
    return bar;
  }
  // Tells those who listen to the page rather than see it.
  function say(text) {
    $("say").textContent = text;
  }

  return {
    $,
    h,
    s,
    to,
    link,
    narrow,
    txLink,
    coinLink,
    addressLink,
    blockLink,
    chip,
    money,
    empty,
    dot,
    copyButton,
    card,
    table,
    facts,
    slot,
    heading,
    verdict,
    checks,
    mark,
    gauge,
    say,
  };
})();
