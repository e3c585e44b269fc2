// Judges patches with npm fossil-delta, and makes its own.
//
// Reads lines of `<source> <target> <patch>`, each in hex (`-` if empty), and answers each with one line:
// `<what the patch makes of the source> <patch of its own>`, or `! <reason>` if it refuses the patch.
import { createInterface } from "node:readline";
import { applyDelta, createDelta } from "fossil-delta";

const decode = (field) => new Uint8Array(field === "-" ? [] : Buffer.from(field, "hex"));
const encode = (bytes) => (bytes.length === 0 ? "-" : Buffer.from(bytes).toString("hex"));

for await (const line of createInterface({ input: process.stdin })) {
  const [source, target, patch] = line.split(" ").map(decode);
  try {
    console.log(`${encode(applyDelta(source, patch))} ${encode(createDelta(source, target))}`);
  } catch (error) {
    console.log(`! ${error.message}`);
  }
}
