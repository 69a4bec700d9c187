package client

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The last well-formed nonce of each of a thousand origins is kept; beyond, those leave that were
// used longest ago.
func TestNoncesAreBounded(t *testing.T) {
	var n nonces
	now := time.Unix(1_800_000_000, 0)
	origin := func(i int) string { return fmt.Sprintf("https://%d.example.com", i) }
	keep := func(i int, values ...string) string {
		return n.keep(origin(i), http.Header{"Dpop-Nonce": values}, now)
	}
	want := func(i int, value string) {
		t.Helper()
		if got, _ := n.get(origin(i)); got != value {
			t.Errorf("origin %d: %q, want %q", i, got, value)
		}
	}
	want(0, "")
	for i := range maxNonces {
		if got := keep(i, "first"); got != "first" {
			t.Fatalf("%q", got)
		}
	}
	keep(0, "second") // used again
	want(1, "first")  // likewise
	keep(maxNonces, "first")
	for i, value := range map[int]string{0: "second", 1: "first", 2: "", 3: "first", maxNonces: "first"} {
		want(i, value)
	}
	if len(n.all) != maxNonces || n.recent.Len() != maxNonces {
		t.Errorf("%d and %d are kept", len(n.all), n.recent.Len())
	}
	later := now.Add(time.Hour)
	n.keep(origin(3), http.Header{"Dpop-Nonce": {"third"}}, later)
	if got, at := n.get(origin(3)); got != "third" || !at.Equal(later) {
		t.Errorf("%q, %v", got, at)
	}
	if _, at := n.get(origin(4)); !at.Equal(now) {
		t.Error(at)
	}
	// What is none changes nothing.
	for _, values := range [][]string{nil, {}, {""}, {"a", "b"}, {"a b"}, {"a\n"}, {"\x7f"}, {"é"}, {strings.Repeat("x", maxNonce+1)}} {
		if got := keep(3, values...); got != "" {
			t.Errorf("%q gave %q", values, got)
		}
		want(3, "third")
	}
	for _, value := range []string{"!", "~", strings.Repeat("x", maxNonce)} {
		if got := keep(3, value); got != value {
			t.Errorf("%q gave %q", value, got)
		}
	}
}
