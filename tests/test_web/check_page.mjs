// Runs the page's own scripts, taken out of the page, on the words of a test: one JSON object in, one out.
import fs from "node:fs";
import vm from "node:vm";
import { webcrypto } from "node:crypto";

const [page] = process.argv.slice(2);
const html = fs.readFileSync(page, "utf8");
const script = (id) => html.match(new RegExp(`<script id="${id}">([\\s\\S]*?)</script>`))[1];
const context = vm.createContext({ crypto: webcrypto, TextEncoder });
vm.runInContext(script("proofs") + script("qr") + "; this.proofs = proofs; this.qrCode = qrCode;", context);
const { proofs, qrCode } = context;
const words = proofs.parse(fs.readFileSync(0, "utf8"));
const said = async (promise) => { try { return { holds: true, value: await promise() }; } catch (error) { return { holds: false, why: error.message }; } };

const answers = { proofs: [], txids: [], paths: [], inclusions: [], genesis: null, qr: [] };
for (const each of words.proofs || [])
  answers.proofs.push(await said(async () => proofs.checkProof(each.proof, await proofs.membersOf({ masternodes: each.masternodes }), each.genesis)));
for (const tx of words.txids || []) answers.txids.push(await said(() => proofs.txidOf(tx)));
for (const each of words.paths || []) {
  const root = await said(() => proofs.rootFromPath(proofs.fromHex(each.leaf), each.index, each.size, each.path.map(proofs.fromHex)));
  answers.paths.push(root.holds && root.value ? proofs.toHex(root.value) : null);
}
for (const each of words.inclusions || []) {
  const members = await proofs.membersOf(words.genesis);
  answers.inclusions.push(await said(async () => proofs.checkInclusion(each.inclusion, each.kind, each.txid, members, await proofs.genesisHash(words.genesis))));
}
if (words.genesis) answers.genesis = await proofs.genesisHash(words.genesis);
for (const text of words.qr || []) answers.qr.push(qrCode(text).map((row) => row.map(Number).join("")));
console.log(JSON.stringify(answers));
