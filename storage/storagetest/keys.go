package storagetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// value returns a value of the account's namespace, with "missing" for none.
func (e *env) value(did syntax.DID, key string) (value string) {
	e.Helper()
	e.view(did, func(r storage.Reader) {
		b, err := r.Get(e.ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			value = "missing"
			return
		}
		e.ok(err, "Get")
		value = fmt.Sprintf("%q", b)
	})
	return value
}

func kvWrites(e *env) {
	a, b := e.newRepo(), e.newRepo()
	future, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	e.apply(a, a.aside(
		storage.KVWrite{Key: "a", Value: []byte("1")},
		storage.KVWrite{Key: "empty", Value: []byte{}},
		storage.KVWrite{Key: "twice", Value: []byte("1")},
		storage.KVWrite{Key: "twice", Value: []byte("2")},
		storage.KVWrite{Key: "gone", Value: []byte("1")},
		storage.KVWrite{Key: "gone"},
		storage.KVWrite{Key: "lives", Value: []byte("1"), Expires: future},
		storage.KVWrite{Key: "expired", Value: []byte("1"), Expires: past},
		storage.KVWrite{Key: "never there"},
	))
	want := map[string]string{"a": `"1"`, "empty": `""`, "twice": `"2"`, "gone": "missing", "lives": `"1"`, "expired": "missing", "never there": "missing"}
	for key, v := range want {
		e.same(e.value(a.did, key), v, "key %q", key)
		e.same(e.value(b.did, key), "missing", "key %q of another account", key)
	}
	e.view(a.did, func(r storage.Reader) {
		pairs, err := collect(r.Keys(e.ctx, storage.Range{}))
		e.ok(err, "Keys")
		var got []string
		for _, p := range pairs {
			got = append(got, pairString(p))
		}
		e.same(got, []string{
			pairString(storage.KVPair{Key: "a", Value: []byte("1")}),
			pairString(storage.KVPair{Key: "empty", Value: []byte{}}),
			pairString(storage.KVPair{Key: "lives", Value: []byte("1"), Expires: future}),
			pairString(storage.KVPair{Key: "twice", Value: []byte("2")}),
		}, "all keys")
	})
	// A step with records carries keys too; a value replaces the old one with its expiry.
	s := a.change(note("000", "x"))
	s.KV = []storage.KVWrite{{Key: "a"}, {Key: "lives", Value: []byte("2")}, {Key: "expired", Value: []byte("back")}}
	e.apply(a, s)
	for key, v := range map[string]string{"a": "missing", "lives": `"2"`, "expired": `"back"`} {
		e.same(e.value(a.did, key), v, "key %q after the second step", key)
	}
	if e.KV != nil {
		e.ok(e.KV.Read(e.ctx, func(r storage.KVReader) error {
			pairs, err := collect(r.Keys(e.ctx, storage.Range{}))
			e.same(len(pairs), 0, "accounts' keys in the shared namespace")
			return err
		}), "Read")
	}
}

func kvCheckValues(e *env) {
	a := e.newRepo()
	e.apply(a, a.aside(
		storage.KVWrite{Key: "a", Value: []byte("1")},
		storage.KVWrite{Key: "empty", Value: []byte{}},
		storage.KVWrite{Key: "expired", Value: []byte("1"), Expires: time.Now().Add(-time.Hour)},
	))
	for _, c := range []struct {
		check storage.KVCheck
		holds bool
	}{
		{storage.KVCheck{Key: "a", Value: []byte("1")}, true},
		{storage.KVCheck{Key: "a", Value: []byte("2")}, false},
		{storage.KVCheck{Key: "a", Value: []byte{}}, false},
		{storage.KVCheck{Key: "a"}, false},
		{storage.KVCheck{Key: "empty", Value: []byte{}}, true},
		{storage.KVCheck{Key: "empty"}, false},
		{storage.KVCheck{Key: "missing"}, true},
		{storage.KVCheck{Key: "missing", Value: []byte{}}, false},
		{storage.KVCheck{Key: "expired"}, true},
		{storage.KVCheck{Key: "expired", Value: []byte("1")}, false},
	} {
		s := a.aside()
		s.Checks = []storage.KVCheck{c.check}
		_, err := e.Repos.Apply(e.ctx, a.did, &s.Change)
		if c.holds {
			e.ok(err, "check that %q is %q (nil: %v)", c.check.Key, c.check.Value, c.check.Value == nil)
		} else {
			e.fails(err, storage.ErrConflict, "check that %q is %q (nil: %v)", c.check.Key, c.check.Value, c.check.Value == nil)
		}
	}
	// Checks see the state before the step, and those of a first step see nothing.
	s := a.aside(storage.KVWrite{Key: "new", Value: []byte("1")})
	s.Checks = []storage.KVCheck{{Key: "new"}}
	e.apply(a, s)
	if e.KV != nil {
		e.set("new", "of the host")
	}
	b := e.account()
	s = b.change()
	s.Checks = []storage.KVCheck{{Key: "new"}}
	e.apply(b, s)
}
