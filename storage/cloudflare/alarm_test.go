//go:build linux

package cloudflare_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage/cloudflare"
)

// An alarm whose program fails, or does not even start, at each of the platform's retries is not
// forgotten: each retry leaves an alarm for later behind, before the program is called.
func TestAlarmThatAlwaysFails(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		testenv.Missing(t, "node")
	}
	module := strings.Replace(cloudflare.Shim, `import { DurableObject } from "cloudflare:workers";`, `
class DurableObject { constructor(ctx, env) { this.ctx = ctx; this.env = env; } }`, 1)
	if module == cloudflare.Shim {
		t.Fatal("another form of the module")
	}
	script := module + `
const events = [];
const ctx = {
	setWebSocketAutoResponse() {},
	storage: {
		sql: null,
		async setAlarm(at) { events.push("alarm in " + Math.round((at - Date.now()) / 60000) + " min"); },
		async sync() { events.push("sync"); },
	},
};
globalThis.WebSocketRequestResponsePair = class {};
WebAssembly.Instance = class {};
let starts = true;
globalThis.Go = class {
	async run() {
		if (starts) pdskitHost.ready({ alarm(done) { events.push("program"); if (!fails) done(); } });
		return new Promise(() => {});
	}
};
let fails = false;
const Program = program(null);
const soon = () => new Promise((resolve) => setTimeout(resolve, 1));
await new Program(ctx, {}).alarm({ isRetry: false, retryCount: 0 });
events.push("-");
await new Program(ctx, {}).alarm();
events.push("-");
await new Program(ctx, {}).alarm({ isRetry: true, retryCount: 1 });
events.push("-");
fails = true;
new Program(ctx, {}).alarm({ isRetry: true, retryCount: 6 });
await soon();
events.push("-");
starts = false;
new Program(ctx, {}).alarm({ isRetry: true, retryCount: 6 });
await soon();
console.log(JSON.stringify(events));
process.exit(0);`
	cmd := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", script)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := []string{"program", "-", "program", "-", "alarm in 10 min", "sync", "program", "-", "alarm in 10 min", "sync", "program", "-", "alarm in 10 min", "sync"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
