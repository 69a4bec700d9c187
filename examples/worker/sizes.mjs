// Prints how many kilobytes of code each package has in a program of WebAssembly, the largest first.
// The program must have names, so it is built without -ldflags "-s -w":
//
//	GOOS=js GOARCH=wasm go build -trimpath -o /tmp/main.wasm ./examples/worker
//	GOOS=js GOARCH=wasm go list -deps ./examples/worker >/tmp/packages
//	node examples/worker/sizes.mjs /tmp/main.wasm /tmp/packages
import { readFileSync } from "node:fs";

const bytes = readFileSync(process.argv[2]);
const packages = readFileSync(process.argv[3], "utf8").trim().split("\n")
	.map((name) => ({ name, mangled: name.replace(/[^A-Za-z0-9.]/g, "_") }))
	.sort((a, b) => b.mangled.length - a.mangled.length);

let at = 8; // after magic and version
const number = () => {
	for (let n = 0, shift = 0; ; shift += 7) {
		const b = bytes[at++];
		n += (b & 127) * 2 ** shift;
		if (b < 128) return n;
	}
};
const text = () => {
	const n = number();
	return bytes.toString("utf8", at, (at += n));
};

const sizes = []; // of functions
const names = new Map();
let imported = 0, data = 0;
while (at < bytes.length) {
	const section = bytes[at++], end = number() + at;
	if (section === 2) { // imports, which are functions
		imported = number();
	} else if (section === 10) { // code
		for (let n = number(); n > 0; n--) {
			const size = number();
			sizes.push(size);
			at += size;
		}
	} else if (section === 11) {
		data = end - at;
	} else if (section === 0 && text() === "name") {
		while (at < end) {
			const kind = bytes[at++], stop = number() + at;
			if (kind === 1) for (let n = number(); n > 0; n--) names.set(number(), text());
			at = stop;
		}
	}
	at = end;
}

const sum = new Map();
sizes.forEach((size, i) => {
	const name = names.get(i + imported) ?? "";
	const found = packages.find((p) => name.startsWith(p.mangled + ".") || name.startsWith(p.mangled + "_"))?.name ?? "other";
	sum.set(found, (sum.get(found) ?? 0) + size);
});
const line = (n, what) => console.log(String(Math.round(n / 1000)).padStart(8), what);
line(data, "data: tables of the runtime, types, texts, schemas");
line(sizes.reduce((a, b) => a + b, 0), "code, of which");
for (const [name, size] of [...sum].sort((a, b) => b[1] - a[1])) line(size, name);
