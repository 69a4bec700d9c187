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

// Names that it has not found, for a moment: they may be taken at any time.
const absent = new Map();
const ABSENT = 3_000; // milliseconds
const NAMES = /\.(createAccount|\w+Handle)$/; // methods after which they are forgotten

// Asking for names that there are not costs the directory a call each. So each network has a number of them.
const misses = new Map();
const MISSES = 60; // of a network in MINUTE
const MINUTE = 60_000; // milliseconds

const DID = /^did:[a-z]+:[\w.%:-]{1,2000}$/, HANDLE = /^[a-z0-9-]+(\.[a-z0-9-]+)+$/i, MAIL = /^[^\s@]+@[^\s@]+$/;
const mayBe = (id) => DID.test(id) || (id.length <= 320 && (HANDLE.test(id) || MAIL.test(id)));

// Keeps a value for some time, in a map that has at most KEPT of them.
function keep(map, key, value, life) {
	if (map.size >= KEPT) map.delete(map.keys().next().value);
	map.set(key, { value, until: Date.now() + life });
	return value;
}

function kept(map, key) {
	const entry = map.get(key);
	if (entry && entry.until > Date.now()) return entry.value;
	map.delete(key);
}

// An IPv4 address, or the first four groups of an IPv6 one.
function network(request) {
	const address = request.headers.get("cf-connecting-ip") ?? "";
	const [left, right] = address.split("::").map((half) => half.split(":").filter((group) => group !== ""));
	return address.includes(":") ? [...left, ...Array(8 - left.length - (right ?? []).length).fill("0")].slice(0, 4).join(":") : address;
}

// The DID of an account; "": there is none; undefined: the client has asked for too many that there are not.
async function find(id, object, request) {
	if (!mayBe(id)) return "";
	const known = kept(found, id) ?? kept(absent, id);
	if (known !== undefined) return known;
	const from = network(request), missed = kept(misses, from);
	if (missed?.count >= MISSES) return undefined;
	const did = new TextDecoder().decode(await object("directory").call("find.account", new TextEncoder().encode(id)));
	if (did === "") {
		const counted = kept(misses, from); // by now
		if (counted) counted.count++;
		else keep(misses, from, { count: 1 }, MINUTE);
	}
	return did === "" ? keep(absent, id, did, ABSENT) : keep(found, id, did, LIFE);
}

// Passes a request on to the object of a server with an object for each account.
async function pass(request, url, env, host) {
	const object = (name) => env.SERVER.get(env.SERVER.idFromName(name));
	let [place, id, body] = await route(request, url);
	if (place === "desk" && url.hostname.toLowerCase() !== host && request.method === "GET" && !url.pathname.startsWith("/xrpc/")) {
		// Cookies and the origin of OAuth belong to the server's own name.
		return Response.redirect(`${url.protocol}//${host}${url.port ? ":" + url.port : ""}${url.pathname}${url.search}`, 308);
	}
	if (place === "account") {
		place = id === undefined ? "desk" : await find(id, object, request);
		if (place === undefined) {
			const text = { error: "RateLimitExceeded", message: "Too many requests for accounts that are not here" };
			return Response.json(text, { status: 429, headers: { "Retry-After": "60", "Access-Control-Allow-Origin": "*" } });
		}
		place ||= "desk";
	}
	const answer = await object(place).fetch(body === undefined ? request : new Request(request, { body }));
	if (request.method === "POST" && NAMES.test(url.pathname)) absent.clear();
	return answer;
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
