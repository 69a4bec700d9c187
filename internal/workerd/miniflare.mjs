// Runs a Worker in miniflare, which has what workerd alone lacks: R2. Its argument is the configuration.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const cfg = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { Miniflare } = createRequire(cfg.require)("miniflare");
const mf = new Miniflare({
	host: "127.0.0.1",
	port: 0,
	rootPath: cfg.root,
	modules: cfg.modules,
	compatibilityDate: cfg.date,
	compatibilityFlags: cfg.flags,
	bindings: cfg.text ?? {},
	durableObjects: Object.fromEntries(cfg.classes.map((c) => [c.toUpperCase(), { className: c, useSQLite: true }])),
	durableObjectsPersist: cfg.dir,
	r2Buckets: cfg.buckets,
	r2Persist: cfg.dir,
});
const url = await mf.ready;
console.log(JSON.stringify({ event: "listen", port: +url.port }));
