// The JavaScript side of package storage/cloudflare: it runs a Go program, built for GOOS=js, in each
// Durable Object. The program starts with the object, not in the global scope, where clocks stand at zero,
// and every object has one of its own. The README says how a Worker is made of it.
//
// Calls from Go cost about a microsecond, those into Go some twenty, and the properties of a request are
// dear to read from Go. So requests, answers, rows and frames cross in one piece each. Numbers in packed
// bytes are little-endian.
import { DurableObject } from "cloudflare:workers";

const SMALL = 1 << 20; // bodies of requests below are passed on as bytes, not as streams
const CHUNK = 64 << 10; // bytes of a stream that are read at a time
const LATER = 600_000; // milliseconds after an alarm that has failed again
const UNDO = new Error("undone"), LATE = {};

export const program = (wasm) => class extends DurableObject {
	#go; // a promise of the functions with which Go answers
	#sockets; // WebSockets by their number

	constructor(ctx, env) {
		super(ctx, env);
		ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong")); // wakes nobody
		const go = new Go();
		go.exit = (reason) => this.ended(reason);
		go.argv = this.argv;
		this.#go = new Promise((ready) => {
			globalThis.pdskitHost = host(ctx, env, ready, () => this.#open());
			// Runs main until it waits for the first time.
			go.run(new WebAssembly.Instance(wasm, go.importObject)).catch(go.exit);
			delete globalThis.pdskitHost;
		});
	}
	get argv() { return ["worker"]; }
	get bodyTimeout() { return 30_000; } // milliseconds in which a small body must arrive
	// The program has ended, as after a panic. The next request starts a new one.
	ended(reason) { this.ctx.abort(`the Go program has ended: ${reason}`); }

	async fetch(request) {
		const go = await this.#go;
		const { method, url, headers, body, signal } = request;
		const lines = [method, url, headers.get("cf-connecting-ip") ?? ""];
		for (const [name, value] of headers) lines.push(`${name}: ${value}`);
		const small = body !== null && +(headers.get("content-length") ?? SMALL) < SMALL;
		const input = small ? await arrived(request, this.bodyTimeout) : body && reading(body);
		if (input === LATE) return Response.json({ error: "RequestTimeout", message: "The body did not arrive in time" }, { status: 408 });
		const { promise, resolve } = Promise.withResolvers();
		const id = go.fetch(lines.join("\n"), input, body === null ? 0 : small ? 1 : 2, {
			send: (head, bytes) => resolve(response(head, bytes)), // the whole answer
			// An answer whose body follows, through the writer that is returned.
			stream(head, size) {
				const { readable, writable } = size < 0 ? new IdentityTransformStream() : new FixedLengthStream(size);
				resolve(response(head, readable));
				return writable.getWriter();
			},
			// An answer that opens a WebSocket.
			upgrade: (id, note) => {
				const [client, server] = Object.values(new WebSocketPair());
				this.ctx.acceptWebSocket(server);
				server.serializeAttachment([id, note]);
				this.#open().set(id, server);
				resolve(new Response(null, { status: 101, webSocket: client }));
			},
		});
		signal?.addEventListener("abort", () => go.gone(id));
		return promise;
	}
	// Calls Go from another object: bytes in, bytes out. See Host.Stub.
	async call(method, bytes) {
		const go = await this.#go;
		return new Promise((resolve, reject) => go.call(method, bytes, resolve, (text) => reject(new Error(text))));
	}
	// The platform calls a few times more after a failure, and then forgets the alarm. So another one is
	// set before Go is called again, which Go replaces if it gets that far.
	async alarm(info) {
		if (info?.isRetry) await this.ctx.storage.setAlarm(Date.now() + LATER).then(() => this.ctx.storage.sync());
		return new Promise((await this.#go).alarm);
	}
	webSocketMessage() {} // subscribers have nothing to say
	webSocketError(socket) { return this.webSocketClose(socket, 1011); }
	async webSocketClose(socket, code) {
		const [id] = socket.deserializeAttachment();
		this.#open().delete(id);
		try { socket.close(code === 1005 || code === 1006 ? 1000 : code); } catch {} // it is closed already
		(await this.#go).closed(id);
	}
	// Sockets by their number, those of an earlier program of the object included.
	#open() {
		const open = () => this.ctx.getWebSockets().filter((s) => s.readyState === WebSocket.OPEN);
		return this.#sockets ??= new Map(open().map((s) => [s.deserializeAttachment()[0], s]));
	}
};

// What Go sees of the object.
function host(ctx, env, ready, sockets) {
	const h = { ctx, env, ready, reading, io: new Uint8Array(256 << 10) };
	let settled, frames = [];
	// Tells Go, under a number, how a promise ends.
	h.onSettled = (fn) => { settled = fn; };
	h.wait = (promise, id) => { promise.then((v) => settled(id, true, v), (e) => settled(id, false, e)); };
	// h.io is where bytes cross whose number is known to both sides. It grows.
	h.grow = (n) => {
		const old = h.io;
		if (n > old.length) (h.io = new Uint8Array(2 * n)).set(old);
		return h.io;
	};
	h.table = (name) => table(ctx.storage.sql, h, name);
	h.transact = (fn) => {
		try { ctx.storage.transactionSync(() => { if (!fn()) throw UNDO; }); } catch (e) { if (e !== UNDO) throw e; }
	};
	h.setAlarm = (ms) => { ms < 0 ? ctx.storage.deleteAlarm() : ctx.storage.setAlarm(ms); };
	// Sockets have a number and a note by Go, which survive the program.
	h.sockets = () => [...sockets().values()].map((s) => s.deserializeAttachment().join(" ")).join("\n");
	// Takes frames, each behind its length, for what is sent next.
	h.load = (n) => {
		frames = [];
		const bytes = h.io.slice(0, n), view = new DataView(bytes.buffer);
		for (let at = 0; at < n;) frames.push(bytes.subarray(at + 4, at += 4 + view.getUint32(at, true)));
	};
	// Sends these frames to a socket and leaves a note. False: it is gone.
	h.push = (id, note) => {
		const s = sockets().get(id);
		try {
			for (const f of frames) s.send(f);
			s.serializeAttachment([id, note]);
			return true;
		} catch { return sockets().delete(id) && false; }
	};
	h.close = (id, code, reason) => {
		try { sockets().get(id).close(code, reason); } finally { sockets().delete(id); }
	};
	return h;
}

// An ordered map of bytes: a table of the object's SQLite. Keys and values cross in h.io.
function table(sql, h, name) {
	sql.exec(`CREATE TABLE IF NOT EXISTS ${name} (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID`);
	return {
		// The length of the value of a key of n bytes, or -1.
		get(n) {
			const [row] = sql.exec(`SELECT v FROM ${name} WHERE k = ?`, h.io.slice(0, n)).raw();
			if (row) h.grow(row[0].byteLength).set(new Uint8Array(row[0]));
			return row ? row[0].byteLength : -1;
		},
		// A page of the range between two keys: of at most rows pairs, values cut to their first bytes (if
		// cut is not 0; -1: none), that ends when it has most bytes. Negative: there is more.
		scan(fromLength, toLength, reverse, rows, cut, most) {
			const from = h.io.slice(0, fromLength), to = h.io.slice(fromLength, fromLength + toLength);
			const value = cut < 0 ? "x''" : cut > 0 ? `coalesce(substr(v, 1, ${cut}), x'')` : "v";
			const query = `SELECT k, ${value} FROM ${name} WHERE k >= ? ${toLength > 0 ? "AND k < ?" : ""} ORDER BY k ${reverse ? "DESC" : ""} LIMIT ?`;
			let n = 0, count = 0;
			for (const [k, v] of sql.exec(query, from, ...(toLength > 0 ? [to] : []), rows + 1).raw()) {
				if (count++ === rows || n > most) return -n;
				const at = n + 8 + k.byteLength, end = at + v.byteLength, io = h.grow(end), view = new DataView(io.buffer);
				view.setUint32(n, k.byteLength, true);
				view.setUint32(n + 4, v.byteLength, true);
				io.set(new Uint8Array(k), n + 8);
				io.set(new Uint8Array(v), at);
				n = end;
			}
			return n;
		},
		// Carries out n bytes of writes: a pair that is set (1), a range of keys that is deleted (0).
		write(n) {
			const view = new DataView(h.io.buffer);
			for (let at = 0; at < n;) {
				const set = view.getUint8(at) === 1, key = at + 9, value = key + view.getUint32(at + 1, true);
				at = value + view.getUint32(at + 5, true);
				const k = h.io.slice(key, value), v = h.io.slice(value, at);
				if (set) sql.exec(`INSERT OR REPLACE INTO ${name} VALUES (?, ?)`, k, v);
				else if (v.length > 0) sql.exec(`DELETE FROM ${name} WHERE k >= ? AND k < ?`, k, v);
				else sql.exec(`DELETE FROM ${name} WHERE k >= ?`, k);
			}
		},
	};
}

const response = (head, body) => new Response(body, { ...JSON.parse(head), encodeBody: "manual" }); // head: status and headers

// The body of a request, or LATE: a client that sends nothing must not keep the object active.
async function arrived(request, ms) {
	let timer;
	const late = new Promise((resolve) => { timer = setTimeout(resolve, ms, LATE); });
	const whole = request.arrayBuffer().then((b) => new Uint8Array(b));
	whole.catch(() => {}); // also after it is late
	try { return await Promise.race([whole, late]); } finally { clearTimeout(timer); }
}

// Chunks of a stream: next gives bytes that are good until it is called again, or null at the end.
function reading(stream) {
	const reader = stream.getReader({ mode: "byob" });
	let buffer = new ArrayBuffer(CHUNK);
	return {
		async next() {
			const { value, done } = await reader.read(new Uint8Array(buffer));
			if (value) buffer = value.buffer;
			return done ? null : value;
		},
		cancel: () => { reader.cancel().catch(() => {}); },
	};
}
