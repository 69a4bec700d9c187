package index

import (
	"math/rand/v2"
	"testing"
)

// TestEventsInAnyOrder: a write of this app, the same over the stream, its deletion by another app,
// and that told by this app, in any order and twice, end in the same: nothing is shown, and nobody is
// counted.
func TestEventsInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		b := newBench(t)
		b.must(b.Add(b.ctx, alice)) // as it signs in
		create, remove := Commit{DID: alice, Rev: tid(1), Data: "d", Ops: []Op{set(1, "a")}}, Commit{DID: alice, Rev: tid(2), Data: "e", Ops: []Op{set(1, "")}}
		stream := []func(){ // in its order; each may come again
			func() { b.must(b.Commit(b.ctx, b.pos(), create)) },
			func() { b.must(b.Commit(b.ctx, b.pos(), remove)) },
		}
		own := []func(){
			func() { b.must(b.Wrote(b.ctx, alice, tid(1), set(1, "a"))) },
			func() { b.must(b.Wrote(b.ctx, alice, tid(2), set(1, ""))) },
		}
		for len(stream)+len(own) > 0 {
			list := &stream
			if len(stream) == 0 || len(own) > 0 && r.IntN(2) == 0 {
				list = &own
			}
			(*list)[0]()
			if r.IntN(3) > 0 {
				*list = (*list)[1:]
			}
		}
		b.want()
		if p, err := b.Page(b.ctx, alice); err != nil || p.People != 0 || p.Mine != "" {
			t.Errorf("%+v, %v", p, err)
		}
		b.Close()
	}
}

// TestDeletedAccountComesBack: with other statuses, and revisions that may be older. What it had is
// gone.
func TestDeletedAccountComesBack(t *testing.T) {
	b := newBench(t)
	b.commit(alice, 9, set(1, "a"), set(2, "b"))
	b.must(b.Account(b.ctx, b.pos(), alice, false, "deleted"))
	b.must(b.Account(b.ctx, b.pos(), alice, false, "deleted"))
	b.must(b.Wrote(b.ctx, alice, tid(10), set(10, "x"))) // its server answered before, and slowly
	b.want()
	b.must(b.Account(b.ctx, b.pos(), alice, true, ""))
	b.want()
	b.commit(alice, 3, set(3, "c"))
	b.want("c")
	b.must(b.Replace(b.ctx, Commit{DID: alice, Rev: tid(3), Data: "data", Ops: []Op{set(3, "c")}}))
	b.want("c")
	if p, err := b.Page(b.ctx, alice); err != nil || p.People != 1 || p.Mine != "c" {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestWriteOfAHiddenAccount: what is written through while the account is taken down is not shown, nor
// told as such.
func TestWriteOfAHiddenAccount(t *testing.T) {
	b := newBench(t)
	b.commit(alice, 1, set(1, "a"))
	b.must(b.Account(b.ctx, b.pos(), alice, false, "takendown"))
	before := b.changes()
	b.must(b.Wrote(b.ctx, alice, tid(2), set(2, "b")))
	b.commit(alice, 3, set(3, "c"))
	b.want()
	list, ok, err := b.Changes(b.ctx, before, 100)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	for _, c := range list {
		if c.Post != nil {
			t.Errorf("%+v is told", c)
		}
	}
	if p, err := b.Page(b.ctx, alice); err != nil || p.People != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	b.must(b.Account(b.ctx, b.pos(), alice, true, ""))
	b.want("c", "b", "a")
}
