// The Worker, with a bucket in memory in the place of R2. It tells how large the memory of the last
// program is that was started, at /test/memory, or that of ?object=NAME. It ends an object at a call of its store, or of another
// object's, as the platform may do at any time: /test/abort?object=NAME&when=before&n=3. At /test/state it
// tells whether that call is still to come, and how often objects were started.
import { Server as Deployed } from "./worker.mjs";
import worker from "./worker.mjs";
import { bucket } from "./bucket.mjs";

let last;
WebAssembly.Instance = class extends WebAssembly.Instance {
	constructor(module, imports) {
		super(module, imports);
		last = this;
	}
};

let plan = { left: 0 };
const instances = {}; // by the objects' names
const starts = {};

// One call of an object.
function counted(ctx, call) {
	if (plan.left > 0 && plan.object === ctx.id.name && --plan.left === 0) {
		if (plan.when === "after") call();
		ctx.abort("by the test");
	}
	return call();
}

// Makes the calls of what Go sees of an object count.
function watch(ctx) {
	let host;
	const each = (o, names) => {
		for (const name of names) {
			const call = o[name];
			o[name] = (...args) => counted(ctx, () => call(...args));
		}
	};
	Object.defineProperty(globalThis, "pdskitHost", {
		configurable: true,
		get: () => host,
		set(h) {
			host = h;
			const table = h.table;
			h.table = (name) => {
				const t = table(name);
				each(t, ["get", "scan", "write"]);
				return t;
			};
			each(h, ["transact"]);
		},
	});
}

export class Server extends Deployed {
	#ctx;

	constructor(ctx, env) {
		watch(ctx);
		starts[ctx.id.name] = (starts[ctx.id.name] ?? 0) + 1;
		super(ctx, { ...env, BLOBS: bucket });
		this.#ctx = ctx;
		instances[ctx.id.name] = last;
	}

	async call(method, bytes) {
		if (plan.left > 0 && plan.object === this.#ctx.id.name && --plan.left === 0) {
			if (plan.when === "after") await super.call(method, bytes);
			this.#ctx.abort("by the test");
		}
		return super.call(method, bytes);
	}
}

export default {
	async fetch(request, env) {
		const { pathname, searchParams: q } = new URL(request.url);
		switch (pathname) {
			case "/test/memory":
				return new Response(String((instances[q.get("object")] ?? last).exports.mem.buffer.byteLength));
			case "/test/abort":
				plan = { object: q.get("object"), when: q.get("when"), left: +q.get("n") };
				return new Response("ok");
			case "/test/call": {
				const stub = env.SERVER.get(env.SERVER.idFromName(q.get("object")));
				return new Response(await stub.call(q.get("method"), new Uint8Array(await request.arrayBuffer())));
			}
			case "/test/state":
				return Response.json({ left: plan.left, starts });
		}
		return worker.fetch(request, env);
	},
};
