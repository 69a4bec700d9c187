package commit_test

import (
	"errors"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/mst"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

func TestClock(t *testing.T) {
	c := commit.Clock{Drift: time.Minute}
	last, err := c.Next("")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		next, err := c.Next(last)
		if err != nil || next <= last {
			t.Fatalf("%s after %s: %v", next, last, err)
		}
		last = next
	}
	// Another clock ran ahead, but not too far.
	ahead := syntax.NewTID(time.Now().Add(50*time.Second), 1)
	if next, err := c.Next(ahead); err != nil || next <= ahead {
		t.Errorf("%s after %s: %v", next, ahead, err)
	}
	if next, err := c.Next(last); err != nil || next <= ahead {
		t.Errorf("%s: the clock went back: %v", next, err)
	}
	for _, future := range []syntax.TID{syntax.NewTID(time.Now().Add(2*time.Minute), 1), "bzzzzzzzzzzzz"} {
		if next, err := c.Next(future); !errors.Is(err, commit.ErrFuture) {
			t.Errorf("%s after %s: %v", next, future, err)
		}
		if err := c.Check(future); !errors.Is(err, commit.ErrFuture) {
			t.Errorf("%s: %v", future, err)
		}
	}
	if next, err := c.Next(last); err != nil || next >= "b" {
		t.Errorf("the clock followed into the future: %s, %v", next, err)
	}
}

// Clocks of one time make different revisions, since each has an identifier of its own, by chance.
func TestClocksDiffer(t *testing.T) {
	ids := map[string]bool{}
	for range 20 {
		c := commit.Clock{Now: func() time.Time { return now }}
		first, err := c.Next("")
		if err != nil {
			t.Fatal(err)
		}
		second, err := c.Next(first)
		if err != nil || second[11:] != first[11:] || second.Time().Sub(first.Time()) != time.Microsecond {
			t.Errorf("%s after %s: %v", second, first, err)
		}
		ids[string(first[11:])] = true
	}
	if len(ids) < 2 {
		t.Errorf("all have the identifier %v", ids)
	}
}

// Revisions of accounts that share nothing but the time.
func TestNextRev(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	ahead, err := commit.NextRev(syntax.NewTID(now.Add(2*time.Hour), 5), now, 1)
	if err != nil || ahead.Time().Sub(now) != 2*time.Hour+time.Microsecond {
		t.Errorf("%s: %v", ahead.Time(), err)
	}
	if d := commit.Ahead(ahead, now, 0); d != 2*time.Hour+time.Microsecond-commit.DefaultDrift {
		t.Errorf("it is %s beyond what is accepted", d)
	}
	other, err := commit.NextRev("", now, 1)
	if err != nil || !other.Time().Equal(now) || commit.Ahead(other, now, 0) != 0 {
		t.Errorf("%s: %v", other.Time(), err)
	}
	for _, tt := range []struct {
		by   time.Duration
		want bool
	}{{-time.Hour, false}, {0, false}, {5 * time.Minute, false}, {5*time.Minute + time.Microsecond, true}, {100 * 365 * 24 * time.Hour, true}} {
		if got := commit.Ahead(syntax.NewTID(now.Add(tt.by), 0), now, 0) > 0; got != tt.want {
			t.Errorf("%s: %v", tt.by, got)
		}
	}
	if next, err := commit.NextRev("jzzzzzzzzzzzz", now, 1); !errors.Is(err, commit.ErrFuture) {
		t.Errorf("%s after the last of all: %v", next, err)
	}
}

// A Clock makes revisions of its own time, not of the machine's.
func TestClockOfItsOwnTime(t *testing.T) {
	now := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	c := commit.Clock{Now: func() time.Time { return now }}
	first, err := c.Next("")
	if err != nil || !first.Time().Equal(now) {
		t.Errorf("%s: %v", first.Time(), err)
	}
	now = now.Add(-time.Minute)
	if second, err := c.Next(first); err != nil || second <= first {
		t.Errorf("%s after %s: %v", second, first, err)
	}
}

// What nobody could read is not signed.
func TestSignRefusesWhatDecodeRefuses(t *testing.T) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	const did = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	rev := syntax.NewTID(time.Now(), 1)
	root := mst.Empty().Root()
	raw := cid.NewCidV1(cid.Raw, root.Hash())
	for name, sign := range map[string]func() error{
		"no DID":      func() error { _, _, err := commit.Sign(t.Context(), "", rev, root, key); return err },
		"no revision": func() error { _, _, err := commit.Sign(t.Context(), did, "", root, key); return err },
		"a revision that is none": func() error {
			_, _, err := commit.Sign(t.Context(), did, "zzzzzzzzzzzzz", root, key)
			return err
		},
		"no root":       func() error { _, _, err := commit.Sign(t.Context(), did, rev, cid.Undef, key); return err },
		"a root of raw": func() error { _, _, err := commit.Sign(t.Context(), did, rev, raw, key); return err },
		"no signer":     func() error { _, _, err := commit.Sign(t.Context(), did, rev, root, nil); return err },
	} {
		if err := sign(); !errors.Is(err, commit.ErrCommit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
