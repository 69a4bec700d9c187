package clienttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

const (
	alice = client.SessionID("did:plc:ewvi7nxzyoun6zhxrhs64oiz/AAAAAAAAAAAAAAAAAAAAAAAAAA")
	bob   = client.SessionID("did:web:example.com/BBBBBBBBBBBBBBBBBBBBBBBBBB")
)

// Sessions tests a SessionStore.
func Sessions(t *testing.T, open func(t *testing.T) (one, other client.SessionStore)) {
	run := func(name string, fn func(t *testing.T, one, other client.SessionStore)) {
		t.Run(name, func(t *testing.T) {
			one, other := open(t)
			fn(t, one, other)
		})
	}
	run("Missing", func(t *testing.T, one, _ client.SessionStore) {
		ctx := t.Context()
		if v, err := one.Get(ctx, alice); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("Get: %q, %v; want ErrNotFound", v, err)
		}
		if err := one.CompareAndSwap(ctx, alice, []byte("old"), []byte("new")); !errors.Is(err, client.ErrConflict) {
			t.Errorf("CompareAndSwap of a value that is not there: %v; want ErrConflict", err)
		}
		if err := one.Delete(ctx, alice, []byte("old")); err != nil {
			t.Errorf("Delete: %v", err)
		}
		if err := one.Delete(ctx, alice, nil); err != nil {
			t.Errorf("Delete: %v", err)
		}
		if got := list(t, one, ""); len(got) != 0 {
			t.Errorf("List: %q", got)
		}
	})
	run("Swap", func(t *testing.T, one, other client.SessionStore) {
		ctx := t.Context()
		want := func(value string) {
			t.Helper()
			for _, s := range []client.SessionStore{one, other} {
				if got, err := s.Get(ctx, alice); err != nil || string(got) != value {
					t.Fatalf("Get: %q, %v; want %q", got, err, value)
				}
			}
		}
		conflict := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, client.ErrConflict) {
				t.Errorf("%s: %v; want ErrConflict", what, err)
			}
		}
		swap(t, one, alice, nil, "1")
		want("1")
		conflict("making what is there", other.CompareAndSwap(ctx, alice, nil, []byte("2")))
		conflict("a wrong old value", other.CompareAndSwap(ctx, alice, []byte("2"), []byte("3")))
		conflict("an empty old value", other.CompareAndSwap(ctx, alice, []byte{}, []byte("3")))
		conflict("a longer old value", other.CompareAndSwap(ctx, alice, []byte("1 "), []byte("3")))
		want("1")
		swap(t, other, alice, []byte("1"), "2")
		want("2")
		swap(t, one, alice, []byte("2"), "2")
		swap(t, one, bob, nil, "bob's")
		conflict("deleting a wrong value", one.Delete(ctx, alice, []byte("1")))
		want("2")
		if err := one.Delete(ctx, alice, []byte("2")); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Get(ctx, alice); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("Get after Delete: %v", err)
		}
		conflict("replacing what was deleted", other.CompareAndSwap(ctx, alice, []byte("2"), []byte("3")))
		swap(t, other, alice, nil, "4")
		if err := one.Delete(ctx, alice, nil); err != nil {
			t.Fatal(err)
		}
		if v, err := one.Get(ctx, bob); string(v) != "bob's" || err != nil {
			t.Errorf("the other session: %q, %v", v, err)
		}
	})
	run("Bytes", func(t *testing.T, one, other client.SessionStore) {
		ctx := t.Context()
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		var old []byte
		for _, v := range [][]byte{all, {0}, {0, 0}, []byte("1"), []byte("1.0"), []byte("\xff\xfe"), bytes.Repeat(all, 255), []byte("é"), []byte("e\u0301"), []byte("A"), []byte("a")} {
			given := bytes.Clone(v)
			if err := one.CompareAndSwap(ctx, alice, old, given); err != nil {
				t.Fatalf("%.20q in the place of %.20q: %v", v, old, err)
			}
			for i := range given {
				given[i] ^= 1 // it is the caller's
			}
			got, err := other.Get(ctx, alice)
			if err != nil || !bytes.Equal(got, v) {
				t.Fatalf("Get: %.20q, %v; want %.20q", got, err, v)
			}
			for i := range got {
				got[i] ^= 1
			}
			old = v
		}
	})
	run("Names", func(t *testing.T, one, other client.SessionStore) {
		// Names that differ in what some databases do not tell apart.
		var ids []client.SessionID
		for _, did := range []string{
			"did:web:a.example", "did:web:a.example.com", "did:web:a_b.example", "did:web:axb.example", "did:web:a%3A80", "did:web:aXX3A80",
			"did:web:A.example", "did:web:b.example", "did:web:b.exampl",
		} {
			for _, random := range []string{"AAAA", "aaaa", "AAAA0"} {
				ids = append(ids, client.SessionID(did+"/"+random))
			}
		}
		for _, id := range ids {
			swap(t, one, id, nil, string(id))
		}
		slices.Sort(ids)
		if got := list(t, other, ""); !slices.Equal(got, ids) {
			t.Errorf("List of all: %q; want %q", got, ids)
		}
		for _, id := range ids {
			if got, err := other.Get(t.Context(), id); err != nil || string(got) != string(id) {
				t.Errorf("Get(%s): %q, %v", id, got, err)
			}
			want := slices.DeleteFunc(slices.Clone(ids), func(x client.SessionID) bool { return x.DID() != id.DID() })
			if got := list(t, other, id.DID()); !slices.Equal(got, want) {
				t.Errorf("List(%s): %q; want %q", id.DID(), got, want)
			}
		}
		if got := list(t, one, "did:web:nobody.example"); len(got) != 0 {
			t.Errorf("List of an account without sessions: %q", got)
		}
	})
	run("Long list", func(t *testing.T, one, other client.SessionStore) {
		var want []client.SessionID
		for i := range 230 {
			id := client.SessionID(fmt.Sprintf("did:web:example.com/%05d", i))
			swap(t, one, id, nil, "x")
			want = append(want, id)
		}
		if got := list(t, other, "did:web:example.com"); !slices.Equal(got, want) {
			t.Errorf("List: %d sessions; want %d", len(got), len(want))
		}
		n := 0
		for range other.List(t.Context(), "") {
			if n++; n == 120 {
				break
			}
		}
		// Each one is deleted when it is seen.
		n = 0
		for id, err := range one.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			if err := one.Delete(t.Context(), id, nil); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if got := list(t, other, ""); n != 230 || len(got) != 0 {
			t.Errorf("deleted %d while they were listed; there are %d left", n, len(got))
		}
	})
	run("Race", func(t *testing.T, one, other client.SessionStore) {
		// Each worker counts up; nobody's step is lost.
		ctx := t.Context()
		swap(t, one, alice, nil, "0")
		var wg sync.WaitGroup
		var won atomic.Int64
		for i := range 6 {
			s := []client.SessionStore{one, other}[i%2]
			wg.Go(func() {
				for range 15 {
					v, err := s.Get(ctx, alice)
					if err != nil {
						t.Error(err)
						return
					}
					n, _ := strconv.Atoi(string(v))
					switch err := s.CompareAndSwap(ctx, alice, v, []byte(strconv.Itoa(n+1))); {
					case err == nil:
						won.Add(1)
					case !errors.Is(err, client.ErrConflict):
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if v, err := one.Get(ctx, alice); err != nil || string(v) != strconv.FormatInt(won.Load(), 10) {
			t.Errorf("after %d changes: %q, %v", won.Load(), v, err)
		}
		// Of many that make a session, one does.
		won.Store(0)
		for i := range 8 {
			s := []client.SessionStore{one, other}[i%2]
			wg.Go(func() {
				if s.CompareAndSwap(ctx, bob, nil, []byte(strconv.Itoa(i))) == nil {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d have made the session", won.Load())
		}
	})
	run("Cancelled", func(t *testing.T, one, other client.SessionStore) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		// Whatever it answers: it is all or nothing.
		err := one.CompareAndSwap(ctx, alice, nil, []byte("x"))
		v, getErr := other.Get(t.Context(), alice)
		if err == nil && string(v) != "x" || getErr != nil && !errors.Is(getErr, client.ErrNotFound) {
			t.Errorf("%v; then %q, %v", err, v, getErr)
		}
	})
}

func swap(t *testing.T, s client.SessionStore, id client.SessionID, old []byte, new string) {
	t.Helper()
	if err := s.CompareAndSwap(t.Context(), id, old, []byte(new)); err != nil {
		t.Fatalf("CompareAndSwap(%s, %q, %q): %v", id, old, new, err)
	}
}

// list is what a store has of an account, sorted.
func list(t *testing.T, s client.SessionStore, did syntax.DID) (ids []client.SessionID) {
	t.Helper()
	for id, err := range s.List(t.Context(), did) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
