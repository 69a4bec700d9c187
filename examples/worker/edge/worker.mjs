// The Worker: it passes each request on to the Durable Object of the server that the host name of the
// request belongs to, and, of a server with an object for each account, to the object that routes.mjs
// names. All else is done in Go, inside the objects.
import "./wasm_exec.js";
import { program } from "./shim.mjs";
import { route } from "./routes.mjs";
import wasm from "./main.wasm";

export class Server extends program(wasm) {}

const names = (text) => (text ?? "").toLowerCase().split(/[\s,]+/).filter((name) => name !== "");
const flag = (text) => /^(1|t|true)$/i.test(text ?? "");

// The name of the server that serves a host: the same rule as that of Config.Serves in package edge. A
// host of no server must not get an object.
function server(host, env) {
	host = host.toLowerCase();
	const many = names(env.PDS_HOSTNAME)[0];
	if (host === many || names(env.PDS_HOSTNAMES).includes(host)) return host;
	if (!many) return undefined;
	const domains = names(env.PDS_SERVICE_HANDLE_DOMAINS);
	return (domains.length > 0 ? domains : ["." + many]).some((domain) => host.endsWith(domain)) ? many : undefined;
}

// Accounts that the directory has found, for a short time. Objects that do not exist must not be made, so
// nothing but what it has found gets one.
const found = new Map();
const KEPT = 10_000; // accounts
const LIFE = 30_000; // milliseconds

async function find(id, object) {
	const known = found.get(id);
	if (known && known.until > Date.now()) return known.did;
	found.delete(id);
	const did = new TextDecoder().decode(await object("directory").call("find.account", new TextEncoder().encode(id)));
	if (did === "") return undefined;
	if (found.size >= KEPT) found.delete(found.keys().next().value);
	found.set(id, { did, until: Date.now() + LIFE });
	return did;
}

// Passes a request on to the object of a server with an object for each account.
async function pass(request, url, env, host) {
	const object = (name) => env.SERVER.get(env.SERVER.idFromName(name));
	let [place, id, body] = await route(request, url);
	if (place === "desk" && url.hostname.toLowerCase() !== host && request.method === "GET" && !url.pathname.startsWith("/xrpc/")) {
		// Cookies and the origin of OAuth belong to the server's own name.
		return Response.redirect(`${url.protocol}//${host}${url.port ? ":" + url.port : ""}${url.pathname}${url.search}`, 308);
	}
	if (place === "account") place = (id && (await find(id, object))) || "desk";
	return object(place).fetch(body === undefined ? request : new Request(request, { body }));
}

export default {
	async fetch(request, env) {
		const url = new URL(request.url);
		const name = server(url.hostname, env);
		if (name === undefined) return new Response("There is no such server.\n", { status: 404 });
		// Passwords and cookies do not belong on a line that anybody can read.
		if (url.protocol === "http:" && !flag(env.PDS_DEV_MODE)) {
			url.protocol = "https:";
			if (request.method === "GET" || request.method === "HEAD") return Response.redirect(url.href, 308);
			return new Response("Use https.\n", { status: 403 });
		}
		if (flag(env.PDS_ACCOUNT_OBJECTS) && name === names(env.PDS_HOSTNAME)[0]) return pass(request, url, env, name);
		return env.SERVER.get(env.SERVER.idFromName(name)).fetch(request);
	},
};
