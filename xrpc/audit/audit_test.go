package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

func open(t testing.TB, keep int) (*Log, *time.Time) {
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	return &Log{KV: memory.New(memory.Config{Now: clock}).KV, Entries: keep, Now: clock}, &now
}

func list(t testing.TB, l *Log, before int64, limit int) []Entry {
	t.Helper()
	list, err := l.List(t.Context(), before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestActsAreKept(t *testing.T) {
	l, now := open(t, 0)
	who := Actor{By: "administrator", Through: "pages", Address: "192.0.2.1"}
	end, err := l.Begin(t.Context(), Entry{Actor: who, Action: "delete", Subject: "did:web:a.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if e := list(t, l, 0, 10); len(e) != 1 || e[0].Outcome != Begun || e[0].Actor != who || !e[0].At.Equal(*now) {
		t.Errorf("%+v", e)
	}
	*now = now.Add(time.Minute)
	end(errors.New("no such account"))
	if err := l.Note(t.Context(), Entry{Actor: who, Action: "sign-in"}); err != nil {
		t.Fatal(err)
	}
	e := list(t, l, 0, 10)
	if len(e) != 2 || e[0].Action != "sign-in" || e[0].Outcome != Done || e[1].Outcome != Failed || e[1].Failure != "no such account" || e[0].Seq != 2 {
		t.Errorf("%+v", e)
	}
	*now = now.AddDate(1, 0, 1)
	if e := list(t, l, 0, 10); len(e) != 0 {
		t.Errorf("after a year: %+v", e)
	}
	end(nil) // of an entry that has expired
	if e := list(t, l, 0, 10); len(e) != 0 {
		t.Errorf("it is back: %+v", e)
	}
}

// However much is done, and whatever strangers' names are in it, the trail is bounded.
func TestTrailIsBounded(t *testing.T) {
	l, _ := open(t, 10)
	long := strings.Repeat("\xff\x00<script>", 1_000_000)
	for range 35 {
		end, err := l.Begin(t.Context(), Entry{Actor: Actor{long, long, long}, Action: long, Subject: long, Detail: long})
		if err != nil {
			t.Fatal(err)
		}
		end(errors.New(long))
	}
	var pages [][]Entry
	for before := int64(0); ; {
		page := list(t, l, before, 4)
		if len(page) == 0 {
			break
		}
		pages, before = append(pages, page), page[len(page)-1].Seq
	}
	if len(pages) != 3 || len(pages[2]) != 2 || pages[0][0].Seq != 35 || pages[2][1].Seq != 26 {
		t.Errorf("%d pages", len(pages))
	}
	size := 0
	err := l.KV.Read(t.Context(), func(r storage.KVReader) error {
		for pair, err := range r.Keys(t.Context(), storage.Range{}) {
			if err != nil {
				return err
			}
			size += len(pair.Value)
		}
		return nil
	})
	if err != nil || size > 10*10_000 {
		t.Errorf("%d bytes (%v)", size, err)
	}
	// With fewer entries to keep, those that are too many go, some with each act.
	l.Entries = 3
	if err := l.Note(t.Context(), Entry{}); err != nil || len(list(t, l, 0, 100)) != 3 {
		t.Error(len(list(t, l, 0, 100)), err)
	}
}

func TestSeveralNodes(t *testing.T) {
	l, _ := open(t, 0)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			node := &Log{KV: l.KV}
			for j := range 10 {
				end, err := node.Begin(t.Context(), Entry{Action: fmt.Sprint(i, j)})
				if err != nil {
					t.Error(err)
					return
				}
				end(nil)
			}
		})
	}
	all.Wait()
	seen := make(map[string]bool)
	for _, e := range list(t, l, 0, 1000) {
		if e.Outcome != Done {
			t.Errorf("%+v", e)
		}
		seen[e.Action] = true
	}
	if len(seen) != 80 {
		t.Errorf("%d entries", len(seen))
	}
}

// broken is a store that cannot be written.
type broken struct{ storage.KV }

func (broken) Write(context.Context, func(storage.KVTx) error) error { return storage.ErrFull }

func TestNoActWithoutEntry(t *testing.T) {
	l, _ := open(t, 0)
	l.KV = broken{l.KV}
	if end, err := l.Begin(t.Context(), Entry{}); !errors.Is(err, storage.ErrFull) || end != nil {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"at":"2026-01-15T12:00:00Z","by":"administrator","action":"delete","subject":"did:web:x","outcome":"done"}`))
	f.Add([]byte(`{"By":"x"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		e, err := decode(doc)
		if err != nil {
			return
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Skip() // a year of more than four digits
		}
		if x, err := decode(again); err != nil || x.Action != e.Action || x.Outcome != e.Outcome || !x.At.Equal(e.At) {
			t.Errorf("%s: %+v, %v", again, x, err)
		}
	})
}

func Example() {
	log := &Log{KV: memory.New(memory.Config{}).KV}
	ctx := context.Background()
	end, err := log.Begin(ctx, Entry{
		Actor: Actor{By: "administrator", Through: "pages", Address: "192.0.2.1"}, Action: "com.atproto.admin.deleteAccount", Subject: "did:web:a.example.com",
	})
	if err != nil {
		fmt.Println(err) // and it must not be done
		return
	}
	end(nil) // it is done
	list, _ := log.List(ctx, 0, 20)
	for _, e := range list {
		fmt.Println(e.Seq, e.By, e.Action, e.Subject, e.Outcome)
	}
	// Output: 1 administrator com.atproto.admin.deleteAccount did:web:a.example.com done
}
