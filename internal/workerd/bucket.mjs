// A bucket in the memory of the process, with the methods of an R2Bucket that package cloudflare uses, and
// with the faults of a plan: which call of a method fails, and how.
const objects = new Map();
const uploads = new Map();
const later = () => new Promise((done) => setTimeout(done, 1)); // as a real one, it never answers at once
const copy = (bytes) => new Uint8Array(bytes).slice();


// refused: not carried out, an error. lost: carried out, and an error all the same. silent: never an answer.
// short: the bytes of an object end before their end. cut: an error before their end. other: one byte of an
// object is another one. etag: a part is lost.
let plan = { left: 0 };
export const planned = (method, left, mode) => {
	const done = plan.left;
	plan = { method, left, mode };
	return done; // 0: the call of the plan before was made
};
export const names = () => [...objects.keys()];
export const open = () => uploads.size;

const due = (method) => (plan.left > 0 && plan.method === method && --plan.left === 0 ? plan.mode : "");
const error = (method) => new Error(`${method}: We encountered an internal error. Please try again. (10001)`);

// Carries out a call.
async function call(method, fn) {
	const mode = due(method);
	await later();
	if (mode === "silent") return new Promise(() => {});
	if (mode === "refused") throw error(method);
	const value = fn(mode);
	if (mode === "lost") throw error(method);
	return value;
}

function body(whole, mode) {
	if (mode === "other") whole[whole.length - 1] ^= 1;
	if (mode !== "short" && mode !== "cut") return new Response(whole).body;
	let sent = false;
	return new ReadableStream({
		type: "bytes",
		pull(c) {
			if (!sent) c.enqueue(whole.slice(0, whole.length / 2));
			else if (mode === "cut") c.error(error("get"));
			else { c.close(); c.byobRequest?.respond(0); }
			sent = true;
		},
	});
}

const upload = (name, id) => ({
	uploadId: id,
	uploadPart(partNumber, bytes) {
		const kept = copy(bytes);
		return call("uploadPart", (mode) => {
			if (mode !== "etag") uploads.get(id)[partNumber] = kept;
			return { partNumber, etag: `${id}/${partNumber}` };
		});
	},
	complete(parts) {
		return call("complete", () => {
			const list = parts.map(({ partNumber }) => uploads.get(id)[partNumber]);
			if (list.some((part) => !part)) throw new Error("completeMultipartUpload: One or more of the specified parts could not be found. (10025)");
			const whole = new Uint8Array(list.reduce((n, part) => n + part.length, 0));
			list.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
			objects.set(name, whole);
			uploads.delete(id);
			return { key: name, size: whole.length };
		});
	},
	abort: () => call("abort", () => { uploads.delete(id); }),
});

export const bucket = {
	put(name, bytes) {
		const kept = copy(bytes);
		return call("put", () => {
			objects.set(name, kept);
			return { key: name, size: kept.length };
		});
	},
	get(name, { range: { offset = 0, length } = {} } = {}) {
		return call("get", (mode) => {
			const whole = objects.get(name);
			if (!whole) return null;
			return { size: whole.length, body: body(whole.slice(offset, length === undefined ? undefined : offset + length), mode) };
		});
	},
	delete(names) { return call("delete", () => { for (const name of [names].flat()) objects.delete(name); }); },
	createMultipartUpload(name) {
		return call("createMultipartUpload", () => {
			const id = crypto.randomUUID();
			uploads.set(id, []);
			return upload(name, id);
		});
	},
	list({ prefix = "", startAfter = "", cursor = "" } = {}) {
		return call("list", () => {
			const all = [...objects.keys()].filter((k) => k.startsWith(prefix) && k > startAfter && k > cursor).sort();
			const page = all.slice(0, 1000);
			return { objects: page.map((key) => ({ key, size: objects.get(key).length })), truncated: all.length > page.length, cursor: page.at(-1) };
		});
	},
};
