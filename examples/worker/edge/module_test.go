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
