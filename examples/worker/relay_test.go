//go:build unix

package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// A relay reads servers of all kinds: of one account, and with an object for each of many.
func TestRelay(t *testing.T) {
	w := deployWith(t, map[string]string{
		"PDS_HOSTNAMES": "single.test", "PDS_HOSTNAME": "pds.test", "PDS_ACCOUNT_OBJECTS": "true", "PDS_INVITE_REQUIRED": "false",
	}, "pds.test", "single.test")
	r := &relay.Relay{Store: memory.New(memory.Config{}), Identity: w.net.Resolver(), HTTP: w.net.Client()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		r.Outbox().Close()
	}()
	want := map[syntax.DID]int{}
	for _, host := range []string{"pds.test", "single.test"} {
		if err := r.AddHost(t.Context(), host); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"alice", "bob"} {
		did, c := w.join(name)
		for i := range 3 {
			if err := w.write(c, did, i); err != nil {
				t.Fatal(err)
			}
		}
		want[did] = 4 // with the first commit
	}
	did, c := w.account("single.test", "a long password")
	if err := w.write(c, did, 0); err != nil {
		t.Fatal(err)
	}
	want[did] = 2
	patience, stop := context.WithTimeout(ctx, 2*time.Minute)
	defer stop()
	left := 0
	for _, n := range want {
		left += n
	}
	cursor := int64(0)
	for b, err := range r.Outbox().Subscribe(patience, &cursor) {
		if err != nil {
			t.Fatalf("%v; missing: %v", err, want)
		}
		f, err := stream.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		m, err := commit.Decode(f.Kind, f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := m.(*commit.Event); ok {
			want[e.Repo]--
			if left--; left == 0 {
				break
			}
		}
	}
	for did, n := range want {
		if n != 0 {
			t.Errorf("%s: %d commits are missing", did, n)
		}
	}
}
