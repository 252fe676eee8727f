// Runs scripts of the page on the words of a test: one JSON object in, one out.
import fs from "node:fs";
import vm from "node:vm";
import { webcrypto } from "node:crypto";

const context = vm.createContext({ crypto: webcrypto, TextEncoder });
const scripts = process.argv.slice(2).map((path) => fs.readFileSync(path, "utf8"));
vm.runInContext(scripts.join("\n") + "; this.page = { proofs, qrCode, words };", context);
const { proofs, qrCode, words } = context.page;
const asked = proofs.parse(fs.readFileSync(0, "utf8"));
const said = async (promise) => { try { return { holds: true, value: await promise() }; } catch (error) { return { holds: false, why: error.message }; } };

const answers = { proofs: [], txids: [], paths: [], inclusions: [], addresses: [], amounts: [], genesis: null, qr: [] };
for (const each of asked.proofs || [])
  answers.proofs.push(await said(async () => proofs.checkProof(each.proof, await proofs.membersOf({ masternodes: each.masternodes }), each.genesis)));
for (const tx of asked.txids || []) answers.txids.push(await said(() => proofs.txidOf(tx)));
for (const each of asked.paths || []) {
  const root = await said(() => proofs.rootFromPath(proofs.fromHex(each.leaf), each.index, each.size, each.path.map(proofs.fromHex)));
  answers.paths.push(root.holds && root.value ? proofs.toHex(root.value) : null);
}
for (const each of asked.inclusions || []) {
  const members = await proofs.membersOf(asked.genesis);
  answers.inclusions.push(await said(async () => proofs.checkInclusion(each.inclusion, each.kind, each.txid, members, await proofs.genesisHash(asked.genesis))));
}
for (const each of asked.addresses || []) answers.addresses.push(await proofs.addressOf(proofs.fromHex(each.public_key), each.network));
for (const each of asked.amounts || []) answers.amounts.push(words.amount(each));
if (asked.genesis) answers.genesis = await proofs.genesisHash(asked.genesis);
for (const text of asked.qr || []) answers.qr.push(qrCode(text).map((row) => row.map(Number).join("")));
console.log(JSON.stringify(answers));
