package index

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

const (
	alice syntax.DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	bob   syntax.DID = "did:plc:yk4dd2qkboz2yv6tpubpc6co"
)

// bench is an index with a clock that a test sets.
type bench struct {
	*Index
	t   *testing.T
	ctx context.Context
	at  time.Time
	seq int64
}

func newBench(t *testing.T) *bench {
	t.Helper()
	x, err := Open(t.Context(), filepath.Join(t.TempDir(), "index.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	b := &bench{Index: x, t: t, ctx: t.Context(), at: time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)}
	x.Now = func() time.Time { return b.at }
	return b
}

func (b *bench) pos() Position { b.seq++; return Position{Source: "test", Seq: b.seq} }

// tid is the nth revision or record key.
func tid(n int) syntax.TID {
	return syntax.NewTID(time.Date(2026, 8, 1, 0, 0, n, 0, time.UTC), 0)
}

// set is the creation of the nth record; text is empty for its deletion.
func set(n int, text string) Op {
	op := Op{RKey: syntax.RecordKey(tid(n))}
	if text != "" {
		op.CID = fmt.Sprint("cid of ", n, text)
		op.Status = &status.Status{Text: text, Created: time.Date(2026, 8, 1, 0, 0, n, 0, time.UTC)}
	}
	return op
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) commit(did syntax.DID, rev int, ops ...Op) {
	b.t.Helper()
	b.must(b.Commit(b.ctx, b.pos(), Commit{DID: did, Rev: tid(rev), Data: "data", Ops: ops}))
}

// want checks what is shown, and which statuses are current.
func (b *bench) want(shown ...string) {
	b.t.Helper()
	p, err := b.Page(b.ctx, "")
	b.must(err)
	var got []string
	for _, post := range p.Recent {
		got = append(got, post.Text)
	}
	if !slices.Equal(got, shown) {
		b.t.Fatalf("shown is %q, not %q", got, shown)
	}
}

func (b *bench) changes() (n int64) {
	b.t.Helper()
	p, err := b.Page(b.ctx, "")
	b.must(err)
	return p.Last
}

func TestExactlyOnce(t *testing.T) {
	b := newBench(t)
	at := b.pos()
	c := Commit{DID: alice, Rev: tid(1), Ops: []Op{set(1, "a"), set(2, "b")}}
	b.must(b.Commit(b.ctx, at, c))
	b.want("b", "a")
	n := b.changes()
	b.must(b.Commit(b.ctx, at, c)) // as after a crash before the stream was told
	b.must(b.Commit(b.ctx, b.pos(), c))
	b.must(b.Commit(b.ctx, b.pos(), Commit{DID: alice, Rev: tid(0), Ops: []Op{set(1, "")}}))
	b.must(b.Commit(b.ctx, Position{Source: "test", Seq: 0}, Commit{DID: alice, Rev: tid(9), Ops: []Op{set(1, "")}}))
	b.want("b", "a")
	if b.changes() != n {
		t.Error("something was told twice")
	}
	b.commit(alice, 3, set(2, "c"), set(1, ""))
	b.want("c")
	p, err := b.Page(b.ctx, alice)
	if err != nil || p.Mine != "c" || p.People != 1 || !slices.Equal(p.Top, []Top{{"c", 1}}) {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestSharedPositions: several events with one number are all applied, and again without effect.
func TestSharedPositions(t *testing.T) {
	b := newBench(t)
	at := Position{Source: "jetstream", Seq: 5, Shared: true}
	for range 2 {
		b.must(b.Commit(b.ctx, at, Commit{DID: alice, Rev: tid(1), Ops: []Op{set(1, "a")}}))
		b.must(b.Commit(b.ctx, at, Commit{DID: alice, Rev: tid(1), Ops: []Op{set(2, "b")}}))
		b.want("b", "a")
	}
	if n := b.changes(); n != 2 {
		t.Errorf("%d changes", n)
	}
	// What comes late, of a revision before, is left out.
	b.must(b.Commit(b.ctx, Position{Source: "jetstream", Seq: 4, Shared: true}, Commit{DID: alice, Rev: tid(0), Ops: []Op{set(3, "c")}}))
	b.want("b", "a")
	if seq, _, _, err := b.Cursor(b.ctx, "jetstream"); seq != 5 || err != nil {
		t.Errorf("the position is %d, %v", seq, err)
	}
}

// TestWriteThrough: what a user has written is there at once, whichever comes first.
func TestWriteThrough(t *testing.T) {
	b := newBench(t)
	b.must(b.Add(b.ctx, alice))
	b.must(b.Wrote(b.ctx, alice, tid(1), set(1, "a")))
	b.want("a")
	b.commit(alice, 1, set(1, "a"))
	b.want("a")
	b.commit(alice, 2, set(2, "b"))
	b.commit(alice, 3, set(2, "")) // another app deletes it, before the answer to the write is here
	b.must(b.Wrote(b.ctx, alice, tid(2), set(2, "b")))
	b.want("a")
	b.must(b.Wrote(b.ctx, alice, tid(4), set(1, "")))
	b.want()
	if n := b.changes(); n != 4 {
		t.Errorf("%d changes", n)
	}
}

// TestReplace: a repository takes the place of the rows, without those that are newer.
func TestReplace(t *testing.T) {
	b := newBench(t)
	b.commit(alice, 3, set(1, "a"), set(2, "b"))
	b.commit(bob, 3, set(1, "x"))
	b.must(b.Wrote(b.ctx, alice, tid(9), set(9, "z")))
	b.must(b.Replace(b.ctx, Commit{DID: alice, Rev: tid(5), Data: "new", Ops: []Op{set(2, "B"), set(3, "c"), set(4, "")}}))
	b.want("z", "c", "B", "x")
	s, err := b.State(b.ctx, alice)
	if err != nil || s != (State{Known: true, Rev: tid(5), Data: "new"}) {
		t.Errorf("%+v, %v", s, err)
	}
	b.commit(alice, 7, set(5, "e"))
	if err := b.Replace(b.ctx, Commit{DID: alice, Rev: tid(6), Data: "old", Ops: []Op{set(2, "B")}}); !errors.Is(err, ErrOlder) {
		t.Errorf("an older state: %v", err)
	}
	b.want("z", "e", "B", "x")
	if s, err := b.State(b.ctx, alice); err != nil || s.Rev != tid(7) {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestReplaceOlder: what was deleted while a repository was read does not come back with it, whether
// the index had it before or not.
func TestReplaceOlder(t *testing.T) {
	b := newBench(t)
	b.commit(alice, 3, set(1, "a"), set(2, "b"))
	b.must(b.Commit(b.ctx, b.pos(), Commit{DID: alice, Rev: tid(5), Data: "d", Gap: true})) // it is to be read
	b.commit(alice, 6, set(2, ""), set(4, ""))                                              // while that goes on
	err := b.Replace(b.ctx, Commit{DID: alice, Rev: tid(5), Data: "old", Ops: []Op{set(1, "a"), set(2, "b"), set(3, "c"), set(4, "d")}})
	if !errors.Is(err, ErrOlder) {
		t.Errorf("an older state: %v", err)
	}
	b.want("c", "a")
	b.must(b.Replace(b.ctx, Commit{DID: alice, Rev: tid(7), Data: "new", Ops: []Op{set(1, "a"), set(2, "again"), set(3, "c")}}))
	b.want("c", "again", "a")
}

// TestQueue: an account is read again if there was a reason for it while it was read.
func TestQueue(t *testing.T) {
	b := newBench(t)
	take := func(want ...syntax.DID) {
		t.Helper()
		list, err := b.ToFetch(b.ctx, 4)
		if err != nil || !slices.Equal(list, want) {
			t.Fatalf("the queue has %q, %v; not %q", list, err, want)
		}
	}
	take()
	b.must(b.Commit(b.ctx, b.pos(), Commit{DID: alice, Rev: tid(1), Data: "d", Gap: true}))
	take(alice)
	take() // it is being read
	b.at = b.at.Add(5 * time.Millisecond)
	b.must(b.Fetch(b.ctx, b.pos(), alice))
	b.must(b.Replace(b.ctx, Commit{DID: alice, Rev: tid(1), Data: "d"}))
	take()
	b.at = b.at.Add(10 * time.Second)
	take(alice)
	b.must(b.Replace(b.ctx, Commit{DID: alice, Rev: tid(2), Data: "d"}))
	b.at = b.at.Add(24 * time.Hour)
	take()

	// Failures are tried again, less and less often.
	b.must(b.Fetch(b.ctx, b.pos(), bob))
	tries := 0
	for range 24 * 60 {
		b.at = b.at.Add(time.Minute)
		list, err := b.ToFetch(b.ctx, 4)
		b.must(err)
		tries += len(list)
	}
	if tries < 8 || tries > 20 {
		t.Errorf("%d tries in a day", tries)
	}
}

// TestHidden: accounts come and go, for two reasons.
func TestHidden(t *testing.T) {
	b := newBench(t)
	b.commit(alice, 1, set(1, "a"))
	b.commit(bob, 1, set(2, "b"))
	b.must(b.Account(b.ctx, b.pos(), alice, false, "deactivated"))
	b.want("b")
	b.must(b.Fetch(b.ctx, b.pos(), alice)) // nobody reads it
	if list, err := b.ToFetch(b.ctx, 4); len(list) > 0 || err != nil {
		t.Errorf("%q, %v", list, err)
	}
	b.must(b.Account(b.ctx, b.pos(), alice, true, ""))
	b.want("b", "a")
	b.must(b.Fetch(b.ctx, b.pos(), bob))
	b.must(b.Gone(b.ctx, bob))
	b.want("a")
	b.must(b.Replace(b.ctx, Commit{DID: bob, Rev: tid(2), Data: "d", Ops: []Op{set(2, "b")}}))
	b.want("b", "a")
	b.must(b.Account(b.ctx, b.pos(), bob, false, "deleted"))
	b.want("a")
	if s, err := b.State(b.ctx, bob); s.Known || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	b.must(b.Account(b.ctx, b.pos(), "did:plc:other", false, "deleted"))
	b.want("a")
}

// TestReopened: another version's file is refused, and a file keeps what it has.
func TestReopened(t *testing.T) {
	file := filepath.Join(t.TempDir(), "index.sqlite")
	x, err := Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Commit(t.Context(), Position{Source: "s", Seq: 7}, Commit{DID: alice, Rev: tid(1), Ops: []Op{set(1, "a")}}); err != nil {
		t.Fatal(err)
	}
	x.Close()
	if x, err = Open(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if seq, _, found, err := x.Cursor(t.Context(), "s"); seq != 7 || !found || err != nil {
		t.Errorf("%d, %v, %v", seq, found, err)
	}
	if _, err := x.SQL.ExecContext(t.Context(), "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	x.Close()
	if _, err = Open(t.Context(), file); err == nil {
		t.Error("a file of another version is opened")
	}
}

// TestTally: whatever happens, the tally is what counting gives.
func TestTally(t *testing.T) {
	b := newBench(t)
	r := rand.New(rand.NewPCG(1, 2))
	who := []syntax.DID{alice, bob, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}
	texts := []string{"a", "b", "c", "", ""}
	for rev := 1; rev < 400; rev++ {
		b.at = b.at.Add(time.Second)
		did := who[r.IntN(len(who))]
		ops := []Op{set(r.IntN(4), texts[r.IntN(len(texts))]), set(r.IntN(4), texts[r.IntN(len(texts))])}
		switch r.IntN(8) {
		case 0:
			b.must(b.Account(b.ctx, b.pos(), did, false, []string{"takendown", "deleted"}[r.IntN(2)]))
		case 1:
			b.must(b.Account(b.ctx, b.pos(), did, true, ""))
		case 2:
			b.must(b.Gone(b.ctx, did))
		case 3:
			b.must(b.Fetch(b.ctx, b.pos(), did))
			b.must(b.Replace(b.ctx, Commit{DID: did, Rev: tid(rev), Data: "d", Ops: ops}))
		case 4:
			b.must(b.Wrote(b.ctx, did, tid(rev), ops[0]))
		default:
			b.commit(did, rev, ops...)
		}
		var want []Top
		rows, err := b.SQL.QueryContext(b.ctx, "SELECT status, count(*) FROM status JOIN account USING (did) WHERE active AND status.current GROUP BY status ORDER BY status")
		b.must(err)
		var people int64
		for rows.Next() {
			var x Top
			b.must(rows.Scan(&x.Text, &x.Count))
			want = append(want, x)
			people += x.Count
		}
		rows.Close()
		got, n, err := b.Top(b.ctx)
		b.must(err)
		slices.SortFunc(got, func(a, b Top) int { return strings.Compare(a.Text, b.Text) })
		if !slices.Equal(got, want) || n != people {
			t.Fatalf("after %d changes the tally is %v of %d; counting gives %v of %d", rev, got, n, want, people)
		}
		var wrong int
		b.must(b.SQL.QueryRowContext(b.ctx, `SELECT count(*) FROM account WHERE (SELECT count(*) FROM status WHERE status.did = account.did AND current)
			<> EXISTS (SELECT 1 FROM status WHERE status.did = account.did)`).Scan(&wrong))
		if wrong != 0 {
			t.Fatalf("after %d changes, %d accounts have statuses and none that is current, or several", rev, wrong)
		}
	}
}
