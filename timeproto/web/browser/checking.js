"use strict";
// Whether what a node shows of a transaction is proved, checked in this browser as a wallet does.
const checking = (() => {
  const { verdict, checks } = parts;
  // Statuses from which a transaction may still become final.
  const UNDECIDED = ["announced", "seen", "locked", "pending"];

  // What the proof of a transaction comes to, checked in this browser: [mood, title, why, checks that held, one that did not].
  async function judge(found) {
    if (!found.proof && !found.inclusion) {
      if (UNDECIDED.includes(found.status))
        return ["wait", "Not final yet", "The proof appears here the moment a quorum has signed."];
      if (found.status === "refused") return ["wait", "Nothing to check", "That a node refuses a payment is its word alone."];
      return ["bad", "It is not proved", "The node says that it is over, and shows nothing that proves it."];
    }
    if (!(await proofs.available()))
      return [
        "unsure",
        "This browser cannot check here",
        "Signatures are checked with WebCrypto's Ed25519, which needs a recent browser, and https or the loopback address.",
      ];
    const done = [];
    try {
      const { hash, members, genesis } = await node.trust();
      done.push(
        `Genesis ${words.short(hash)}, hashed here: ${members.keys.length} masternodes of ${genesis.network}, quorum ${members.quorum}`,
      );
      if (found.tx) {
        const txid = await proofs.txidOf(found.tx);
        if (txid !== found.txid || found.tx.txid !== txid) throw new Error("the transaction shown has another txid: " + txid);
        done.push("The inputs and outputs shown here have this txid");
      }
      let what = "";
      if (found.proof) {
        if (found.proof.txid !== found.txid) throw new Error("the proof is of another transaction");
        await proofs.checkProof(found.proof, members, hash);
        done.push(`${found.proof.votes.length} commit votes: Merkle path and Ed25519 signature of each hold`);
        what = `${found.proof.votes.length} of ${members.keys.length} masternodes signed that this payment is final, for ever.`;
      }
      const ended = found.status === "aborted",
        rival = ended ? found.conflicting_txid : null;
      if (ended && !found.inclusion) throw new Error("no block is shown that ended it");
      if (found.inclusion) {
        await proofs.checkInclusion(
          found.inclusion,
          ended && !rival ? "abort" : "transaction",
          rival || found.txid,
          members,
          hash,
        );
        if (rival) await checkRival(rival, found);
        const entry = ended
          ? rival
            ? "the rival " + words.short(rival) + ", which spends one of its coins"
            : "the verdict"
          : "it";
        done.push(
          `Block ${found.inclusion.header.height} contains ${entry}: path and ${found.inclusion.commit.signatures.length} precommits hold`,
        );
        what =
          what ||
          (ended
            ? "A decided block ended this transaction, for ever. Its coins are free."
            : "A decided block contains this transaction, for ever.");
      }
      return ended ? ["bad", "Aborted, and that is proved", what, done] : ["good", "Proof verified in this browser", what, done];
    } catch (error) {
      return ["bad", "The proof does not hold", error.message, done, error.message];
    }
  }
  async function checkRival(txid, found) {
    const { tx } = await node.ask("/v1/transactions/" + encodeURIComponent(txid));
    if ((await proofs.txidOf(tx)) !== txid) throw new Error("the rival shown has another txid");
    const wanted = new Set(found.tx.inputs.map((each) => words.coinName(each.previous_output)));
    if (!tx.inputs.some((each) => wanted.has(words.coinName(each.previous_output))))
      throw new Error("the rival spends none of its coins");
  }
  const judged = ([mood, title, why, done, failed]) => [
    verdict(mood, title, why),
    done && done.length + Number(Boolean(failed)) ? checks(done, failed) : null,
  ];

  return { UNDECIDED, judge, judged };
})();
