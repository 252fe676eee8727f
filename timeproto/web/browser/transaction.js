"use strict";
// Where a payment is: its five states on a time line, who voted and who is missing, its rivals, and its proof, checked here.
const transaction = (() => {
  const { h, txLink, coinLink, addressLink, blockLink, link, chip, money, card, table, slot, empty, heading, mark, gauge, say } =
    parts;
  const { UNDECIDED } = checking;
  const INPUTS_SHOWN = 50,
    AMOUNTS_ASKED = 20;

  // -- the way ---------------------------------------------------------------------------------------
  const WAY = [
    ["seen", "Unspent", "its coins were free"],
    ["locked", "Locked", "this node voted for it"],
    ["pending", "Pending", "a quorum locked its coins"],
    ["final", "Final", "a quorum signed its proof"],
    ["confirmed", "Confirmed", "a block contains it"],
  ];
  const when = (time, passed) =>
    time ? h("span", { class: "time" }, h("span", {}, time), passed ? [" ", h("span", { class: "soft" }, passed)] : null) : null;
  function way(trace) {
    const at = Object.fromEntries(trace.stages.map((stage) => [stage.name, stage.at === null ? null : Number(stage.at)]));
    const over = ["aborted", "refused"].includes(trace.status);
    const reached = over
      ? Math.max(0, ...WAY.map(([name], place) => (name in at ? place : 0)))
      : Math.max(
          0,
          WAY.findIndex(([name]) => name === trace.status),
        );
    let before = null;
    const items = WAY.map(([stage, name, note], place) => {
      const done = place <= reached,
        time = at[stage] ?? null;
      const passed = time !== null && before !== null ? words.since(time - before) : "";
      if (time !== null) before = time;
      const lost = !done
        ? ""
        : stage in at || !trace.complete
          ? "time not known"
          : place && place < reached
            ? "not at this node"
            : "";
      const said =
        stage === "confirmed" && trace.status === "confirmed"
          ? ["in block ", blockLink(trace.height)]
          : stage === "seen" && done
            ? time === null
              ? note
              : "seen here"
            : note;
      const next = place === reached + 1 && UNDECIDED.includes(trace.status) && trace.status !== "announced";
      return h(
        "li",
        {
          class: [done ? "done" : "", place < reached ? "went" : "", next ? "next" : ""].join(" "),
          "aria-current": place === reached && !over ? "step" : null,
        },
        h("b", {}, name),
        h("span", {}, said),
        when(time === null ? lost : words.clock(time), passed),
      );
    });
    if (over) {
      const time = at.aborted ?? null,
        passed = time !== null && before !== null ? words.since(time - before) : "";
      const why = trace.status === "refused" ? "it can never be final" : ["by block ", blockLink(trace.height)];
      items.splice(
        4,
        1,
        h(
          "li",
          { class: "done ended", "aria-current": "step" },
          h("b", {}, words.LABELS[trace.status]),
          h("span", {}, why),
          when(time === null ? "" : words.clock(time), passed),
        ),
      );
    }
    return h("ol", { class: "way", "aria-label": "The way of its coins" }, items);
  }

  const list = (links) => links.flatMap((each, at) => (at ? [", ", each] : [each]));
  // What it stands still for, or how it ended, in a sentence: [mood, title, text].
  function standing(trace) {
    const silent = (trace.missing || []).length,
      away = (trace.missing || []).filter((each) => !each.connected).length;
    const silence = silent
      ? ` ${words.plural(silent, "masternode")} ${silent === 1 ? "is" : "are"} silent${away ? `, ${away} of them not connected to this node` : ""}.`
      : "";
    const votes = (kind) => `${(trace[kind] || []).length} of the ${trace.quorum} needed are here.${silence}`;
    switch (trace.waits_for) {
      case "transaction":
        return ["", "Not here yet", "Others voted for it, and this node is fetching it."];
      case "parents":
        return ["", "Waits for its parents", ["They are not final here: ", list(trace.parents.slice(0, 5).map(txLink)), "."]];
      case "lock":
        return ["", "Waits for lock votes", votes("lock")];
      case "commit":
        return ["", "Waits for commit votes", votes("commit")];
      case "verdict":
        return ["", "Contested", `It waits for a block's verdict, and may still become final before.${silence}`];
      case "block":
        return ["calm", "Final, for ever", "No block contains it yet."];
    }
    if (trace.status === "refused") return ["bad", "Refused", trace.refusal ? trace.refusal.message : "Why is not remembered."];
    if (trace.status === "aborted")
      return [
        "bad",
        "Ended by a block",
        trace.conflicting_txid
          ? ["Block ", blockLink(trace.height), " contains ", txLink(trace.conflicting_txid), ", which spends one of its coins."]
          : ["Block ", blockLink(trace.height), " holds the verdict: its coins are free again."],
      ];
    return null;
  }
  function notes(trace) {
    const said = standing(trace);
    return [
      said ? h("p", { class: "waits " + said[0] }, h("b", {}, said[1]), h("span", {}, said[2])) : null,
      trace.cancelled
        ? h("p", { class: "waits calm" }, h("b", {}, "Cancelled"), h("span", {}, "An owner of its coins asked to end it."))
        : null,
      trace.not_voting
        ? h("p", { class: "waits calm" }, h("b", {}, "This node does not vote now"), h("span", {}, trace.not_voting))
        : null,
      trace.complete ? null : h("p", { class: "small soft" }, "What came before is not known here any more."),
    ];
  }

  // -- who voted -------------------------------------------------------------------------------------
  const KINDS = [
    ["lock", "Lock", ""],
    ["commit", "Commit", ""],
    ["abort", "Abort", "aborted"],
  ];
  function voters({ trace, members }) {
    const undecided = UNDECIDED.includes(trace.status),
      cast = (kind) => trace[kind] || [];
    const shown = KINDS.filter(([kind]) => cast(kind).length || (undecided && kind !== "abort"));
    if (!shown.length)
      return empty(
        trace.status === "confirmed"
          ? "A block minted it: those who decided the block signed for it."
          : "Who voted is not known here any more.",
      );
    const missing = new Map((trace.missing || []).map((each) => [each.node_key, each.connected]));
    const awaited = { lock: "lock", verdict: "lock", commit: "commit" }[trace.waits_for];
    const tally = shown.map(([kind, name, tone]) => [
      h("span", {}, name),
      gauge(cast(kind).length, members, tone),
      h("span", { class: "num" }, `${cast(kind).length} of ${members.keys.length}`),
    ]);
    function vote(kind, key) {
      if (cast(kind).includes(key)) return kind === "abort" ? "abort" : "yes";
      return kind === awaited && missing.has(key) ? "missing" : "no";
    }
    // In a long list those who are waited for come first.
    const keys = members.keys.length > 20 ? [...members.keys].sort((a, b) => missing.has(b) - missing.has(a)) : members.keys;
    const rows = keys.map((key) => [
      h("span", { class: "mono", title: key }, words.short(key)),
      ...shown.map(([kind]) => mark(vote(kind, key))),
      ...(missing.size
        ? [missing.has(key) && !missing.get(key) ? h("span", { class: "live small" }, parts.dot("off"), "not connected") : ""]
        : []),
    ]);
    const heads = ["Masternode", ...shown.map(([, name]) => "|" + name), ...(missing.size ? ["~"] : [])];
    const about = undecided
      ? null
      : h(
          "p",
          { class: "small soft" },
          trace.proof
            ? "These are the votes in the proof. Others may have voted too."
            : "These are the votes behind the block's verdict.",
        );
    return [h("div", { class: "tally" }, tally), table("Votes", heads, rows, "", true), about];
  }

  function rivals(trace) {
    return table(
      "Conflicting transactions",
      ["Transaction", "Status", "~Wants the coin", "~Seen here", "#Block"],
      trace.rivals.map((each) => [
        txLink(each.txid),
        [chip(each.status), each.proven ? h("span", { class: "soft small wider" }, " proof known") : null],
        coinLink(each.outpoint),
        each.seen === undefined ? "–" : words.clock(each.seen),
        each.height === undefined ? "–" : blockLink(each.height),
      ]),
      "None.",
      true,
    );
  }

  // -- money -----------------------------------------------------------------------------------------
  const isMint = (tx) => /^0+$/.test(tx.inputs[0].previous_output.txid);
  const payers = async (tx) =>
    isMint(tx)
      ? []
      : Promise.all(tx.inputs.map(async (each) => proofs.addressOf(each.script_sig, (await node.trust()).genesis.network)));
  function sent(tx, owners) {
    const away = tx.outputs.filter((each) => !owners.includes(each.address)),
      paid = away.length ? away : tx.outputs;
    const to = [...new Set(paid.map((each) => each.address))];
    return { sum: paid.reduce((total, each) => total + BigInt(each.amount), 0n), to };
  }
  function from({ tx, owners, amounts }) {
    if (isMint(tx)) return empty("Newly minted by a block.");
    const rows = tx.inputs
      .slice(0, INPUTS_SHOWN)
      .map((each, at) => [
        coinLink(each.previous_output),
        addressLink(owners[at]),
        amounts[at] === undefined ? "–" : money(amounts[at]),
      ]);
    return [
      table("Coins spent", ["Coin", "~Address", "#TIME"], rows, ""),
      tx.inputs.length > INPUTS_SHOWN ? empty(`and ${words.plural(tx.inputs.length - INPUTS_SHOWN, "more coin")}`) : null,
    ];
  }
  function made({ tx, owners }) {
    const back = tx.outputs.every((each) => owners.includes(each.address)) ? [] : owners;
    const rows = tx.outputs.map((each, vout) => [
      link(["coin", `${tx.txid}:${vout}`], String(vout), `${tx.txid}:${vout}`),
      [addressLink(each.address), back.includes(each.address) ? h("span", { class: "soft small" }, " change") : null],
      money(each.amount),
    ]);
    return table("Coins made", ["Coin", "Address", "#TIME"], rows, "It makes none.", true);
  }

  // -- the view --------------------------------------------------------------------------------------
  function head({ trace, owners }) {
    const { tx, txid } = trace,
      marks = [chip(trace.status), trace.contested ? chip("refused", "Contested") : null];
    if (!tx) return heading("transaction", "Transaction", marks, txid);
    const { sum, to } = sent(tx, owners);
    const whom = to.length === 1 ? ["to ", addressLink(to[0])] : `to ${words.plural(to.length, "address", "addresses")}`;
    return heading("transaction", words.amount(sum) + " TIME", marks, txid, tx.outputs.length ? whom : null);
  }

  async function view(page, txid) {
    const path = "/v1/transactions/" + encodeURIComponent(txid);
    const shown = {
      head: slot(head),
      way: slot((trace) => [way(trace), notes(trace)]),
      voters: slot(voters),
      rivals: slot(rivals),
      proof: slot(checking.judged),
      from: slot(from),
      made: slot(made),
    };
    const amounts = [];
    const others = card("Conflicting transactions", "hidden", "they spend a coin of this one too", shown.rivals.place);
    const asJson = h("p", { class: "small hidden" }, h("a", { href: path + "/proof" }, "The proof as JSON"));
    const cards = [card("From", "half hidden", null, shown.from.place), card("To", "half hidden", null, shown.made.place)];
    let members = null,
      owners = [],
      last = null,
      busy = false,
      again = false,
      laidOut = false;

    function layOut() {
      laidOut = true;
      page.show(
        "Transaction " + words.short(txid),
        shown.head.place,
        h(
          "div",
          { class: "grid" },
          card("Where it is", "", h("a", { class: "small", href: path + "/trace" }, "JSON"), shown.way.place),
          others,
          card("Who voted", "two-thirds", `${members.quorum} of ${members.keys.length} are a quorum`, shown.voters.place),
          card("Proof", "third", null, shown.proof.place, asJson),
          cards,
        ),
      );
    }
    async function askAmounts(tx) {
      if (isMint(tx)) return;
      const some = tx.inputs
        .slice(0, AMOUNTS_ASKED)
        .map((each) => node.ask("/v1/coins/" + encodeURIComponent(words.coinName(each.previous_output))));
      (await Promise.allSettled(some)).forEach((each, at) => {
        if (each.status === "fulfilled") amounts[at] = each.value.output.amount;
      });
      shown.from.show({ tx, owners, amounts });
    }
    function showMoney(tx) {
      for (const each of cards) each.classList.remove("hidden");
      cards[0].querySelector("header").append(h("span", { class: "soft small" }, `fee ${words.amount(tx.fee)} TIME`));
      shown.from.show({ tx, owners, amounts });
      shown.made.show({ tx, owners });
      askAmounts(tx);
    }
    async function update() {
      const trace = { ...(await node.ask(path + "/trace")), txid }; // whatever it says it is of
      members = members || (await node.trust()).members;
      const first = trace.tx && !(last && last.tx);
      if (first) owners = await payers(trace.tx);
      const opinion = await checking.judge(trace);
      if (page.left()) return;
      if (!laidOut) layOut();
      shown.head.show({ trace: { tx: trace.tx, txid, status: trace.status, contested: trace.contested }, owners });
      shown.way.show(trace);
      shown.voters.show({ trace, members });
      others.className = "card" + (trace.rivals && trace.rivals.length ? "" : " hidden");
      if (trace.rivals) shown.rivals.show(trace);
      asJson.className = "small" + (trace.proof ? "" : " hidden");
      const news = shown.proof.show(opinion);
      if (first) showMoney(trace.tx);
      if (last && (last.status !== trace.status || (news && opinion[0] !== "wait")))
        say(`${words.LABELS[trace.status]}. ${opinion[1]}.`);
      last = trace;
    }
    async function draw() {
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      try {
        await update();
      } catch (error) {
        if (!last) page.failed("transaction", txid, error);
      }
      busy = false;
      if (again && !page.left()) {
        again = false;
        draw();
      }
    }
    await draw();
    const soon = page.gently(draw, 30);
    const stops = [
      node.watch((what, row) => {
        if ((what === "change" && row.txid === txid) || what === "block" || what === "gap") soon();
      }),
      page.every(1, () => {
        if (last && UNDECIDED.includes(last.status)) draw();
      }),
      page.every(4, () => {
        if (!last) draw();
      }),
    ];
    return () => stops.forEach((stop) => stop());
  }
  return { view };
})();
