package rate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc"
)

// A table of a host's own counts; what it leaves out is not limited.
func TestTableOfAHost(t *testing.T) {
	l, c := testLimiter(Config{Table: &Table{
		Methods: map[string]Rule{"com.example.one": {By: Account, Windows: []Window{{3, time.Minute}}}},
		Writes:  []Window{{10, time.Minute}}, Costs: Costs{Create: 5, Update: 1},
	}})
	for nsid, want := range map[string]int{"com.example.one": 3, createRecord: 2, putRecord: 10} {
		c.now = c.now.Add(time.Minute)
		if got := count(t, l, func() *xrpc.Request { return request(nsid, "192.0.2.1:4", "did:plc:a") }); got != want {
			t.Errorf("%s: %d calls, want %d", nsid, got, want)
		}
	}
	for _, nsid := range []string{"com.example.other", deleteRecord, uploadBlob, "com.atproto.sync.getRepo"} {
		for range 10_000 {
			r := request(nsid, "192.0.2.1:4", "did:plc:b")
			if _, err := call(l, r); err != nil {
				t.Fatalf("%s: %v", nsid, err)
			}
		}
	}
	for range 10_000 { // passwords are limited by nothing here
		r := request("com.atproto.server.createSession", "192.0.2.1:4", "")
		done, err := l.Password(r, "did:plc:a")
		if err != nil || l.Admin(r, false) != nil {
			t.Fatal(err)
		}
		done(true)
		if done, err = l.Password(r, "did:plc:a"); err != nil {
			t.Fatal(err)
		}
		done(false)
	}
}

// A caller may change what Official returns, without effect on others, and a limiter does not care
// what becomes of its table.
func TestTablesAreApart(t *testing.T) {
	mine := Official()
	l, _ := testLimiter(Config{Table: mine})
	mine.All[0].Points = 1
	mine.Methods[uploadBlob] = Rule{}
	clear(mine.Methods)
	if Official().All[0].Points != 3000 || len(Official().Methods) == 0 {
		t.Error("the official table has changed")
	}
	if n := count(t, l, func() *xrpc.Request { return request("com.atproto.repo.getRecord", "192.0.2.1:4", "") }); n != 3000 {
		t.Errorf("%d calls", n)
	}
}

func TestWrongTablesPanic(t *testing.T) {
	w := Window{1, time.Minute}
	for want, table := range map[string]*Table{
		"Table.All has 3 windows":     {All: []Window{w, w, w}},
		"Table.Methods[a.b.c]":        {Methods: map[string]Rule{"a.b.c": {Windows: []Window{{0, time.Minute}}}}},
		"Table.Tries: a window":       {Tries: []Window{{1, 0}}},
		"their limit in Table.Writes": {Methods: map[string]Rule{createRecord: {}}},
		"negative points":             {Costs: Costs{Delete: -1}},
		"invalid nsid \"x\"":          {Methods: map[string]Rule{"x": {}}},
		"Network or Account":          {Methods: map[string]Rule{"a.b.c": {By: 2}}},
		"Table.Known":                 {Known: -1},
	} {
		func() {
			defer func() {
				if err, _ := recover().(error); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
			}()
			New(Config{Table: table})
		}()
	}
	if err := Official().Validate(); err != nil {
		t.Error(errors.Unwrap(err), err)
	}
}
