import "./wasm_exec.js";
import { program } from "./shim.mjs";
import { bucket, planned, names, open } from "./bucket.mjs";
import wasm from "./main.wasm";

// How many writes of objects succeed until there is no room.
let room = Infinity;
const enough = () => { if (room-- <= 0) throw new Error("database or disk is full: SQLITE_FULL"); };

// How often Go has called what.
let calls = {};
function count(o, ...names) {
	for (const name of names) {
		const call = o[name];
		o[name] = (...args) => { calls[name] = (calls[name] ?? 0) + 1; return call(...args); };
	}
	return o;
}

// Lets writes of the program that starts next fail.
function watch() {
	let host;
	Object.defineProperty(globalThis, "pdskitHost", {
		configurable: true,
		get: () => host,
		set(h) {
			host = h;
			const table = h.table;
			h.table = (name) => {
				const t = table(name), write = t.write;
				t.write = (n) => { enough(); write(n); };
				return count(t, "get", "scan", "write");
			};
			count(h, "transact", "wait", "setAlarm");
		},
	});
}

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
	constructor(ctx, env) {
		watch();
		super(ctx, env.R2 ? { ...env, BLOBS: bucket } : env); // R2: the bucket with faults
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
		const { pathname, searchParams: q } = new URL(request.url);
		if (pathname === "/test/r2") {
			const left = planned(q.get("method"), +q.get("n"), q.get("mode"));
			return Response.json({ left, objects: names().length, open: open() });
		}
		if (pathname === "/test/calls") { // since the last time
			const all = calls;
			calls = {};
			return Response.json(all);
		}
		if (pathname === "/test/room") {
			room = +(q.get("n") ?? Infinity);
			return new Response("ok");
		}
		const name = q.get("object") ?? "one";
		return env.ACCOUNT.get(env.ACCOUNT.idFromName(name)).fetch(request);
	},
};
