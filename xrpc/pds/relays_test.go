package pds

import (
	"context"
	"errors"
	"net/netip"
	"testing"
)

func TestRelaysAreRecognised(t *testing.T) {
	fail := false
	r := &relays{hosts: []string{"https://relay.example", "https://[2001:db8::1]:8080"}, lookUp: func(_ context.Context, host string) ([]netip.Addr, error) {
		if fail || host != "relay.example" {
			return nil, errors.New("no answer")
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("2001:db8:1::1")}, nil
	}}
	want := func(addr string, known bool) {
		t.Helper()
		if r.contains(netip.MustParseAddr(addr)) != known {
			t.Errorf("%s: want %v", addr, known)
		}
	}
	want("192.0.2.1", false) // not looked up yet
	for range 2 {
		if r.refresh(t.Context()) == fail {
			t.Error("found: ", !fail)
		}
		want("192.0.2.1", true)
		want("2001:db8:1::99", true)
		want("2001:db8::99", true)
		want("192.0.2.2", false)
		want("2001:db8:2::1", false)
		fail = true // what was known stays
	}
}
