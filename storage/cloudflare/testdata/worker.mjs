import "./wasm_exec.js";
import { program } from "./shim.mjs";
import wasm from "./main.wasm";

// Remembers the last instance, to know how much memory it has.
let last;
const { Instance } = WebAssembly;
WebAssembly.Instance = class extends Instance {
	constructor(...args) {
		super(...args);
		last = this;
	}
};

export class Account extends program(wasm) {
	constructor(...args) {
		super(...args);
		this.instance = last;
	}
	get bodyTimeout() { return +(this.env.BODY_TIMEOUT ?? super.bodyTimeout); }
	async fetch(request) {
		if (new URL(request.url).pathname !== "/test/linear") return super.fetch(request);
		return new Response(this.instance.exports.mem.buffer.byteLength);
	}
}

export default {
	fetch(request, env) {
		const name = new URL(request.url).searchParams.get("object") ?? "one";
		return env.ACCOUNT.get(env.ACCOUNT.idFromName(name)).fetch(request);
	},
};
