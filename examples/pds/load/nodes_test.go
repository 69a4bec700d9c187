//go:build unix

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

// Three servers on one database are killed, drained and paused under load for as long as PDSKIT_NODES
// says, as "20s": nothing that was acknowledged is lost.
func TestNodes(t *testing.T) {
	text := os.Getenv("PDSKIT_NODES")
	if text == "" {
		t.Skip("set PDSKIT_NODES to a time, as 20s: runs three servers, PostgreSQL and versitygw under load")
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := nodes(t.Context(), options{dir: t.TempDir(), duration: d, clients: 6, nodes: 3}, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{"nodes killed", "nodes drained", "leases that other nodes took", "PostgreSQL killed", "acknowledged writes that are in the log, once"} {
		if _, rest, found := strings.Cut(out.String(), row); !found || strings.HasPrefix(strings.TrimLeft(rest[strings.Index(rest, "|"):], "| "), "0 ") {
			t.Errorf("nothing of %q:\n%s", row, out.String())
		}
	}
	t.Log(out.String())
}
