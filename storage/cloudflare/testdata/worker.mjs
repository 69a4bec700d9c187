import "./wasm_exec.js";
import { program } from "./shim.mjs";
import wasm from "./main.wasm";

export class Account extends program(wasm) {}

export default {
	fetch(request, env) {
		const name = new URL(request.url).searchParams.get("object") ?? "one";
		return env.ACCOUNT.get(env.ACCOUNT.idFromName(name)).fetch(request);
	},
};
