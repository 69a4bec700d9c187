package edge

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/internal/testenv"
)

// The Worker passes requests on by the same rule as Config.Serves: hosts of no server get no object. By
// plain HTTP nothing gets through, unless it is for development.
func TestModule(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		testenv.Missing(t, "node")
	}
	env := variables(t)
	cfg, err := read(env)
	if err != nil {
		t.Fatal(err)
	}
	type request struct{ Method, URL, Dev string }
	var requests []request
	var want []string
	for _, host := range []string{
		"alice.example.com", "ALICE.example.com", "bob.example.com", "pds.example.com", "carol.pds.example.com", "carol.example.com",
		"evilpds.example.com", "alice.example.com.evil.net", "alice.example.com.", "127.0.0.1", "[::1]", "a",
	} {
		requests = append(requests, request{"POST", "https://" + host + "/a", ""})
		if name := cfg.Serves(host); name != "" {
			want = append(want, name)
		} else {
			want = append(want, "404")
		}
	}
	for r, answer := range map[request]string{
		{"GET", "http://alice.example.com/a?b", ""}: "308 https://alice.example.com/a?b", {"POST", "http://alice.example.com/a", "0"}: "403",
		{"POST", "http://alice.example.com/a", "true"}: "alice.example.com", {"GET", "http://mallory.example.com/", "true"}: "404",
	} {
		requests, want = append(requests, r), append(want, answer)
	}
	text, err := json.Marshal(map[string]any{"requests": requests, "env": env})
	if err != nil {
		t.Fatal(err)
	}
	_, rule, ok := strings.Cut(Module, "extends program(wasm) {}\n")
	if !ok {
		t.Fatal("another form of the module")
	}
	script := strings.Replace(rule, "export default", "const worker =", 1) + `
const { requests, env } = JSON.parse(process.argv[1]);
const answers = [];
for (const { Method, URL, Dev } of requests) {
	const SERVER = { idFromName: (name) => name, get: (name) => ({ fetch: () => new Response(name) }) };
	const r = await worker.fetch(new Request(URL, { method: Method }), { ...env, SERVER, PDS_DEV_MODE: Dev || undefined });
	answers.push(r.status === 200 ? await r.text() : [r.status, r.headers.get("location") ?? ""].join(" ").trim());
}
console.log(JSON.stringify(answers));`
	cmd := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", script, string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Names that there are not cost the directory few calls: nonsense none, one that is asked for again none,
// and a network has no more than a number of them a minute.
func TestUnknownNames(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		testenv.Missing(t, "node")
	}
	_, rule, ok := strings.Cut(Module, "extends program(wasm) {}\n")
	if !ok {
		t.Fatal("another form of the module")
	}
	script := strings.ReplaceAll(Routes, "export ", "") + strings.Replace(rule, "export default", "const worker =", 1) + `
let now = 1e12, calls = 0, accounts = new Map([["alice.pds.example.com", "did:plc:alice"], ["did:plc:alice", "did:plc:alice"]]);
Date.now = () => now;
const SERVER = { idFromName: (name) => name, get: (name) => ({
	fetch: () => new Response(name),
	call: async (_, id) => (calls++, new TextEncoder().encode(accounts.get(new TextDecoder().decode(id)) ?? "")),
}) };
const env = { SERVER, PDS_HOSTNAME: "pds.example.com", PDS_ACCOUNT_OBJECTS: "true" };
const ask = async (ip, id, method = "GET", name = "com.atproto.sync.getRepo") => {
	const url = "https://pds.example.com/xrpc/" + name + "?did=" + encodeURIComponent(id);
	const r = await worker.fetch(new Request(url, { method, headers: { "cf-connecting-ip": ip } }), env);
	return r.status === 200 ? r.text() : r.status;
};
const out = {};
const count = async (name, fn) => { calls = 0; out[name] = [await fn(), calls].flat(); };
await count("nonsense", async () => new Set(await Promise.all(["a", "did:plc:", "a b", "x".repeat(400), "a..b"].map((id) => ask("192.0.2.1", id)))).size);
await count("again", () => ask("192.0.2.1", "did:plc:nobody").then(() => ask("192.0.2.1", "did:plc:nobody")));
await count("later", () => { now += 3001; return ask("192.0.2.1", "did:plc:nobody"); });
await count("made", async () => {
	accounts.set("did:plc:nobody", "did:plc:nobody");
	await ask("192.0.2.1", "", "POST", "com.atproto.server.createAccount");
	return ask("192.0.2.1", "did:plc:nobody");
});
await count("flood", async () => {
	const answers = {};
	for (let i = 0; i < 200; i++) { const a = await ask("2001:db8:1:2::" + i.toString(16), "did:plc:x" + i); answers[a] = (answers[a] ?? 0) + 1; }
	return [answers.desk, answers[429]];
});
await count("the same network", () => ask("2001:db8:1:2:3:4:5:6", "did:plc:y"));
await count("known by now", () => ask("2001:db8:1:2::1", "did:plc:nobody"));
await count("another network", () => ask("2001:db8:1:3::1", "alice.pds.example.com"));
await count("a minute later", () => { now += 60_001; return ask("2001:db8:1:2::1", "did:plc:alice"); });
await count("from everywhere", async () => {
	for (let i = 0; i < 11_000; i++) await ask("10." + (i >> 16) + "." + ((i >> 8) & 255) + "." + (i & 255), "did:plc:z" + i);
	return [found.size <= KEPT, absent.size <= KEPT, misses.size <= KEPT];
});
console.log(JSON.stringify(out));`
	cmd := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", script)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string][]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n := func(n int) any { return float64(n) }
	want := map[string][]any{
		"nonsense": {n(1), n(0)}, "again": {"desk", n(1)}, "later": {"desk", n(1)}, "made": {"did:plc:nobody", n(1)},
		"flood": {n(60), n(140), n(60)}, "the same network": {n(429), n(0)}, "known by now": {"did:plc:nobody", n(0)},
		"another network": {"did:plc:alice", n(1)}, "a minute later": {"did:plc:alice", n(1)}, "from everywhere": {true, true, true, n(11_000)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
