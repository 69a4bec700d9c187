package repo_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// A page ends at its limit, of records or of bytes, and the next one begins behind it. By default it
// has up to 50 records and up to 1 MiB.
func TestPagesAreBounded(t *testing.T) {
	h := repo.NewHost(repo.Config{Store: memoryStore(), Signer: (&keys{}).signer})
	create(t, h, alice)
	const records = 60
	long := strings.Repeat("x", 120_000) // 8 of these are less than 1 MiB, 9 are more
	size := len(note(t, long))
	for i := range records {
		text := long
		if i < 50 { // the older ones are small
			text = "x"
		}
		apply(t, h, alice, map[string]string{}, one(repo.Create, keyN(i), note(t, text), nil))
	}
	for name, c := range map[string]struct {
		opt  repo.ListOptions
		want int
	}{
		"1 MiB by default":         {repo.ListOptions{}, 8},
		"50 records by default":    {repo.ListOptions{Reverse: true}, 50},
		"three records":            {repo.ListOptions{Limit: 3}, 3},
		"as many bytes as two":     {repo.ListOptions{Bytes: 2 * size}, 2},
		"a byte less than two":     {repo.ListOptions{Bytes: 2*size - 1}, 1},
		"less than one record":     {repo.ListOptions{Bytes: 1}, 1},
		"no bound of bytes":        {repo.ListOptions{Bytes: -1}, 50},
		"all of them":              {repo.ListOptions{Bytes: -1, Limit: 100}, records},
		"all of them, from below":  {repo.ListOptions{Bytes: -1, Limit: 100, Reverse: true}, records},
		"what is behind the first": {repo.ListOptions{Bytes: -1, Limit: 100, Cursor: keyN(records - 1)}, records - 1},
		"and behind the last":      {repo.ListOptions{Cursor: keyN(0)}, 0},
	} {
		page, err := h.List(ctx, alice, notes, c.opt)
		if err != nil || len(page) != c.want {
			t.Errorf("%s: %d records, want %d; %v", name, len(page), c.want, err)
		}
	}
	// Page after page, all come, whatever the limits are.
	for _, opt := range []repo.ListOptions{{Limit: 7}, {Bytes: size}, {Limit: 1, Reverse: true}} {
		seen := map[string]bool{}
		for range records + 1 {
			page, err := h.List(ctx, alice, notes, opt)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				seen[r.Path] = true
				_, key, err := syntax.ParsePath(r.Path)
				if err != nil {
					t.Fatal(err)
				}
				opt.Cursor = key
			}
		}
		if len(seen) != records {
			t.Errorf("%+v: %d records", opt, len(seen))
		}
	}
}

// stored is a key that lies in the namespace of its account.
type stored struct {
	crypto.Signer
	value string
}

func (s stored) Stored() storage.KVCheck { return storage.KVCheck{Key: "key", Value: []byte(s.value)} }

// Among several processes, a key that another one has changed is not used; one that is kept
// elsewhere is, and an error is told.
func TestSignersAmongProcesses(t *testing.T) {
	k := &keys{}
	errLocked := errors.New("the key is locked")
	var signer crypto.Signer
	var failure error
	stale := 0
	h := repo.NewHost(repo.Config{Store: memoryStore(), Stale: func(did syntax.DID) {
		stale++
		signer = stored{k.key(did), "new"} // which is read again
	}, Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return signer, failure }})
	signer = k.key(alice)
	if _, err := h.Create(ctx, alice, repo.Batch{KV: []storage.KVWrite{{Key: "key", Value: []byte("new")}}}); err != nil {
		t.Fatal(err)
	}
	stale = 0
	for _, c := range []struct {
		name   string
		signer crypto.Signer
		err    error
		stale  int
	}{
		{"a key that is kept elsewhere", k.key(alice), nil, 0},
		{"the key that is stored", stored{k.key(alice), "new"}, nil, 0},
		{"the key before it", stored{k.key(alice), "old"}, nil, 1},
		{"no key", nil, errLocked, 0},
	} {
		signer, failure, stale = c.signer, c.err, 0
		got, err := h.Signer(ctx, alice)
		if !errors.Is(err, c.err) || stale != c.stale {
			t.Errorf("%s: %v, read again %d times", c.name, err, stale)
		}
		if s, ok := got.(stored); ok && s.value != "new" {
			t.Errorf("%s: the old key", c.name)
		}
	}
	failing := h.Store()
	failing.Repos = storagetest.Faults{Before: func(method string) error {
		if method == "Reader.Get" {
			return errInjected
		}
		return nil
	}}.Wrap(failing).Repos
	read := 0
	other := repo.NewHost(repo.Config{Store: failing, TempDir: t.TempDir(), Stale: func(syntax.DID) { read++ }, Signer: func(context.Context, syntax.DID) (crypto.Signer, error) {
		if read > 1 {
			return nil, errors.New("asked again and again")
		}
		return stored{k.key(alice), "new"}, nil
	}})
	if s, err := other.Signer(ctx, alice); s != nil || !errors.Is(err, errInjected) {
		t.Errorf("a key that cannot be compared: %v, %v", s, err)
	}
	signer, failure = stored{k.key(bob), "x"}, nil
	if _, err := h.Signer(ctx, bob); !errors.Is(err, repo.ErrRepoNotFound) {
		t.Errorf("the key of nobody: %v", err)
	}
}
