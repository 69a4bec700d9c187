// The Worker, with a bucket in memory in the place of R2. It tells how large the memory of the last
// program is that was started, at /test/memory.
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

export class Server extends Deployed {
	constructor(ctx, env) {
		super(ctx, { ...env, BLOBS: bucket });
	}
}

export default {
	fetch(request, env) {
		if (new URL(request.url).pathname === "/test/memory") return new Response(String(last.exports.mem.buffer.byteLength));
		return worker.fetch(request, env);
	},
};
