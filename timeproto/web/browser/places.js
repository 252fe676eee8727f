"use strict";
// The other views: an address, a coin, a block, a proof that somebody pasted, and what is not there.
const places = (() => {
  const {
    h,
    s,
    txLink,
    coinLink,
    addressLink,
    blockLink,
    chip,
    money,
    card,
    table,
    facts,
    slot,
    empty,
    heading,
    verdict,
    mark,
    to,
  } = parts;
  const { ask } = node;
  const PAGE = 50,
    PAGES = 40,
    LISTED = 200;

  // -- an address ------------------------------------------------------------------------------------
  function qr(text) {
    const grid = qrCode(text),
      size = grid.length + 8;
    const path = grid.flatMap((row, r) => row.map((dark, c) => (dark ? `M${c + 4} ${r + 4}h1v1h-1z` : ""))).join("");
    return h(
      "div",
      { class: "qr" },
      s(
        "svg",
        { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "QR code of the address", "shape-rendering": "crispEdges" },
        s("rect", { width: size, height: size, fill: "#fff" }),
        s("path", { d: path, fill: "#000" }),
      ),
    );
  }
  function balance(sum) {
    const figure = (name, units) =>
      h("div", {}, h("div", { class: "soft small" }, name), h("b", { class: "num" }, words.amount(units)));
    return [
      h("p", { class: "sum" }, words.amount(sum.available), h("small", {}, " TIME available")),
      h("div", { class: "figures" }, figure("Locked", sum.locked), figure("Pending", sum.pending), figure("Total", sum.total)),
    ];
  }
  function coins(list) {
    return table(
      "Coins",
      ["Coin", "State", "~Held by", "#TIME"],
      list.map((each) => {
        const state = words.kind(each.state),
          held = typeof each.state === "string" ? null : each.state[state].txid;
        return [coinLink(each.outpoint), chip(state), held ? txLink(held) : "–", money(each.output.amount)];
      }),
      "This address owns no coin.",
    );
  }
  async function address(page, text) {
    const path = "/v1/addresses/" + encodeURIComponent(text),
      state = { spent: false, pages: 1 };
    const shown = { count: slot((count) => count, "span", { class: "soft small" }), balance: slot(balance), coins: slot(coins) };
    const box = h("input", {
      type: "checkbox",
      on: {
        change: () => {
          state.spent = box.checked;
          draw();
        },
      },
    });
    const more = h(
      "button",
      {
        type: "button",
        on: {
          click: () => {
            state.pages++;
            draw();
          },
        },
      },
      "More coins",
    );
    let drawn = false;
    async function read() {
      const { balance: sum } = await ask(path),
        list = [];
      let last = { more: true };
      for (let at = 0; at < state.pages && last.more; at++) {
        const after = list.length ? "&after=" + encodeURIComponent(words.coinName(list[list.length - 1].outpoint)) : "";
        last = await ask(`${path}/coins?limit=${PAGE}&spent=${state.spent}${after}`);
        list.push(...last.coins);
      }
      return { sum, list, more: last.more && state.pages < PAGES };
    }
    async function draw() {
      let found;
      try {
        found = await read();
      } catch (error) {
        if (!drawn) page.failed("address", text, error);
        return;
      }
      if (page.left()) return;
      shown.count.show(
        found.sum.complete ? words.plural(found.sum.coins, "coin") : `of its first ${words.plural(found.sum.coins, "coin")}`,
      );
      shown.balance.show(found.sum);
      shown.coins.show(found.list);
      more.className = found.more ? "" : "hidden";
      if (drawn) return;
      drawn = true;
      page.show(
        "Address " + words.short(text),
        heading("address", "Address", null, text),
        h(
          "div",
          { class: "grid even" },
          card("Balance", "two-thirds beside", shown.count.place, shown.balance.place),
          card("Pay to it", "third beside", null, qr(text)),
          card("Coins", "", h("label", { class: "small" }, box, "with those spent for ever"), shown.coins.place, more),
        ),
      );
    }
    await draw();
    const soon = page.gently(draw, 200);
    return node.watch((what, row) => {
      if ((what === "change" && row.output.address === text) || what === "gap") soon();
    });
  }

  // -- a coin ----------------------------------------------------------------------------------------
  function aboutCoin(found) {
    const state = words.kind(found.state),
      inner = typeof found.state === "string" ? {} : found.state[state];
    const at = inner.locked_at || inner.spent_at || inner.finalized_at || inner.confirmed_at,
      held = state === "Locked" || state === "SpentPending";
    return [
      heading("coin", words.amount(found.output.amount) + " TIME", chip(state), words.coinName(found.outpoint)),
      card(
        "Coin",
        "",
        null,
        facts([
          ["Owner", addressLink(found.output.address)],
          ["Made by", txLink(found.outpoint.txid)],
          inner.txid ? [held ? "Held by" : "Spent by", txLink(inner.txid)] : null,
          at ? ["Since", words.date(at)] : null,
          inner.votes ? ["Votes", inner.votes + (inner.total_nodes ? ` of ${inner.total_nodes}` : "")] : null,
          inner.block_height ? ["Block", blockLink(inner.block_height)] : null,
        ]),
      ),
    ];
  }
  async function coin(page, name) {
    const shown = slot(aboutCoin);
    let drawn = false;
    async function draw() {
      try {
        const found = await ask("/v1/coins/" + encodeURIComponent(name));
        if (page.left()) return;
        shown.show({ ...found, cursor: null });
        if (!drawn) page.show("Coin " + words.short(name), shown.place);
        drawn = true;
      } catch (error) {
        if (!drawn) page.failed("coin", name, error);
      }
    }
    await draw();
    const soon = page.gently(draw, 50);
    return node.watch((what, row) => {
      if ((what === "change" && words.coinName(row.outpoint) === name) || what === "gap") soon();
    });
  }

  // -- a block ---------------------------------------------------------------------------------------
  async function judgeBlock(found) {
    try {
      const { hash, members } = await node.trust();
      if (!(await proofs.available()))
        return verdict(
          "unsure",
          "This browser cannot check here",
          "It needs WebCrypto's Ed25519, and https or the loopback address.",
        );
      await proofs.checkCommit(found.header, found.commit, members, hash);
      return verdict(
        "good",
        "Commit verified in this browser",
        `${found.commit.signatures.length} of ${members.keys.length} masternodes signed this block, for ever.`,
      );
    } catch (error) {
      return verdict("bad", "The commit does not hold", error.message);
    }
  }
  function signers(found, members) {
    const signed = new Set(found.commit.signatures.map((each) => each.voter));
    return table(
      "Signatures",
      ["Masternode", "|Precommit", ""],
      members.keys.map((key) => [
        h("span", { class: "mono", title: key }, words.short(key)),
        mark(signed.has(key) ? "yes" : "no"),
        key === found.header.proposer ? h("span", { class: "soft small" }, "proposer") : "",
      ]),
      "",
      true,
    );
  }
  const long = (hex) => h("span", { class: "mono" }, hex);
  async function block(page, height) {
    let found, judged, members;
    try {
      found = await ask("/v1/blocks/" + encodeURIComponent(height));
      [judged, { members }] = await Promise.all([judgeBlock(found), node.trust()]);
    } catch (error) {
      page.failed("block", height, error);
      return () => {};
    }
    if (page.left()) return () => {};
    const { header, coinbase } = found,
      number = Number(header.height),
      minted = coinbase.outputs[0];
    const step = (there, text, ...options) =>
      there > 0 && there <= node.live.head
        ? h("a", { class: "button", href: to("block", String(there)), ...options }, text)
        : null;
    const rest = found.transactions.length - LISTED;
    page.show(
      "Block " + number,
      heading("block", "Block " + words.whole(number), null, found.hash, `decided ${words.date(header.timestamp)}`),
      h(
        "nav",
        { class: "pages", "aria-label": "Blocks beside it" },
        step(number - 1, "← " + words.whole(number - 1)),
        step(number + 1, words.whole(number + 1) + " →"),
      ),
      h(
        "div",
        { class: "grid" },
        card("Commit", "half", null, judged, h("div", { class: "sub" }), signers(found, members)),
        card(
          "Header",
          "half",
          h("a", { class: "small", href: `/v1/blocks/${number}/document` }, "JSON"),
          facts([
            ["Proposer", long(header.proposer)],
            ["Round", header.round],
            ["Parent", long(header.parent)],
            ["Root", long(header.root)],
            ["Coins after it", long(header.commitment)],
            ["Minted", minted ? [words.amount(minted.amount) + " TIME to ", addressLink(minted.address)] : "nothing"],
            ["Coinbase", txLink(coinbase.txid)],
          ]),
        ),
        card(
          "Payments",
          "half",
          words.whole(found.transactions.length),
          table(
            "Payments",
            ["Transaction"],
            found.transactions.slice(0, LISTED).map((txid) => [txLink(txid)]),
            "It contains none.",
            true,
          ),
          rest > 0 ? empty(`and ${words.whole(rest)} more, in the JSON`) : null,
        ),
        card(
          "Verdicts",
          "half",
          words.whole(found.verdicts.length),
          table(
            "Verdicts",
            ["Verdict", "Transaction", "#Votes"],
            found.verdicts
              .slice(0, LISTED)
              .map((each) => [
                chip(each.kind === "abort" ? "aborted" : "final", each.kind === "abort" ? "Aborted" : "Committed"),
                txLink(each.txid),
                each.voters.length,
              ]),
            "It holds none.",
            true,
          ),
        ),
      ),
    );
    return () => {};
  }

  // -- a proof that somebody has ---------------------------------------------------------------------
  function check(page) {
    const box = h("textarea", {
      rows: "9",
      class: "mono",
      spellcheck: "false",
      "aria-label": "A finality proof as JSON",
      placeholder: '{"txid": "…", "set": "…", "votes": […]}',
    });
    const result = h("div", { "aria-live": "polite" });
    async function run() {
      try {
        const given = proofs.parse(box.value),
          proof = (given && given.proof) || given;
        if (!proof || !proof.txid || !Array.isArray(proof.votes)) throw new Error("this is no finality proof");
        result.replaceChildren(
          ...checking.judged(await checking.judge({ proof, txid: proof.txid, status: "final" })).filter(Boolean),
        );
      } catch (error) {
        result.replaceChildren(
          verdict("bad", "The proof does not hold", error instanceof SyntaxError ? "It is not JSON." : error.message),
        );
      }
    }
    page.show(
      "Check a proof",
      heading(
        "check",
        "Check a proof",
        null,
        null,
        "Paste a finality proof, or a notification that carries one. It is checked in this browser, against the masternodes of this network's genesis.",
      ),
      h(
        "div",
        { class: "card" },
        box,
        h("p", {}, h("button", { type: "button", class: "main", on: { click: run } }, "Check")),
        result,
      ),
    );
    return () => {};
  }

  // -- what is not there -----------------------------------------------------------------------------
  const WRONG = {
    transaction: "A txid is 64 characters of 0 to 9 and a to f.",
    address: "It is no address of this network: look for a mistyped character.",
    coin: "A coin is written TXID:NUMBER.",
    block: "A height is a whole number.",
  };
  function failed(page, what, id, error) {
    const missing = error.status === 404,
      wrong = [400, 414, 422].includes(error.status);
    const waits = missing && (what === "transaction" || what === "coin");
    const why = missing
      ? what === "block"
        ? `The last block this node knows is ${words.whole(node.live.head)}.`
        : `This node does not know it: it is new, this node is behind, or it never was.`
      : wrong
        ? WRONG[what]
        : error.message;
    page.show(
      "Not found",
      heading(what, missing ? "Not known here" : wrong ? "Not valid" : "No answer", null, String(id)),
      h(
        "div",
        { class: "card" },
        h("p", { class: "empty" }, why),
        waits ? h("p", { class: "empty" }, "If it comes, it appears here by itself.") : null,
        h("a", { class: "button", href: "#/" }, "To the node"),
      ),
    );
  }
  function nowhere(page) {
    page.show(
      "Not found",
      heading("nowhere", "There is no such view"),
      h(
        "div",
        { class: "card" },
        h("p", { class: "empty" }, "Look for a txid, an address, a coin or a height, or go to the beginning."),
        h("a", { class: "button", href: "#/" }, "To the node"),
      ),
    );
    return () => {};
  }
  return { address, coin, block, check, failed, nowhere };
})();
