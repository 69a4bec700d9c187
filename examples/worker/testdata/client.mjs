// Drives the Worker with the official client, and reads its stream with the official verifier.
// Arguments: the server's URL, the directory's, a handle and a password. Prints one JSON value.
import { createRequire } from "node:module";
const require = createRequire(process.env.NODE_PATH + "/");
const { AtpAgent } = require("@atproto/api");
const { IdResolver } = require("@atproto/identity");
const { Firehose, MemoryRunner } = require("@atproto/sync");

const [url, plcUrl, identifier, password] = process.argv.slice(2);
// The server's own address, of which the DID document tells, is one that only the test knows.
const here = (to) => new URL(new URL(to).pathname + new URL(to).search, url);
const agent = new AtpAgent({
	service: url,
	fetch: (to, init) => {
		const { url: address, method, headers, body } = to.url ? to : { url: to, ...init };
		return fetch(here(address), { method, headers, body, duplex: "half" });
	},
});
await agent.login({ identifier, password });
const { did } = agent.session;

const picture = new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, ...Array(3000).fill(7)]);
const { data: uploaded } = await agent.uploadBlob(picture, { encoding: "image/png" });
const posts = [];
for (const text of ["first", "second", "third"]) {
	const embed = text === "second" ? { $type: "app.bsky.embed.images", images: [{ image: uploaded.blob, alt: "" }] } : undefined;
	posts.push(await agent.post({ text, embed, createdAt: new Date().toISOString() }));
}
await agent.deletePost(posts[0].uri);
const listed = await agent.com.atproto.repo.listRecords({ repo: did, collection: "app.bsky.feed.post" });
const blob = await agent.com.atproto.sync.getBlob({ did, cid: uploaded.blob.ref.toString() });
await agent.com.atproto.repo.putRecord({ repo: did, collection: "com.example.note", rkey: "last", record: { $type: "com.example.note" } });

const seen = { create: 0, delete: 0, errors: [] };
await new Promise((done) => {
	const firehose = new Firehose({
		service: url.replace(/^http/, "ws"),
		idResolver: new IdResolver({ plcUrl }),
		runner: new MemoryRunner({ startCursor: 0 }),
		unauthenticatedHandles: true,
		onError: (err) => seen.errors.push(`${err} ${err.cause ?? ""}`),
		handleEvent: async (evt) => {
			if (evt.event in seen) seen[evt.event]++;
			if (evt.rkey === "last") firehose.destroy().then(done);
		},
	});
	firehose.start();
});
console.log(JSON.stringify({
	posts: listed.data.records.map((r) => r.value.text),
	blob: [blob.data.length, blob.headers["content-type"]],
	seen,
}));
process.exit(0);
