package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/internal/testxrpc"
	"github.com/pdskit/pdskit/xrpc"
)

// upload uploads a text as a blob of an account and refers to it by a record.
func (b *bench) upload(u tokens, text string) (cid string) {
	b.t.Helper()
	c := &xrpc.Client{Host: b.url, Authorize: xrpc.Bearer(u.AccessJWT)}
	var out struct {
		Blob struct {
			Ref struct {
				Link string `json:"$link"`
			} `json:"ref"`
		} `json:"blob"`
	}
	if err := c.Upload(b.t.Context(), "com.atproto.repo.uploadBlob", "text/plain", strings.NewReader(text), &out); err != nil {
		b.t.Fatal(err)
	}
	return out.Blob.Ref.Link
}

func TestSubjectsAreTakenDown(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	blob := b.upload(alice, "some text")
	b.must("POST", "com.atproto.repo.createRecord", alice.AccessJWT, map[string]any{
		"repo": alice.DID, "collection": "com.example.note", "rkey": "one",
		"record": map[string]any{"file": map[string]any{"$type": "blob", "ref": map[string]any{"$link": blob}, "mimeType": "text/plain", "size": 9}},
	}, nil)
	uri := "at://" + string(alice.DID) + "/com.example.note/one"
	type status struct {
		Subject     map[string]any
		Takedown    map[string]any
		Deactivated map[string]any
	}
	get := func(query string) (out status, a testxrpc.Reply) {
		a = b.admin("GET", "com.atproto.admin.getSubjectStatus?"+query, nil, &out)
		return out, a
	}
	update := func(subject map[string]any, more map[string]any) testxrpc.Reply {
		in := map[string]any{"subject": subject}
		for name, value := range more {
			in[name] = value
		}
		return b.admin("POST", "com.atproto.admin.updateSubjectStatus", in, nil)
	}
	down, up := map[string]any{"takedown": map[string]any{"applied": true, "ref": "case 7"}}, map[string]any{"takedown": map[string]any{"applied": false}}
	record := map[string]any{"$type": "com.atproto.repo.strongRef", "uri": uri, "cid": blob}
	file := map[string]any{"$type": "com.atproto.admin.defs#repoBlobRef", "did": string(alice.DID), "cid": blob}
	whole := map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": string(alice.DID)}
	getRecord := "com.atproto.repo.getRecord?collection=com.example.note&rkey=one&repo=" + string(alice.DID)
	getBlob := "com.atproto.sync.getBlob?cid=" + blob + "&did=" + string(alice.DID)
	for _, c := range []struct {
		subject     map[string]any
		query, seen string
	}{
		{record, "uri=" + url.QueryEscape(uri), getRecord},
		{file, "did=" + string(alice.DID) + "&blob=" + blob, getBlob},
		{whole, "did=" + string(alice.DID), getRecord},
	} {
		for _, change := range []map[string]any{down, up} {
			applied := change["takedown"].(map[string]any)["applied"].(bool)
			if a := update(c.subject, change); a.Status != http.StatusOK {
				t.Fatalf("%v: %d %s", c.subject, a.Status, a.Body)
			}
			got, a := get(c.query)
			if a.Status != 200 || got.Takedown["applied"] != applied || applied && got.Takedown["ref"] != "case 7" {
				t.Errorf("%s: %d %s", c.query, a.Status, a.Body)
			}
			if a := b.send("GET", c.seen, "", "", nil, nil); (a.Status == 200) == applied {
				t.Errorf("%v, %v: %d %s", c.subject, applied, a.Status, a.Body)
			}
		}
	}
	// A moderator who gives no reference gets one.
	if a := update(file, map[string]any{"takedown": map[string]any{"applied": true}}); a.Status != 200 {
		t.Error(a.Body)
	}
	if got, _ := get("did=" + string(alice.DID) + "&blob=" + blob); got.Takedown["ref"] != "2026-01-15T12:00:00Z" {
		t.Errorf("%v", got)
	}
	// The moderator puts accounts to sleep, and says once more how they are.
	_, seq := b.events(alice.DID, 0)
	for _, applied := range []bool{true, false} {
		if a := update(whole, map[string]any{"deactivated": map[string]any{"applied": applied}}); a.Status != 200 {
			t.Error(a.Body)
		}
		if got, _ := get("did=" + string(alice.DID)); got.Deactivated["applied"] != applied {
			t.Errorf("%v", got)
		}
	}
	if a := update(whole, nil); a.Status != 200 {
		t.Error(a.Body)
	}
	if kinds, _ := b.events(alice.DID, seq); !slices.Equal(kinds, []string{"#account", "#account", "#identity", "#sync", "#account"}) {
		t.Errorf("%v", kinds)
	}
	nobody := "did:web:nobody.example.com"
	other := "bafkreiciqbhlghztjqn2picusww5pxwwp7m7srqz2b7vk32z4vrk2lpzv4"
	for query, name := range map[string]string{
		"": "InvalidRequest", "blob=" + blob: "InvalidRequest", "did=" + nobody: "NotFound", "did=" + nobody + "&blob=" + blob: "NotFound",
		"did=" + string(alice.DID) + "&blob=" + other: "NotFound",
		"uri=" + url.QueryEscape(uri+"2"):             "NotFound", "uri=" + url.QueryEscape("at://alice.test/com.example.note/one"): "InvalidRequest",
		"uri=" + url.QueryEscape("at://"+string(alice.DID)): "InvalidRequest",
	} {
		if _, a := get(query); a.Status != 400 || a.Name != name {
			t.Errorf("%s: %d %s", query, a.Status, a.Body)
		}
	}
	both := map[string]any{"takedown": map[string]any{"applied": true}, "deactivated": map[string]any{"applied": false}}
	for what, c := range map[string]struct {
		subject, more map[string]any
		name          string
	}{
		"nobody":             {map[string]any{"$type": whole["$type"], "did": nobody}, down, "NotFound"},
		"an unknown record":  {map[string]any{"$type": record["$type"], "uri": uri + "2", "cid": blob}, down, "NotFound"},
		"an unknown blob":    {map[string]any{"$type": file["$type"], "did": string(alice.DID), "cid": other}, down, "NotFound"},
		"an unknown type":    {map[string]any{"$type": "com.example.thing"}, down, "InvalidRequest"},
		"a sleeping record":  {record, map[string]any{"deactivated": map[string]any{"applied": true}}, "InvalidRequest"},
		"down and awake":     {whole, both, "InvalidRequest"},
		"a record of a name": {map[string]any{"$type": record["$type"], "uri": "at://alice.test/com.example.note/one", "cid": blob}, down, "InvalidRequest"},
	} {
		if a := update(c.subject, c.more); a.Status != 400 || a.Name != c.name {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	for _, token := range []string{"", alice.AccessJWT} {
		if a := b.send("POST", "com.atproto.admin.updateSubjectStatus", "Bearer "+token, "", map[string]any{"subject": whole}, nil); a.Status != 401 && a.Status != 400 {
			t.Errorf("by somebody else: %d %s", a.Status, a.Body)
		}
	}
}

func TestAdministratorChangesAccounts(t *testing.T) {
	b := newBench(t, nil)
	alice, bob := b.register("alice"), b.register("bob")
	nobody := "did:web:nobody.example.com"
	type info struct {
		DID, Handle, Email string
	}
	var one info
	if a := b.admin("GET", "com.atproto.admin.getAccountInfo?did="+string(alice.DID), nil, &one); a.Status != 200 {
		t.Error(a.Body)
	}
	if want := (info{string(alice.DID), "alice.test", "alice@example.com"}); one != want {
		t.Errorf("%+v", one)
	}
	if a := b.admin("GET", "com.atproto.admin.getAccountInfo?did="+nobody, nil, nil); a.Name != "NotFound" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	var several struct{ Infos []info }
	query := url.Values{"dids": {string(alice.DID), nobody, string(bob.DID), string(alice.DID)}}
	if a := b.admin("GET", "com.atproto.admin.getAccountInfos?"+query.Encode(), nil, &several); a.Status != 200 || len(several.Infos) != 2 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	for _, c := range []struct {
		method string
		in     map[string]any
		status int
	}{
		{"updateAccountEmail", map[string]any{"account": alice.DID, "email": "new@example.com"}, 200},
		{"updateAccountEmail", map[string]any{"account": "bob.test", "email": "bob2@example.com"}, 200},
		{"updateAccountEmail", map[string]any{"account": alice.DID, "email": "bob2@example.com"}, 400},
		{"updateAccountEmail", map[string]any{"account": alice.DID, "email": "x"}, 400},
		{"updateAccountEmail", map[string]any{"account": nobody, "email": "x@example.com"}, 400},
		{"updateAccountPassword", map[string]any{"did": alice.DID, "password": "another"}, 200},
		{"updateAccountPassword", map[string]any{"did": alice.DID, "password": ""}, 400},
		{"updateAccountPassword", map[string]any{"did": alice.DID, "password": strings.Repeat("x", 257)}, 400},
		{"updateAccountPassword", map[string]any{"did": nobody, "password": "another"}, 400},
		{"sendEmail", map[string]any{"recipientDid": alice.DID, "senderDid": bob.DID, "content": "Hello"}, 200},
		{"sendEmail", map[string]any{"recipientDid": nobody, "senderDid": bob.DID, "content": "Hello"}, 400},
		{"deleteAccount", map[string]any{"did": bob.DID}, 200},
		{"deleteAccount", map[string]any{"did": bob.DID}, 200},
	} {
		if a := b.admin("POST", "com.atproto.admin."+c.method, c.in, nil); a.Status != c.status {
			t.Errorf("%s %v: %d %s", c.method, c.in, a.Status, a.Body)
		}
		if a := b.send("POST", "com.atproto.admin."+c.method, "", "", c.in, nil); a.Status != 401 {
			t.Errorf("%s by nobody: %d %s", c.method, a.Status, a.Body)
		}
	}
	want := Mail{Kind: Plain, To: "new@example.com", DID: alice.DID, Handle: "alice.test", Subject: "Message via your PDS", Text: "Hello"}
	if diff := cmp.Diff(want, b.mail.last()); diff != "" {
		t.Error(diff)
	}
	if _, a := b.login("new@example.com", "another"); a.Status != 200 {
		t.Error(a.Body)
	}
	b.fails(400, "ExpiredToken", "GET", "com.atproto.server.getSession", alice.AccessJWT, nil)
	b.fails(403, "AccountNotFound", "GET", "com.atproto.server.getSession", bob.AccessJWT, nil)
}
