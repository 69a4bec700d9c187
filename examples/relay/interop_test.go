package main

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
)

// officialConsumer is what the official consumer has read: records by repository and path.
func (w *world) officialConsumer(p *program, modules string, count int) map[string]string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "testdata/consumer.cjs", p.url, w.plc, strconv.Itoa(count))
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("node: %v", err)
	}
	var read struct {
		Records map[string]string `json:"records"`
		Errors  []string          `json:"errors"`
	}
	if err := data.UnmarshalJSON(out, &read); err != nil {
		w.t.Fatalf("%s: %v", out, err)
	}
	for _, text := range read.Errors {
		w.t.Error(text)
	}
	return read.Records
}

// recordsOf are the records of accounts, as officialConsumer returns them.
func recordsOf(list ...*account) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		for path, cid := range a.made {
			all[string(a.did)+"/"+path] = string(cid)
		}
	}
	return all
}

// The official consumer, @atproto/sync, verifies all that the relay passes on.
func TestOfficialConsumer(t *testing.T) {
	modules := testenv.NodeModules(t, "@atproto/sync", "@atproto/identity")
	w := newWorld(t)
	h := w.host()
	alice, bob := h.account("alice"), h.account("bob")
	alice.write(t, 3)
	bob.write(t, 2)
	p := w.relay("-hosts", h.name)
	alice.write(t, 1)
	if d := cmp.Diff(recordsOf(alice, bob), w.officialConsumer(p, modules, 6)); d != "" {
		t.Error(d)
	}
}

// TestOfficialPDS follows the official PDS, in strict mode: the npm package @atproto/pds, which needs
// Node.js 22. It runs with PDSKIT_INTEROP=1, and PDSKIT_NPM naming a folder where the package was
// installed.
func TestOfficialPDS(t *testing.T) {
	if os.Getenv("PDSKIT_INTEROP") == "" || os.Getenv("PDSKIT_NPM") == "" {
		t.Skip("runs with PDSKIT_INTEROP=1, and PDSKIT_NPM naming a folder where @atproto/pds was installed")
	}
	modules := testenv.NodeModules(t, "@atproto/pds")
	w := newWorld(t)
	name := testenv.OfficialPDS(t, modules, w.plc)
	alice := newAccount(t, "http://"+name, "alice.test")
	alice.write(t, 5)
	p := w.relay("-hosts", name)
	f := w.follow(p.url)
	f.until("the records of before", func() bool { return f.revs[alice.did] == alice.rev })
	alice.write(t, 20)
	f.until("those that came", func() bool { return f.revs[alice.did] == alice.rev })
	if d := cmp.Diff(alice.made, f.records[alice.did]); d != "" {
		t.Error(d)
	}
	if rules := p.host(name).Rules; len(rules) > 0 {
		t.Errorf("rules were broken: %v", rules)
	}
}
