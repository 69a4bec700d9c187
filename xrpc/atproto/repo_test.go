package atproto_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/repo"
)

const missing = "bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi" // the CID of nothing here

// hello is a valid post.
func hello(change ...any) map[string]any {
	m := obj("$type", post, "text", "hello", "createdAt", "2026-01-02T03:04:05.678Z")
	for i := 0; i < len(change); i += 2 {
		m[change[i].(string)] = change[i+1]
	}
	return m
}

func TestCreateRecord(t *testing.T) {
	w := newWorld(t)
	create := func(as string, in ...any) answer {
		return w.call(as, "com.atproto.repo.createRecord", nil, obj(in...))
	}
	out := into[written](t, create(alice, "repo", "alice.test", "collection", post, "record", hello()).want(t, 200, ""))
	if out.ValidationStatus != "valid" || out.Commit == nil || !strings.HasPrefix(out.URI, "at://"+alice+"/"+post+"/") {
		t.Errorf("%+v", out)
	}
	out = into[written](t, create(alice, "repo", alice, "collection", note, "rkey", "one", "record", obj("text", "x"), "swapCommit", out.Commit.CID).want(t, 200, ""))
	if out.ValidationStatus != "unknown" || out.URI != "at://"+alice+"/"+note+"/one" {
		t.Errorf("%+v", out)
	}
	out = into[written](t, create(alice, "repo", alice, "collection", post, "record", obj("anything", "goes"), "validate", false).want(t, 200, ""))
	if out.ValidationStatus != "" {
		t.Errorf("%+v", out)
	}
	blob := w.upload(alice, "image/png", []byte("\x89PNG\r\n\x1a\n picture"))
	other := func(change ...any) map[string]any {
		m := obj("$type", "blob", "ref", blob["ref"], "mimeType", blob["mimeType"], "size", blob["size"])
		m[change[0].(string)] = change[1]
		return m
	}
	before := w.head(alice)
	for name, tt := range map[string]struct {
		as     string
		in     []any
		status int
		name   string
		says   string
	}{
		"nobody":                        {"", []any{"repo", alice, "collection", note, "record", obj()}, 401, "AuthMissing", ""},
		"another's repository":          {bob, []any{"repo", alice, "collection", note, "record", obj()}, 401, "AuthenticationRequired", ""},
		"an unknown repository":         {alice, []any{"repo", nobody, "collection", note, "record", obj()}, 403, "AccountNotFound", ""},
		"a deactivated account":         {dora, []any{"repo", dora, "collection", note, "record", obj()}, 401, "AccountDeactivated", ""},
		"one that was taken down":       {tom, []any{"repo", tom, "collection", note, "record", obj()}, 401, "AccountTakedown", ""},
		"a suspended one":               {sue, []any{"repo", sue, "collection", note, "record", obj()}, 401, "AccountTakedown", ""},
		"a record that exists":          {alice, []any{"repo", alice, "collection", note, "rkey", "one", "record", obj()}, 400, "InvalidRequest", "exists"},
		"another commit":                {alice, []any{"repo", alice, "collection", note, "record", obj(), "swapCommit", missing}, 400, "InvalidSwap", "Commit was at"},
		"swapCommit that is no CID":     {alice, []any{"repo", alice, "collection", note, "record", obj(), "swapCommit", "x"}, 400, "InvalidRequest", ""},
		"not as the schema says":        {alice, []any{"repo", alice, "collection", post, "record", hello("text", 1)}, 400, "InvalidRequest", "text"},
		"a text that is too long":       {alice, []any{"repo", alice, "collection", post, "record", hello("text", strings.Repeat("x", 3001))}, 400, "InvalidRequest", "text"},
		"a key that the schema forbids": {alice, []any{"repo", alice, "collection", post, "rkey", "self", "record", hello()}, 400, "InvalidRequest", ""},
		"validate without a schema":     {alice, []any{"repo", alice, "collection", note, "record", obj(), "validate", true}, 400, "InvalidRequest", "Unknown lexicon type: " + note},
		"another $type":                 {alice, []any{"repo", alice, "collection", note, "record", obj("$type", post)}, 400, "InvalidRequest", "$type"},
		"another $type, not validated":  {alice, []any{"repo", alice, "collection", note, "record", obj("$type", post), "validate", false}, 400, "InvalidRequest", "$type"},
		"a float":                       {alice, []any{"repo", alice, "collection", note, "record", obj("n", 1.5)}, 400, "InvalidRequest", ""},
		"no object":                     {alice, []any{"repo", alice, "collection", note, "record", "text"}, 400, "InvalidRequest", ""},
		"no collection":                 {alice, []any{"repo", alice, "collection", "x", "record", obj()}, 400, "InvalidRequest", ""},
		"no record key":                 {alice, []any{"repo", alice, "collection", note, "rkey", "..", "record", obj()}, 400, "InvalidRequest", ""},
		"a blob that is not here":       {alice, []any{"repo", alice, "collection", note, "record", obj("b", other("ref", obj("$link", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")))}, 400, "BlobNotFound", "Could not find blob"},
		"another's blob":                {bob, []any{"repo", bob, "collection", note, "record", obj("b", blob)}, 400, "BlobNotFound", ""},
		"a blob of another type":        {alice, []any{"repo", alice, "collection", note, "record", obj("b", other("mimeType", "text/html"))}, 400, "InvalidMimeType", ""},
		"a blob of another size":        {alice, []any{"repo", alice, "collection", note, "record", obj("b", other("size", 1))}, 400, "InvalidSize", ""},
		"a blob of the legacy form":     {alice, []any{"repo", alice, "collection", note, "record", obj("b", obj("cid", refOf(blob), "mimeType", "image/png"))}, 400, "InvalidRequest", "Legacy"},
		"too large":                     {alice, []any{"repo", alice, "collection", note, "record", obj("t", strings.Repeat("x", 1_000_001))}, 413, "PayloadTooLarge", ""},
		"a failure of the host":         {alice, []any{"repo", "broken.test", "collection", note, "record", obj()}, 500, "InternalServerError", ""},
	} {
		t.Run(name, func(t *testing.T) { create(tt.as, tt.in...).want(t, tt.status, tt.name).says(t, tt.says) })
	}
	if w.head(alice) != before {
		t.Error("a refused request changed the repository")
	}
	w.scopes = new(string)
	create(alice, "repo", alice, "collection", note, "record", obj()).want(t, 403, "ScopeMissingError").says(t, "repo:"+note+"?action=create")
}

// head is the head commit of a repository, as the service tells it.
func (w *world) head(did string) string {
	w.t.Helper()
	return into[struct{ CID string }](w.t, w.call(did, "com.atproto.sync.getLatestCommit", q("did", did), nil).want(w.t, 200, "")).CID
}

// records lists the record keys of a collection of alice's.
func (w *world) records(collection string) (rkeys []string) {
	w.t.Helper()
	list := into[struct{ Records []struct{ URI string } }](w.t, w.call("", "com.atproto.repo.listRecords", q("repo", alice, "collection", collection), nil).want(w.t, 200, ""))
	for _, rec := range list.Records {
		rkeys = append(rkeys, rec.URI[strings.LastIndex(rec.URI, "/")+1:])
	}
	return rkeys
}

// Where the host has a unique index, a second record of a subject takes the place of the first,
// whatever method wrote either.
func TestOneRecordPerSubject(t *testing.T) {
	const follows = "app.bsky.graph.follow"
	record := func(subject string) map[string]any {
		return obj("subject", subject, "createdAt", "2026-01-02T03:04:05Z")
	}
	ways := map[string]func(w *world, rkey, subject string){
		"createRecord": func(w *world, rkey, subject string) {
			w.call(alice, "com.atproto.repo.createRecord", nil, obj("repo", alice, "collection", follows, "rkey", rkey, "record", record(subject))).want(t, 200, "")
		},
		"putRecord": func(w *world, rkey, subject string) {
			w.call(alice, "com.atproto.repo.putRecord", nil, obj("repo", alice, "collection", follows, "rkey", rkey, "record", record(subject))).want(t, 200, "")
		},
		"applyWrites": func(w *world, rkey, subject string) {
			w.call(alice, "com.atproto.repo.applyWrites", nil, obj("repo", alice, "writes", []any{
				obj("$type", "com.atproto.repo.applyWrites#create", "collection", follows, "rkey", rkey, "value", record(subject))})).want(t, 200, "")
		},
		"importRepo": func(w *world, rkey, subject string) {
			other := newWorld(t)
			other.key, other.svc.ImportKeys = w.key, nil
			other.call(alice, "com.atproto.repo.createRecord", nil, obj("repo", alice, "collection", follows, "rkey", rkey, "record", record(subject))).want(t, 200, "")
			file := other.call("", "com.atproto.sync.getRepo", q("did", alice), nil).want(t, 200, "").body
			w.svc.ImportKeys, w.svc.UnverifiedImports = nil, true
			w.send(alice, "POST", "com.atproto.repo.importRepo", nil, "application/vnd.ipld.car", file).want(t, 200, "")
		},
	}
	first, second := "3jzfcijpj2z2a", "3jzfcijpj2z2b"
	for one, writeFirst := range ways {
		for two, writeSecond := range ways {
			if two == "importRepo" { // takes the place of all there is
				continue
			}
			t.Run(one+", then "+two, func(t *testing.T) {
				w := newWorld(t)
				w.svc.ImportKeys, w.svc.UnverifiedImports = nil, true
				writeFirst(w, first, bob)
				writeSecond(w, second, bob)
				if got := w.records(follows); !slices.Equal(got, []string{second}) {
					t.Errorf("%v", got)
				}
				writeSecond(w, "3jzfcijpj2z2c", dora)
				if got := w.records(follows); len(got) != 2 {
					t.Errorf("%v", got)
				}
				w.call(alice, "com.atproto.repo.createRecord", nil, obj("repo", alice, "collection", follows, "record", record(bob), "validate", false)).want(t, 200, "")
				if got := w.records(follows); len(got) != 3 { // asked not to look
					t.Errorf("%v", got)
				}
				w.call(alice, "com.atproto.repo.createRecord", nil, obj("repo", alice, "collection", follows, "record", record(bob))).want(t, 200, "")
				if got := w.records(follows); len(got) != 2 {
					t.Errorf("%v", got)
				}
			})
		}
	}
	// A host without such an index keeps them all.
	w := newWorld(t)
	w.svc.Host = repo.NewHost(repo.Config{Store: w.host.Store(), Signer: w.svc.Host.Signer})
	ways["createRecord"](w, first, bob)
	ways["createRecord"](w, second, bob)
	if got := w.records(follows); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func TestPutRecord(t *testing.T) {
	w := newWorld(t)
	put := func(in ...any) answer {
		return w.call(alice, "com.atproto.repo.putRecord", nil, obj(append([]any{"repo", alice, "collection", note, "rkey", "one"}, in...)...))
	}
	first := into[written](t, put("record", obj("n", 1), "swapRecord", nil).want(t, 200, ""))
	second := into[written](t, put("record", obj("n", 2), "swapRecord", first.CID, "swapCommit", first.Commit.CID).want(t, 200, ""))
	if second.Commit == nil || second.CID == first.CID {
		t.Errorf("%+v", second)
	}
	// The same again is no commit.
	if same := into[written](t, put("record", obj("n", 2)).want(t, 200, "")); same.Commit != nil || same.CID != second.CID || w.head(alice) != second.Commit.CID {
		t.Errorf("%+v", same)
	}
	put("record", obj("n", 3), "swapRecord", first.CID).want(t, 400, "InvalidSwap").says(t, "Record was at "+second.CID)
	put("record", obj("n", 3), "swapRecord", nil).want(t, 400, "InvalidSwap")
	put("record", obj("n", 3), "swapCommit", first.Commit.CID).want(t, 400, "InvalidSwap").says(t, "Commit was at "+second.Commit.CID)
	put("record", obj("n", 3), "swapRecord", "x").want(t, 400, "InvalidRequest")
	put("record", obj("n", 3), "swapRecord", 5).want(t, 400, "InvalidRequest")
	put("record", obj("n", 1.5)).want(t, 400, "InvalidRequest")
	put("record", obj("$type", "com.example.other")).want(t, 400, "InvalidRequest")
	put("record", obj(), "rkey", "a/b").want(t, 400, "InvalidRequest")
	put("record", obj(), "repo", bob).want(t, 401, "AuthenticationRequired")
	if w.head(alice) != second.Commit.CID {
		t.Error("a refused request changed the repository")
	}
	// A client that may not do both may do neither: nobody knows which it will be.
	for _, scope := range []string{"repo:*?action=create", "repo:*?action=update"} {
		w.scopes = &scope
		put("record", obj()).want(t, 403, "ScopeMissingError")
	}
}

func TestDeleteRecord(t *testing.T) {
	w := newWorld(t)
	del := func(rkey string, in ...any) answer {
		return w.call(alice, "com.atproto.repo.deleteRecord", nil, obj(append([]any{"repo", alice, "collection", note, "rkey", rkey}, in...)...))
	}
	one := w.note(alice, "one", "x")
	w.note(alice, "two", "x")
	del("one", "swapRecord", missing).want(t, 400, "InvalidSwap")
	del("one", "swapCommit", one.Commit.CID).want(t, 400, "InvalidSwap")
	del("one", "swapRecord", "x").want(t, 400, "InvalidRequest")
	if out := into[written](t, del("one", "swapRecord", one.CID, "swapCommit", w.head(alice)).want(t, 200, "")); out.Commit == nil || w.head(alice) != out.Commit.CID {
		t.Errorf("%+v", out)
	}
	// What is not there is deleted without a commit, whatever the swaps say.
	before := w.head(alice)
	if out := into[written](t, del("one", "swapRecord", missing).want(t, 200, "")); out.Commit != nil || w.head(alice) != before {
		t.Errorf("%+v", out)
	}
	w.scopes = new(string)
	del("two").want(t, 403, "ScopeMissingError").says(t, "repo:"+note+"?action=delete")
}

func TestApplyWrites(t *testing.T) {
	w := newWorld(t)
	write := func(kind string, in ...any) map[string]any {
		m := obj("$type", "com.atproto.repo.applyWrites#"+kind, "collection", note)
		for i := 0; i < len(in); i += 2 {
			m[in[i].(string)] = in[i+1]
		}
		return m
	}
	apply := func(in []any, writes ...any) answer {
		return w.call(alice, "com.atproto.repo.applyWrites", nil, obj(append([]any{"repo", alice, "writes", writes}, in...)...))
	}
	type result struct {
		Type string `json:"$type"`
		written
	}
	type results struct {
		Commit  *struct{ CID, Rev string }
		Results []result
	}
	w.note(alice, "old", "x")
	w.note(alice, "gone", "x")
	out := into[results](t, apply(nil, write("create", "value", obj("n", 1)), write("create", "rkey", "new", "value", obj()),
		write("update", "rkey", "old", "value", obj("n", 2)), write("delete", "rkey", "gone"), write("create", "collection", post, "value", hello())).want(t, 200, ""))
	var kinds []string
	for _, r := range out.Results {
		kinds = append(kinds, fmt.Sprintf("%s %v %v %s", strings.TrimPrefix(r.Type, "com.atproto.repo.applyWrites#"), r.URI != "", r.CID != "", r.ValidationStatus))
	}
	if diff := cmp.Diff([]string{"createResult true true unknown", "createResult true true unknown", "updateResult true true unknown", "deleteResult false false ", "createResult true true valid"}, kinds); diff != "" {
		t.Error(diff)
	}
	if out.Commit == nil || w.head(alice) != out.Commit.CID {
		t.Errorf("%+v", out.Commit)
	}
	many := make([]any, 201)
	for i := range many {
		many[i] = write("create", "value", obj())
	}
	before := w.head(alice)
	for name, tt := range map[string]struct {
		in     []any
		writes []any
		want   string
		says   string
	}{
		"another commit":             {[]any{"swapCommit", missing}, []any{write("create", "value", obj())}, "InvalidSwap", "Commit was at"},
		"too many":                   {nil, many, "InvalidRequest", "Too many writes. Max: 200"},
		"one that exists":            {nil, []any{write("create", "value", obj()), write("create", "rkey", "new", "value", obj())}, "InvalidRequest", ""},
		"an update of nothing":       {nil, []any{write("update", "rkey", "gone", "value", obj())}, "InvalidRequest", ""},
		"a delete of nothing":        {nil, []any{write("create", "value", obj()), write("delete", "rkey", "gone")}, "InvalidRequest", ""},
		"an unknown kind":            {nil, []any{write("move", "rkey", "new")}, "InvalidRequest", ""},
		"one not as its schema says": {nil, []any{write("create", "value", obj()), write("create", "collection", post, "value", hello("createdAt", "today"))}, "InvalidRequest", "createdAt"},
		"validate without a schema":  {[]any{"validate", true}, []any{write("create", "value", obj())}, "InvalidRequest", "Unknown lexicon type"},
	} {
		t.Run(name, func(t *testing.T) { apply(tt.in, tt.writes...).want(t, 400, tt.want).says(t, tt.says) })
	}
	if w.head(alice) != before {
		t.Error("a refused request changed the repository")
	}
	scope := "repo:*?action=create&action=update"
	w.scopes = &scope
	apply(nil, write("create", "value", obj()), write("delete", "rkey", "new")).want(t, 403, "ScopeMissingError")
	if w.head(alice) != before {
		t.Error("part of a forbidden batch was written")
	}
}

func TestUploadBlob(t *testing.T) {
	w := newWorld(t)
	up := func(as, contentType string, b []byte) answer {
		return w.send(as, "POST", "com.atproto.repo.uploadBlob", nil, contentType, b)
	}
	png := []byte("\x89PNG\r\n\x1a\n picture")
	for name, tt := range map[string]struct {
		declared string
		bytes    []byte
		want     string
	}{
		"as declared":               {"image/png", png, "image/png"},
		"declared wrongly":          {"text/plain", png, "image/png"},
		"look for yourself":         {"*/*", png, "image/png"},
		"nobody knows":              {"*/*", []byte{1, 2, 3}, "application/octet-stream"},
		"text is what is declared":  {"text/markdown; charset=utf-8", []byte("# hello"), "text/markdown"},
		"markup does not get a say": {"image/svg+xml", []byte("<html><script>"), "image/svg+xml"},
		"nothing":                   {"image/gif", nil, "image/gif"},
	} {
		t.Run(name, func(t *testing.T) {
			blob := into[struct{ Blob map[string]any }](t, up(alice, tt.declared, tt.bytes).want(t, 200, "")).Blob
			if blob["mimeType"] != tt.want || blob["size"] != float64(len(tt.bytes)) || blob["$type"] != "blob" {
				t.Errorf("%v", blob)
			}
		})
	}
	up("", "image/png", png).want(t, 401, "AuthMissing")
	up(dora, "image/png", png).want(t, 200, "") // as it moves here
	up(tom, "image/png", png).want(t, 401, "AccountTakedown")
	up(nobody, "image/png", png).want(t, 403, "AccountNotFound")
	up(alice, "", png).want(t, 400, "InvalidRequest").says(t, "Content-Type")
	up(alice, "what?ever;;", png).want(t, 400, "InvalidRequest")
	up(alice, "image/png", make([]byte, 10_001)).want(t, 413, "PayloadTooLarge")
	up(alice, "image/png", make([]byte, 10_000)).want(t, 200, "")
	w.quota = 10_500
	up(alice, "image/png", make([]byte, 9_999)).want(t, 413, "BlobQuotaExceeded").says(t, "no more room")
	up(alice, "image/png", make([]byte, 10_000)).want(t, 200, "") // which is there
	w.quota = 0
	w.scopes = new(string)
	up(alice, "image/png", png).want(t, 403, "ScopeMissingError").says(t, "blob:image/png")
	w.scopes = nil
	w.hiddenBlob, _ = cid.Decode(refOf(w.upload(alice, "image/png", png)))
	w.accounts[alice].Moderated = true
	up(alice, "image/png", png).want(t, 400, "InvalidRequest").says(t, "takendown")
}

func TestGetRecord(t *testing.T) {
	w := newWorld(t)
	one := w.note(alice, "one", "x")
	w.note(alice, "hidden", "x")
	get := func(in ...string) answer {
		return w.call("", "com.atproto.repo.getRecord", q(append([]string{"collection", note}, in...)...), nil)
	}
	got := into[struct {
		URI, CID string
		Value    map[string]any
	}](t, get("repo", "alice.test", "rkey", "one").want(t, 200, ""))
	if got.URI != one.URI || got.CID != one.CID || got.Value["text"] != "x" || got.Value["$type"] != note {
		t.Errorf("%+v", got)
	}
	get("repo", alice, "rkey", "one", "cid", one.CID).want(t, 200, "")
	get("repo", alice, "rkey", "one", "cid", missing).want(t, 400, "RecordNotFound")
	get("repo", alice, "rkey", "none").want(t, 400, "RecordNotFound").says(t, "Could not locate record: at://"+alice+"/"+note+"/none")
	get("repo", nobody, "rkey", "one").want(t, 400, "InvalidRequest").says(t, "Could not locate record")
	get("repo", dora, "rkey", "one").want(t, 400, "InvalidRequest")
	get("repo", tom, "rkey", "one").want(t, 400, "InvalidRequest")
	get("repo", "broken.test", "rkey", "one").want(t, 500, "InternalServerError")
	get("repo", alice).want(t, 400, "InvalidRequest")
	get("repo", "not an identifier", "rkey", "one").want(t, 400, "InvalidRequest")
	get("repo", alice, "rkey", "one", "cid", "x").want(t, 400, "InvalidRequest")
	get("repo", alice, "rkey", "hidden").want(t, 200, "")
	w.accounts[alice].Moderated = true
	get("repo", alice, "rkey", "hidden").want(t, 400, "RecordNotFound")
	get("repo", alice, "rkey", "one").want(t, 200, "")
}

func TestListRecords(t *testing.T) {
	w := newWorld(t)
	for _, rkey := range []string{"a", "b", "c", "d", "hidden"} {
		w.note(alice, rkey, rkey)
	}
	list := func(in ...string) (keys, cursor string) {
		t.Helper()
		out := into[struct {
			Cursor  string
			Records []struct{ URI string }
		}](t, w.call("", "com.atproto.repo.listRecords", q(append([]string{"repo", alice, "collection", note}, in...)...), nil).want(t, 200, ""))
		for _, r := range out.Records {
			keys += r.URI[strings.LastIndex(r.URI, "/")+1:] + " "
		}
		return keys, out.Cursor
	}
	for _, tt := range []struct {
		in           []string
		keys, cursor string
	}{
		{nil, "hidden d c b a ", "a"}, // the newest first, and a cursor as long as there was something
		{[]string{"reverse", "true"}, "a b c d hidden ", "hidden"},
		{[]string{"limit", "2"}, "hidden d ", "d"},
		{[]string{"limit", "2", "cursor", "d"}, "c b ", "b"},
		{[]string{"limit", "2", "cursor", "b", "reverse", "true"}, "c d ", "d"},
		{[]string{"cursor", "a"}, "", ""},
	} {
		if keys, cursor := list(tt.in...); keys != tt.keys || cursor != tt.cursor {
			t.Errorf("%v: %q, cursor %q", tt.in, keys, cursor)
		}
	}
	w.accounts[alice].Moderated = true
	if keys, _ := list(); keys != "d c b a " {
		t.Error(keys)
	}
	if keys, cursor := list("limit", "1"); keys != "" || cursor != "hidden" { // the page goes on behind it
		t.Error(keys, cursor)
	}
	fails := func(repo string, in ...string) answer {
		return w.call("", "com.atproto.repo.listRecords", q(append([]string{"repo", repo, "collection", note}, in...)...), nil)
	}
	fails(nobody).want(t, 400, "InvalidRequest").says(t, "Could not find repo: "+nobody)
	fails(dora).want(t, 400, "InvalidRequest")
	fails(alice, "limit", "0").want(t, 400, "InvalidRequest")
	fails(alice, "limit", "101").want(t, 400, "InvalidRequest")
	fails(alice, "limit", "x").want(t, 400, "InvalidRequest")
	w.call("", "com.atproto.repo.listRecords", q("repo", alice), nil).want(t, 400, "InvalidRequest")
}

func TestDescribeRepo(t *testing.T) {
	w := newWorld(t)
	w.note(alice, "a", "a")
	describe := func(as, repo string) answer {
		return w.call(as, "com.atproto.repo.describeRepo", q("repo", repo), nil)
	}
	type described struct {
		Handle, DID     string
		Collections     []string
		HandleIsCorrect bool
	}
	if got := into[described](t, describe("", "alice.test").want(t, 200, "")); !cmp.Equal(got, described{"alice.test", alice, []string{note}, true}) {
		t.Errorf("%+v", got)
	}
	describe("", nobody).want(t, 400, "RepoNotFound")
	describe("", dora).want(t, 400, "RepoDeactivated")
	describe("", sue).want(t, 400, "RepoSuspended")
	describe("", tom).want(t, 400, "RepoTakendown")
	describe("", bob).want(t, 400, "InvalidRequest").says(t, "Could not resolve DID")
}

func TestImportRepo(t *testing.T) {
	w := newWorld(t)
	w.note(alice, "a", "a")
	export := bytes.Clone(w.call("", "com.atproto.sync.getRepo", q("did", alice), nil).want(t, 200, "").body)
	w.note(alice, "b", "b")
	of := func(as, contentType string, b []byte) answer {
		return w.send(as, "POST", "com.atproto.repo.importRepo", nil, contentType, b)
	}
	const carType = "application/vnd.ipld.car"
	before := w.head(alice)
	of("", carType, export).want(t, 401, "AuthMissing")
	of(tom, carType, export).want(t, 401, "AccountTakedown")
	of(alice, "application/json", export).want(t, 400, "InvalidRequest")
	of(alice, carType, nil).want(t, 400, "InvalidRequest")
	of(alice, carType, []byte("no CAR")).want(t, 400, "InvalidRequest")
	of(alice, carType, export[:len(export)-1]).want(t, 400, "InvalidRequest")
	of(bob, carType, export).want(t, 400, "InvalidRequest") // another's
	of(alice, carType, make([]byte, 100_001)).want(t, 413, "PayloadTooLarge")
	w.scopes = new(string)
	of(alice, carType, export).want(t, 403, "ScopeMissingError").says(t, "account:repo?action=manage")
	w.scopes = nil
	if w.head(alice) != before {
		t.Error("a refused request changed the repository")
	}
	of(alice, carType, export).want(t, 200, "")
	got := into[struct{ Records []struct{ URI string } }](t, w.call("", "com.atproto.repo.listRecords", q("repo", alice, "collection", note), nil))
	if len(got.Records) != 1 || w.head(alice) == before {
		t.Errorf("%+v", got)
	}
	w.svc.ImportLimit, w.srv = -1, nil // the method is left out
	of(alice, carType, export).want(t, 501, "MethodNotImplemented")
}

func TestListMissingBlobs(t *testing.T) {
	w := newWorld(t)
	blob := w.upload(alice, "image/png", []byte("\x89PNG\r\n\x1a\n picture"))
	w.call(alice, "com.atproto.repo.putRecord", nil, obj("repo", alice, "collection", note, "rkey", "a", "record", obj("b", blob))).want(t, 200, "")
	export := w.call("", "com.atproto.sync.getRepo", q("did", alice), nil).want(t, 200, "").body
	list := func(w *world, in ...string) answer {
		return w.call(alice, "com.atproto.repo.listMissingBlobs", q(in...), nil)
	}
	type blobs struct {
		Cursor string
		Blobs  []struct{ CID, RecordURI string }
	}
	if got := into[blobs](t, list(w).want(t, 200, "")); len(got.Blobs) != 0 || got.Cursor != "" {
		t.Errorf("%+v", got)
	}
	there := newWorld(t)
	there.svc.ImportKeys, there.svc.UnverifiedImports = nil, true
	there.send(alice, "POST", "com.atproto.repo.importRepo", nil, "application/vnd.ipld.car", export).want(t, 200, "")
	got := into[blobs](t, list(there).want(t, 200, ""))
	if len(got.Blobs) != 1 || got.Blobs[0].CID != refOf(blob) || got.Blobs[0].RecordURI != "at://"+alice+"/"+note+"/a" || got.Cursor != refOf(blob) {
		t.Errorf("%+v", got)
	}
	if got := into[blobs](t, list(there, "cursor", got.Cursor).want(t, 200, "")); len(got.Blobs) != 0 {
		t.Errorf("%+v", got)
	}
	list(there, "cursor", "x").want(t, 400, "InvalidRequest")
	list(there, "limit", "1001").want(t, 400, "InvalidRequest")
	there.call("", "com.atproto.repo.listMissingBlobs", nil, nil).want(t, 401, "AuthMissing")
}
