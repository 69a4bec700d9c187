// The Worker, with a bucket in memory in the place of R2.
import { Server as Deployed } from "./worker.mjs";
import { bucket } from "./bucket.mjs";
export { default } from "./worker.mjs";

export class Server extends Deployed {
	constructor(ctx, env) {
		super(ctx, { ...env, BLOBS: bucket });
	}
}
