package account

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// newVillage returns a store with further accounts: user00 … user11, made one after another.
func newVillage(t *testing.T) (s *Store, now *time.Time) {
	s, now = newStore(t)
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		*now = now.Add(time.Second)
		a := Account{DID: syntax.DID(fmt.Sprintf("did:web:u%02d.example.com", i)), Handle: syntax.Handle(fmt.Sprintf("user%02d.test", i)), Created: *now}
		if i%2 == 0 {
			a.Email = fmt.Sprintf("Post%02d@example.com", i)
		}
		if _, err := s.Create(t.Context(), a, key, repo.Batch{}); err != nil {
			t.Fatal(err)
		}
	}
	return s, now
}

// handles searches page by page.
func handles(t *testing.T, s *Store, q Search) (list []string) {
	t.Helper()
	for range 100 {
		page, next, err := s.Search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > q.Limit && q.Limit > 0 {
			t.Errorf("a page of %d", len(page))
		}
		for _, a := range page {
			list = append(list, strings.TrimSuffix(string(a.Handle), ".test"))
		}
		if q.Cursor = next; next == "" {
			return list
		}
	}
	t.Fatal("there is no end")
	return nil
}

func TestSearch(t *testing.T) {
	s, _ := newVillage(t)
	all := handles(t, s, Search{})
	if len(all) != 13 || all[0] != "user11" || all[12] != "alice" {
		t.Fatalf("%v", all)
	}
	for limit := 1; limit <= 14; limit++ {
		if got := handles(t, s, Search{Limit: limit}); !slices.Equal(got, all) {
			t.Errorf("%d a page: %v", limit, got)
		}
		if got := handles(t, s, Search{Text: "USER0", Limit: limit}); len(got) != 10 || got[0] != "user00" || got[9] != "user09" {
			t.Errorf("%d a page: %v", limit, got)
		}
	}
	for text, want := range map[string]string{
		"@user1": "user10 user11", " user11.test ": "user11", "post0": "", "post00@": "user00", "POST02@EXAMPLE.COM": "user02",
		"did:web:u03.example.com": "user03", "did:web:u03": "", "DID:web:u03.example.com": "", "nobody": "", "\x00": "", "user\xff": "", "alice.test/": "",
		"alice": "alice", "handle/alice": "", "@": strings.Join(all, " "),
	} {
		if got := strings.Join(handles(t, s, Search{Text: text, Limit: 5}), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for n, want := range map[int]error{maxSearch: nil, maxSearch + 1: ErrSearch} {
		for _, q := range []Search{{Text: strings.Repeat("x", n)}, {Cursor: strings.Repeat("x", n)}} {
			if _, _, err := s.Search(t.Context(), q); !errors.Is(err, want) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}
	// No cursor leads out of the search.
	for _, cursor := range []string{"\xff\xff", "../email/", "zzz", "\x00", "0"} {
		for _, text := range []string{"", "user0", "post0@"} {
			list, _, err := s.Search(t.Context(), Search{Text: text, Cursor: cursor})
			if err != nil {
				t.Errorf("cursor %q: %v", cursor, err)
			}
			for _, a := range list {
				if text == "user0" && !strings.HasPrefix(string(a.Handle), text) {
					t.Errorf("cursor %q: %s", cursor, a.Handle)
				}
			}
		}
	}
}

func FuzzSearch(f *testing.F) {
	f.Add("alice", "")
	f.Add("", "000/did:web:x")
	f.Add("a@", "a")
	f.Fuzz(func(t *testing.T, text, cursor string) {
		s, _ := newStore(t)
		list, _, err := s.Search(t.Context(), Search{Text: text, Cursor: cursor, Limit: 3})
		if err != nil && !errors.Is(err, ErrSearch) {
			t.Fatalf("%q, %q: %v", text, cursor, err)
		}
		for _, a := range list {
			if a.DID != owner {
				t.Errorf("%+v", a)
			}
		}
	})
}

func TestModeratedAccountsAreListed(t *testing.T) {
	s, _ := newVillage(t)
	ctx := t.Context()
	find := func() string { return strings.Join(handles(t, s, Search{Moderated: true, Limit: 2}), " ") }
	if got := find(); got != "" {
		t.Error(got)
	}
	blob := cid.MustParse("bafkreiciqbhlghztjqn2picusww5pxwwp7m7srqz2b7vk32z4vrk2lpzv4")
	down, up := Takedown{Applied: true, Ref: "case 7"}, Takedown{}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(s.TakeDown(ctx, "did:web:u03.example.com", down))
	do(s.TakeDown(ctx, "did:web:u05.example.com", down))
	for i := range 3 {
		do(s.SetRecordTakedown(ctx, "did:web:u04.example.com", fmt.Sprintf("com.example.note/%d", i), down))
	}
	do(s.SetBlobTakedown(ctx, "did:web:u04.example.com", blob, down))
	if got := find(); got != "user03 user04 user05" {
		t.Error(got)
	}
	do(s.TakeDown(ctx, "did:web:u03.example.com", up))
	do(s.SetRecordTakedown(ctx, "did:web:u04.example.com", "com.example.note/1", up))
	if got := find(); got != "user04 user05" {
		t.Error(got)
	}
	var parts []string
	cursor := ""
	for {
		list, next, err := s.Takedowns(ctx, "did:web:u04.example.com", cursor, 2)
		do(err)
		for _, p := range list {
			if p.Ref != "case 7" || p.Path == "" != p.Blob.Defined() {
				t.Errorf("%+v", p)
			}
			parts = append(parts, p.Path)
		}
		if cursor = next; next == "" {
			break
		}
	}
	if !slices.Equal(parts, []string{"", "com.example.note/0", "com.example.note/2"}) {
		t.Errorf("%q", parts)
	}
	if _, _, err := s.Takedowns(ctx, "did:web:nobody.example.com", "", 2); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	do(s.Delete(ctx, Trusted("did:web:u05.example.com")))
	if got := find(); got != "user04" {
		t.Error(got)
	}
	do(s.SetRecordTakedown(ctx, "did:web:u04.example.com", "com.example.note/0", down)) // again
	into := Statuses{}
	for last := syntax.DID(""); ; {
		var err error
		last, err = s.CountStatuses(ctx, into, last, 4)
		do(err)
		if last == "" {
			break
		}
	}
	if into[Active] != 12 || into[TakenDown] != 0 {
		t.Errorf("%v", into)
	}
}

// A store of the version before has no list of what is taken down.
func TestModeratedAccountsOfAnEarlierVersion(t *testing.T) {
	s, _ := newVillage(t)
	ctx := t.Context()
	if err := s.TakeDown(ctx, "did:web:u03.example.com", Takedown{Applied: true, Ref: "case 7"}); err != nil {
		t.Fatal(err)
	}
	err := s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		if err := tx.Delete(ctx, moderatedPrefix+"did:web:u03.example.com"); err != nil {
			return err
		}
		if err := tx.Set(ctx, moderatedPrefix+"did:web:u04.example.com", []byte("did:web:u04.example.com"), time.Time{}); err != nil {
			return err
		}
		return putLayout(ctx, tx, layout{Version: 1, Count: 13})
	})
	if err != nil {
		t.Fatal(err)
	}
	s.migrated.Store(false)
	if err := s.Repair(ctx); err != nil {
		t.Fatal(err)
	}
	if got := handles(t, s, Search{Moderated: true}); !slices.Equal(got, []string{"user03"}) {
		t.Errorf("%v", got)
	}
	if n, err := s.Count(ctx); err != nil || n != 13 {
		t.Errorf("%d accounts, %v", n, err)
	}
	err = s.store.KV.Read(ctx, func(r storage.KVReader) error {
		if _, err := r.Get(ctx, moderatedPrefix+"did:web:u04.example.com"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a key too many: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
