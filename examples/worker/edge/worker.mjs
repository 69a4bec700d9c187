// The Worker: it passes each request on to the Durable Object of the server that the host name of the
// request belongs to. All else is done in Go, inside the object.
import "./wasm_exec.js";
import { program } from "./shim.mjs";
import wasm from "./main.wasm";

export class Server extends program(wasm) {}

const names = (text) => (text ?? "").toLowerCase().split(/[\s,]+/).filter((name) => name !== "");

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

export default {
	fetch(request, env) {
		const url = new URL(request.url);
		const name = server(url.hostname, env);
		if (name === undefined) return new Response("There is no such server.\n", { status: 404 });
		// Passwords and cookies do not belong on a line that anybody can read.
		if (url.protocol === "http:" && !/^(1|t|true)$/i.test(env.PDS_DEV_MODE ?? "")) {
			url.protocol = "https:";
			if (request.method === "GET" || request.method === "HEAD") return Response.redirect(url.href, 308);
			return new Response("Use https.\n", { status: 403 });
		}
		return env.SERVER.get(env.SERVER.idFromName(name)).fetch(request);
	},
};
