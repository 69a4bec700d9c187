package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/xrpc/relay"
)

func TestOptions(t *testing.T) {
	var errs bytes.Buffer
	o, err := parse([]string{"-retention", "24h", "-domains", "a.example=10/2.5,b.example=-1"},
		[]string{"RELAY_HOSTS=one.example.com, two.example.com", "RELAY_RETENTION=1h", "RELAY_POLICY=lenient", "RELAY_TYPO=1", "RELAY_CLOSED=true", "RELAY_METRICS="}, &errs)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"one.example.com", "two.example.com"}, o.hosts); d != "" {
		t.Error(d)
	}
	if o.retention != 24*time.Hour || o.policy != relay.Lenient || !o.closed {
		t.Errorf("%+v", o)
	}
	want := map[string]relay.Limits{"a.example": {Accounts: 10, Rate: 2.5, Burst: 20_000}, "b.example": {Accounts: -1}}
	if d := cmp.Diff(want, o.domains); d != "" {
		t.Error(d)
	}
	if !strings.Contains(errs.String(), "RELAY_TYPO") {
		t.Errorf("%q", errs.String())
	}
}

// What cannot be meant is refused, and never taken for the default.
func TestWrongOptions(t *testing.T) {
	for _, args := range [][]string{
		{"more"}, {"-policy", "none"}, {"-listen", "2470"}, {"-accounts", "0"}, {"-rate", "NaN"}, {"-retention", "0s"}, {"-memory", "0"},
		{"-domains", "a.example"}, {"-domains", "a.example=x"}, {"-domains", "a.example=1/NaN"}, {"-new-hosts", "0"}, {"-nothing"},
	} {
		if _, err := parse(args, nil, io.Discard); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	if _, err := parse(nil, []string{"RELAY_RATE=fast"}, io.Discard); err == nil || !strings.Contains(err.Error(), "RELAY_RATE") {
		t.Errorf("%v", err)
	}
	if _, err := parse(nil, []string{passwordVariable + "=short"}, io.Discard); err == nil {
		t.Error("a short password was taken")
	}
}
