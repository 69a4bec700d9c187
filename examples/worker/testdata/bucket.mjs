// A bucket in the memory of the process, with the methods of an R2Bucket that package cloudflare uses.
const objects = new Map();
const uploads = new Map();
const later = () => new Promise((done) => setTimeout(done, 1)); // as a real one, it never answers at once
const copy = (bytes) => new Uint8Array(bytes).slice();

const upload = (name, id) => ({
	uploadId: id,
	async uploadPart(partNumber, bytes) {
		const kept = copy(bytes);
		await later();
		uploads.get(id)[partNumber] = kept;
		return { partNumber, etag: `${id}/${partNumber}` };
	},
	async complete(parts) {
		await later();
		const list = parts.map(({ partNumber }) => uploads.get(id)[partNumber]);
		const whole = new Uint8Array(list.reduce((n, part) => n + part.length, 0));
		list.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
		objects.set(name, whole);
		uploads.delete(id);
	},
	async abort() {
		await later();
		uploads.delete(id);
	},
});

export const bucket = {
	async put(name, bytes) {
		const kept = copy(bytes);
		await later();
		objects.set(name, kept);
	},
	async get(name, { range: { offset = 0, length } = {} } = {}) {
		await later();
		const whole = objects.get(name);
		if (!whole) return null;
		return { size: whole.length, body: new Response(whole.slice(offset, length === undefined ? undefined : offset + length)).body };
	},
	async delete(names) {
		await later();
		for (const name of [names].flat()) objects.delete(name);
	},
	async createMultipartUpload(name) {
		await later();
		const id = crypto.randomUUID();
		uploads.set(id, []);
		return upload(name, id);
	},
	async list({ prefix = "", startAfter = "", cursor = "" } = {}) {
		await later();
		const all = [...objects.keys()].filter((k) => k.startsWith(prefix) && k > startAfter && k > cursor).sort();
		const page = all.slice(0, 1000);
		return { objects: page.map((key) => ({ key, size: objects.get(key).length })), truncated: all.length > page.length, cursor: page.at(-1) };
	},
};
