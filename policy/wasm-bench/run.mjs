// Runs the full matrix in WASM under Node. Prints milliseconds, one line a run, and how many cells are open.
import { readFileSync } from "node:fs";

const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]), {});
const { prepare, matrix, open_cells } = instance.exports;
prepare(10_000, 1_000);
for (let run = 0; run < 20; run += 1) {
  const started = performance.now();
  matrix(10);
  console.log(performance.now() - started);
}
console.log("open", open_cells());
