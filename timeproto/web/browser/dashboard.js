"use strict";
// The first view: how the node is, what happens, how long it takes, who takes part, and what is contested.
const dashboard = (() => {
  const { h, txLink, coinLink, blockLink, chip, money, dot, card, table, narrow, to, slot } = parts;
  const { live, ask } = node;
  const ROWS = 14,
    ROWS_NARROW = 9;

  function tiles(info) {
    const sorted = live.finals.map((each) => each.took_ms).sort((a, b) => a - b);
    const median = words.percentile(sorted, 0.5),
      slow = words.percentile(sorted, 0.99);
    const reached = info.connected >= info.quorum,
      working = info.voting && info.synced;
    const tile = (value, text, mood) =>
      h("div", { class: "tile" }, h("b", {}, mood ? dot(mood) : null, value), h("span", {}, text));
    return [
      tile(
        median === null ? "–" : words.took(median),
        slow === null ? "median to finality" : `median to finality, p99 ${words.took(slow)}`,
      ),
      tile(words.whole(info.final), "payments final"),
      tile(words.whole(info.in_flight), `in flight, ${info.contested} contested`),
      tile(words.whole(info.height), info.height ? `blocks, last ${words.ago(info.block_time)}` : "blocks yet"),
      tile(
        `${info.connected} of ${info.masternodes}`,
        `masternodes connected, ${info.quorum} are a quorum`,
        reached ? "on" : "off",
      ),
      tile(
        working ? "Voting" : info.synced ? "Not voting" : "Catching up",
        working ? "and caught up" : info.not_voting || "",
        working ? "on" : "off",
      ),
    ];
  }

  function changes(rows) {
    const lines = rows.map((row, place) => {
      const age = row.fresh === null ? Infinity : performance.now() - row.fresh;
      const line = h(
        "tr",
        { class: place < ROWS_NARROW ? "" : "wider" },
        h("td", { class: "mono soft wider" }, words.clock(row.at)),
        h("td", {}, row.from ? h("span", { class: "wider" }, chip(row.from), " → ") : null, chip(row.state)),
        h("td", { class: "wider" }, coinLink(row.outpoint)),
        h("td", {}, txLink(row.txid)),
        h("td", { class: "num" }, money(row.output.amount)),
      );
      if (age < 1400) {
        line.classList.add("new");
        for (const cell of line.children) cell.style.animationDelay = `-${Math.round(age)}ms`;
      }
      return line;
    });
    return table(
      "Newest transitions",
      ["~Time", "State", "~Coin", "Transaction", "#TIME"],
      lines,
      "No coin has changed its state yet. Send a payment, and watch.",
    );
  }

  function masternodes(found) {
    const links = { self: "this node", none: "not connected", inbound: "connected", outbound: "connected" };
    const share = (value, of) => (of ? [words.whole(value), h("span", { class: "wider" }, " of " + words.whole(of))] : "–");
    // A cell for each of the newest proofs, the newest last: filled if this masternode's vote is in it.
    const strip = (at) =>
      h(
        "span",
        { class: "strip", "aria-hidden": "true" },
        found.newest.map((each) =>
          h("a", {
            href: to("tx", each.txid),
            tabindex: "-1",
            class: each.voters.includes(at) ? "yes" : "",
            title: `${each.voters.includes(at) ? "signed" : "not in the proof of"} ${each.txid}`,
          }),
        ),
      );
    const rows = found.masternodes.map((each, at) => [
      h("span", { class: "mono", title: each.node_key }, narrow(each.node_key)),
      h(
        "span",
        { class: "live", title: each.address || "" },
        dot(each.direction === "none" ? "off" : "on"),
        links[each.direction],
      ),
      found.newest.length ? strip(at) : "–",
      share(each.proofs, found.counted),
      share(each.blocks, found.counted_blocks),
    ]);
    return table(
      "Masternodes",
      ["Masternode", "Link", "~In the newest proofs", "#Proofs", "#Blocks"],
      rows,
      "There are none.",
      true,
    );
  }

  function blocks(lines) {
    const cells = (each) => [
      blockLink(each.height),
      h("span", { class: "soft" }, words.ago(each.timestamp)),
      each.transactions || "–",
      each.verdicts || "–",
    ];
    const rows = lines.map((each, place) =>
      h(
        "tr",
        { class: place < ROWS_NARROW ? "" : "wider" },
        cells(each).map((cell, at) => h("td", { class: at > 1 ? "num" : "" }, cell)),
      ),
    );
    return table("Blocks", ["Height", "Age", "#Payments", "#Verdicts"], rows, "No block is decided yet.");
  }
  function verdicts(rows) {
    return table(
      "Verdicts",
      ["Verdict", "Transaction", "#Block"],
      rows.map((each) => [
        chip(each.kind === "abort" ? "aborted" : "final", each.kind === "abort" ? "Aborted" : "Committed"),
        txLink(each.txid),
        blockLink(each.height),
      ]),
      "None in the newest blocks.",
    );
  }
  function contested(rows) {
    return table(
      "Contested transactions",
      ["Transaction", "#Lock", "#Commit", "#Abort"],
      rows.map((each) => [txLink(each.txid), each.votes.lock.length, each.votes.commit.length, each.votes.abort.length]),
      "No coin is contested.",
    );
  }

  function view(page) {
    const top = slot(() => tiles(live.info), "div", { class: "tiles" });
    const shown = {
      changes: slot(() => changes(live.rows.slice(0, ROWS))),
      masternodes: slot(masternodes),
      blocks: slot(blocks),
      verdicts: slot(verdicts),
      contested: slot(contested),
    };
    const pictures = { histogram: h("div"), timeline: h("div") };
    let paused = false,
      contests = 0;
    const pause = h(
      "button",
      {
        type: "button",
        class: "slight",
        "aria-pressed": "false",
        on: {
          click: () => {
            paused = !paused;
            pause.setAttribute("aria-pressed", String(paused));
            drawChanges();
          },
        },
      },
      "Pause",
    );
    page.show(
      "Node",
      h("h1", { tabindex: "-1", class: "unseen" }, "Node"),
      top.place,
      h(
        "div",
        { class: "grid even" },
        card("Time to finality", "pair", "milliseconds from lock to proof", pictures.histogram),
        card("Newest payments", "pair", "each dot is one", pictures.timeline),
        card("Coins changing state", "two-thirds", pause, shown.changes.place),
        card("Blocks", "third", null, shown.blocks.place),
        card("Masternodes", "two-thirds", "whose votes are in the newest proofs and blocks", shown.masternodes.place),
        h(
          "div",
          { class: "stack" },
          card("Contested coins", "", "wait for a block", shown.contested.place),
          card("Verdicts", "", "of the newest blocks", shown.verdicts.place),
        ),
      ),
    );

    const drawTiles = () => {
      if (live.info) top.show([live.info, live.finals.length, Math.floor(Date.now() / 1000)]);
    };
    function drawPictures() {
      pictures.histogram.replaceChildren(charts.histogram(pictures.histogram, live.finals));
      pictures.timeline.replaceChildren(charts.timeline(pictures.timeline, live.finals));
      drawTiles();
    }
    // It stands still while somebody is in it.
    function drawChanges() {
      if (!paused && !shown.changes.place.contains(document.activeElement)) shown.changes.show(live.rows.slice(0, ROWS));
    }
    const drawMasternodes = async () => {
      shown.masternodes.show(await ask("/v1/masternodes"));
    };
    async function drawBlocks() {
      const found = await ask(`/v1/blocks?limit=${2 * ROWS}`),
        judged = found.blocks.filter((each) => each.verdicts).slice(0, 3);
      shown.blocks.show(found.blocks.slice(0, ROWS).map((each) => ({ ...each, now: words.ago(each.timestamp) })));
      const whole = await Promise.all(judged.map((each) => ask("/v1/blocks/" + each.height)));
      shown.verdicts.show(
        whole
          .flatMap((each) => each.verdicts.map((one) => ({ kind: one.kind, txid: one.txid, height: each.header.height })))
          .slice(0, 6),
      );
    }
    const drawContested = async () => {
      shown.contested.show((await ask("/v1/contested")).transactions.slice(0, 8));
    };

    const quietly = (task) => () => task().catch(() => {});
    const changed = page.gently(drawChanges),
      finals = page.gently(drawPictures, 400);
    const newBlock = page.gently(quietly(drawBlocks)),
      newContest = page.gently(quietly(drawContested));
    const stops = [
      node.watch((what) => {
        if (what === "change") changed();
        if (what === "final") finals();
        if (what === "info") drawTiles();
        if (what === "info" && live.info.contested !== contests) {
          contests = live.info.contested;
          newContest();
        }
        if (what === "block" || what === "gap") {
          newBlock();
          newContest();
        }
      }),
      page.every(5, quietly(drawMasternodes)),
      page.every(4, quietly(drawContested)),
      page.every(5, quietly(drawBlocks)),
      page.every(1, drawPictures),
    ];
    drawChanges();
    drawPictures();
    quietly(drawMasternodes)();
    newBlock();
    newContest();
    return () => stops.forEach((stop) => stop());
  }
  return view;
})();
