package main_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/storage"
)

// TestTakedownOfNothing: what is not there cannot be taken down, and what is there is, however its
// CID is spelled.
func TestTakedownOfNothing(t *testing.T) {
	ctx := t.Context()
	b := newSandbox(t)
	admin, alice := b.admin(), b.register("alice")
	var rec struct{ URI, CID string }
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "rkey": "one", "record": map[string]any{}}, &rec)
	blob := writeBlob(t, alice, map[string]string{})
	other := cid.MustParse(rec.CID)
	update := func(subject map[string]any, status map[string]any) error {
		in := map[string]any{"subject": subject}
		for k, v := range status {
			in[k] = v
		}
		return admin.Procedure(ctx, "com.atproto.admin.updateSubjectStatus", in, nil)
	}
	record := func(uri string) map[string]any {
		return map[string]any{"$type": "com.atproto.repo.strongRef", "uri": uri, "cid": rec.CID}
	}
	blobRef := func(did any, cid string) map[string]any {
		return map[string]any{"$type": "com.atproto.admin.defs#repoBlobRef", "did": did, "cid": cid}
	}
	nobody := "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	raw := cid.NewCidV1(cid.Raw, other.Hash())
	for what, tt := range map[string]struct {
		subject map[string]any
		name    string
	}{
		"a record that is not there":  {record(strings.Replace(rec.URI, "/one", "/two", 1)), "NotFound"},
		"another collection":          {record(strings.Replace(rec.URI, "com.example.note", "com.example.nota", 1)), "NotFound"},
		"other letters":               {record(strings.Replace(rec.URI, "com.example", "COM.Example", 1)), "NotFound"},
		"a repository not here":       {record(strings.Replace(rec.URI, string(alice.DID), nobody, 1)), "NotFound"},
		"a handle":                    {record(strings.Replace(rec.URI, string(alice.DID), "alice.test", 1)), "InvalidRequest"},
		"a query":                     {record(rec.URI + "?x=1"), "InvalidRequest"},
		"a fragment":                  {record(rec.URI + "#x"), "InvalidRequest"},
		"a slash at the end":          {record(rec.URI + "/"), "InvalidRequest"},
		"a collection":                {record(strings.TrimSuffix(rec.URI, "/one")), "InvalidRequest"},
		"a blob that is not there":    {blobRef(alice.DID, raw.String()), "NotFound"},
		"the CID of a record":         {blobRef(alice.DID, rec.CID), "NotFound"},
		"the blob of another":         {blobRef(nobody, blob), "NotFound"},
		"a CID of version 0":          {blobRef(alice.DID, cid.NewCidV0(cid.MustParse(blob).Hash()).String()), "InvalidRequest"},
		"no CID":                      {blobRef(alice.DID, "x"), "InvalidRequest"},
		"a type that nobody knows":    {map[string]any{"$type": "com.example.other", "did": alice.DID}, "InvalidRequest"},
		"an account that is not here": {map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": nobody}, "NotFound"},
	} {
		for _, status := range []map[string]any{{"takedown": map[string]any{"applied": true}}, {"takedown": map[string]any{"applied": false}}, {}} {
			if err := update(tt.subject, status); !isError(err, 400, tt.name) {
				t.Errorf("%s, %v: %v", what, status, err)
			}
		}
	}
	for _, subject := range []map[string]any{record(rec.URI), blobRef(alice.DID, blob)} {
		fails(t, update(subject, map[string]any{"deactivated": map[string]any{"applied": true}}), 400, "InvalidRequest")
	}

	c := cid.MustParse(blob)
	base32, err1 := c.StringOfBase('B')
	base58, err2 := c.StringOfBase('z')
	base16, err3 := c.StringOfBase('f')
	base36, err4 := c.StringOfBase('k')
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	spellings := []string{blob, base32, base58, base16, base36}
	getBlob := url.Values{"did": {string(alice.DID)}, "cid": {blob}}
	for i, down := range spellings {
		up := spellings[(i+1)%len(spellings)]
		if err := update(blobRef(alice.DID, down), map[string]any{"takedown": map[string]any{"applied": true, "ref": "case"}}); err != nil {
			t.Fatalf("%s: %v", down, err)
		}
		fails(t, b.anonymous().Query(ctx, "com.atproto.sync.getBlob", getBlob, nil), 400, "InvalidRequest")
		var st struct {
			Subject  struct{ CID string }
			Takedown struct{ Applied bool }
		}
		if err := admin.Query(ctx, "com.atproto.admin.getSubjectStatus", url.Values{"did": {string(alice.DID)}, "blob": {up}}, &st); err != nil || !st.Takedown.Applied || st.Subject.CID != blob {
			t.Errorf("%s: %+v %v", up, st, err)
		}
		if err := update(blobRef(alice.DID, up), map[string]any{"takedown": map[string]any{"applied": false}}); err != nil {
			t.Fatalf("%s: %v", up, err)
		}
		if res, err := b.anonymous().Get(ctx, "com.atproto.sync.getBlob", getBlob); err != nil {
			t.Errorf("%s: %v", up, err)
		} else {
			res.Body.Close()
		}
	}
	// What was taken down can be put back up after it is gone.
	if err := update(record(rec.URI), map[string]any{"takedown": map[string]any{"applied": true}}); err != nil {
		t.Fatal(err)
	}
	alice.call(t, "com.atproto.repo.deleteRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "rkey": "one"}, nil)
	if err := update(record(rec.URI), map[string]any{"takedown": map[string]any{"applied": false}}); err != nil {
		t.Error(err)
	}
	fails(t, update(record(rec.URI), map[string]any{"takedown": map[string]any{"applied": false}}), 400, "NotFound")

	// A record is the same whatever the spelling of the CID that it is asked by.
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note", "rkey": "two", "record": map[string]any{}}, &rec)
	text, err := cid.MustParse(rec.CID).StringOfBase('z')
	if err != nil {
		t.Fatal(err)
	}
	q := url.Values{"repo": {string(alice.DID)}, "collection": {"com.example.note"}, "rkey": {"two"}, "cid": {text}}
	if err := b.anonymous().Query(ctx, "com.atproto.repo.getRecord", q, nil); err != nil {
		t.Error(err)
	}
}

// TestInvitesOfNothing: codes that are not there are not disabled, and not made for accounts that
// are not there; and what is asked together is done or not done together.
func TestInvitesOfNothing(t *testing.T) {
	ctx := t.Context()
	b := newSandbox(t)
	admin, alice := b.admin(), b.register("alice")
	nobody := "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	var made struct{ Codes []struct{ Codes []string } }
	admin.call(t, "com.atproto.server.createInviteCodes", map[string]any{"codeCount": 2, "useCount": 1}, &made)
	codes := made.Codes[0].Codes
	disable := func(in map[string]any) error {
		return admin.Procedure(ctx, "com.atproto.admin.disableInviteCodes", in, nil)
	}
	disabled := func() (list []string) {
		t.Helper()
		var out struct {
			Codes []struct {
				Code     string
				Disabled bool
			}
		}
		if err := admin.Query(ctx, "com.atproto.admin.getInviteCodes", nil, &out); err != nil {
			t.Fatal(err)
		}
		for _, c := range out.Codes {
			if c.Disabled {
				list = append(list, c.Code)
			}
		}
		return list
	}
	fails(t, disable(map[string]any{"codes": []string{"nocode"}}), 400, "NotFound")
	fails(t, disable(map[string]any{"codes": []string{codes[0], "nocode"}}), 400, "NotFound")
	fails(t, disable(map[string]any{"codes": []string{codes[0], strings.ToUpper(codes[1])}}), 400, "NotFound")
	fails(t, disable(map[string]any{"codes": []string{codes[0]}, "accounts": []string{nobody}}), 400, "NotFound")
	if got := disabled(); len(got) > 0 {
		t.Errorf("disabled %v", got)
	}
	for range 2 { // again is no error
		if err := disable(map[string]any{"codes": codes[:1], "accounts": []string{string(alice.DID)}}); err != nil { // she has none
			t.Error(err)
		}
	}
	if got := disabled(); !slices.Equal(got, codes[:1]) {
		t.Errorf("disabled %v", got)
	}
	fails(t, admin.Procedure(ctx, "com.atproto.server.createInviteCode", map[string]any{"useCount": 1, "forAccount": nobody}, nil), 400, "InvalidRequest")
	fails(t, admin.Procedure(ctx, "com.atproto.server.createInviteCodes", map[string]any{"codeCount": 1, "useCount": 1, "forAccounts": []string{string(alice.DID), nobody}}, nil), 400, "InvalidRequest")
	var mine struct{ Codes []any }
	if err := alice.Query(ctx, "com.atproto.server.getAccountInviteCodes", nil, &mine); err != nil || len(mine.Codes) > 0 {
		t.Errorf("%v %v", mine, err)
	}
}

// TestCommandsAboutNothing: no command reports that it did what it could not do.
func TestCommandsAboutNothing(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, "PDS_ADMIN_PASSWORD=hunter2")
	b.register("alice")
	o := newOperator(t, dir, "PDS_ADMIN_PASSWORD=hunter2", b.port())
	o.fails(1, "nocode", "invite", "disable", "nocode")
	for _, who := range []string{"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "nobody.test", "@nobody.test"} {
		for _, args := range [][]string{
			{"account", "info"}, {"account", "takedown"}, {"account", "untakedown"}, {"account", "reset-password"}, {"account", "delete", "-yes"},
		} {
			o.fails(1, "", append(args, who)...)
		}
		o.fails(1, "", "account", "update-email", who, "new@example.com")
		o.fails(1, "", "account", "update-handle", who, "new.test")
	}
	o.fails(1, "does not exist", "invite", "create", "-for", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	o.ok(nil, "account", "takedown", "alice.test")
	o.ok(nil, "account", "untakedown", "alice.test")
}

// TestLinksHoweverWritten: a like takes the place of an earlier one, whatever method wrote either,
// also in a database of an earlier version, and where several arrive at once.
func TestLinksHoweverWritten(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	alice := b.register("alice")
	const collection = "app.bsky.feed.like"
	like := func(subject string) map[string]any {
		return map[string]any{"$type": collection, "createdAt": "2026-01-15T12:30:45Z", "subject": map[string]any{
			"uri": "at://did:web:a.b/app.bsky.feed.post/" + subject, "cid": "bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi"}}
	}
	likes := func() (list []string) {
		t.Helper()
		var out struct{ Records []struct{ URI string } }
		if err := b.anonymous().Query(t.Context(), "com.atproto.repo.listRecords", url.Values{"repo": {string(alice.DID)}, "collection": {collection}, "reverse": {"true"}}, &out); err != nil {
			t.Fatal(err)
		}
		for _, r := range out.Records {
			list = append(list, r.URI[strings.LastIndex(r.URI, "/")+1:])
		}
		return list
	}
	apply := func(writes ...any) {
		t.Helper()
		alice.call(t, "com.atproto.repo.applyWrites", map[string]any{"repo": alice.DID, "writes": writes}, nil)
	}
	createOf := func(rkey, subject string) any {
		return map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": collection, "rkey": rkey, "value": like(subject)}
	}
	apply(createOf("3jzfcijpj2z2a", "x"), createOf("3jzfcijpj2z2b", "y"))
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": collection, "rkey": "3jzfcijpj2z2c", "record": like("x")}, nil)
	if got := likes(); !slices.Equal(got, []string{"3jzfcijpj2z2b", "3jzfcijpj2z2c"}) {
		t.Errorf("%v", got)
	}
	b.interrupt()

	// As an earlier version left it: no index, and keys of which one is wrong.
	d, err := datadir.Open(t.Context(), dir, datadir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	head, err := d.Store.Repos.Head(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	change := &storage.Change{Prev: head, Head: head, KV: []storage.KVWrite{{Key: "index/"},
		{Key: "link/app.bsky.feed.like/at://did:web:a.b/app.bsky.feed.post/x", Value: []byte("3jzfcijpj2z2b")}}}
	if _, err := d.Store.Repos.Apply(t.Context(), alice.DID, change); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, dir, b.port())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rkey := fmt.Sprint("3jzfcijpj2z3", string(rune('a'+i)))
			method, in := "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": collection, "rkey": rkey, "record": like("x")}
			switch i % 3 {
			case 1:
				method = "com.atproto.repo.putRecord"
			case 2:
				method, in = "com.atproto.repo.applyWrites", map[string]any{"repo": alice.DID, "writes": []any{createOf(rkey, "x")}}
			}
			if err := alice.Procedure(t.Context(), method, in, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := likes(); len(got) != 2 || got[0] != "3jzfcijpj2z2b" {
		t.Errorf("%v", got)
	}
	apply(createOf("3jzfcijpj2z4a", "y"), createOf("3jzfcijpj2z4b", "y"), createOf("3jzfcijpj2z4c", "y"), createOf("3jzfcijpj2z4d", "y"))
	if got := likes(); len(got) != 2 || got[1] != "3jzfcijpj2z4d" {
		t.Errorf("%v", got)
	}
	// Deleted, and liked again.
	alice.call(t, "com.atproto.repo.deleteRecord", map[string]any{"repo": alice.DID, "collection": collection, "rkey": "3jzfcijpj2z4d"}, nil)
	alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": collection, "rkey": "3jzfcijpj2z5a", "record": like("y")}, nil)
	if got := likes(); len(got) != 2 || got[1] != "3jzfcijpj2z5a" {
		t.Errorf("%v", got)
	}
	b.interrupt()
	if d, err = datadir.Open(t.Context(), dir, datadir.Options{}); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	err = d.Store.Repos.View(t.Context(), alice.DID, func(r storage.Reader) error {
		for pair, err := range r.Keys(t.Context(), storage.Range{From: "link/", To: "link0"}) {
			if err != nil {
				return err
			}
			t.Errorf("key %s is still there", pair.Key)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
