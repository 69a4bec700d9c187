// A Durable Object that runs a Go test program: its name is the arguments, and the answer to a request
// is what the program has printed, and its exit code in the last line. With the flag "frozen" in the
// name, clocks stand still while code runs, as on Cloudflare.
import { output, frozen } from "./go_fs.mjs";
import "./wasm_exec.js";
import { program } from "./shim.mjs";
import wasm from "./main.wasm";

let finish;
const finished = new Promise((resolve) => { finish = resolve; });

export class Tests extends program(wasm) {
	get argv() { return ["cloudflare.test", ...frozen.arguments]; }
	ended(reason) {
		finish(`${output()}\nexit: ${reason}\n`);
	}
	async fetch() { return new Response(await finished); }
}

export default {
	async fetch(request, env) {
		const { searchParams } = new URL(request.url);
		frozen.arguments = searchParams.getAll("arg");
		if (searchParams.has("frozen")) frozen.start();
		return env.TESTS.get(env.TESTS.idFromName("tests")).fetch(request);
	},
};
