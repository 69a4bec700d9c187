package atproto_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// TestRecordsAreDecodedOnce: the value that is validated is the one that indexes see, not another one
// that is equal. What is stored is the encoding of that value, also on a server that does not
// validate the request.
func TestRecordsAreDecodedOnce(t *testing.T) {
	for name, catalog := range map[string]*lexicon.Catalog{"validated requests": schemas, "others": nil} {
		t.Run(name, func(t *testing.T) {
			key, err := crypto.GenerateKey(crypto.K256)
			if err != nil {
				t.Fatal(err)
			}
			var validated, indexed []map[string]any
			keep := func(list *[]map[string]any, v any) {
				m, ok := v.(map[string]any)
				if !ok {
					t.Fatalf("a record is %T", v)
				}
				*list = append(*list, m)
			}
			index := repo.Index{Name: "all", Keys: func(_ syntax.NSID, _ syntax.RecordKey, record *data.Encoded) []string {
				v, err := record.Value()
				if err != nil {
					t.Error(err)
				}
				keep(&indexed, v)
				if want, err := data.Encode(v); err != nil || !bytes.Equal(want, record.CBOR()) {
					t.Errorf("%x is not the encoding of %v", record.CBOR(), v)
				}
				return nil
			}}
			host := repo.NewHost(repo.Config{
				Store: memory.New(memory.Config{}), TempDir: t.TempDir(), Indexes: []repo.Index{index},
				Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
			})
			if _, err := host.Create(t.Context(), alice, repo.Batch{}); err != nil {
				t.Fatal(err)
			}
			srv := &xrpc.Server{Catalog: catalog}
			(&atproto.Service{
				Host: host, Accounts: accounts{alice: {DID: alice, Handle: "alice.test"}}, Schemas: schemas,
				Auth: atproto.Auth{User: func(*xrpc.Request) (auth.Principal, error) {
					return auth.Principal{Role: auth.User, DID: alice, Permissions: auth.Everything()}, nil
				}},
				Unknown: func(_ context.Context, _ syntax.NSID, _ syntax.RecordKey, record any) error {
					keep(&validated, record)
					return nil
				},
			}).Mount(srv)
			write := func(kind, rkey string, value map[string]any) map[string]any {
				return obj("$type", "com.atproto.repo.applyWrites#"+kind, "collection", note, "rkey", rkey, "value", value)
			}
			for _, c := range []struct {
				method  string
				in      map[string]any
				records int
			}{
				{"createRecord", obj("repo", alice, "collection", note, "rkey", "a", "record", obj("$type", note, "text", "x", "n", 1)), 1},
				{"createRecord", obj("repo", alice, "collection", note, "rkey", "b", "record", obj("text", "without a type")), 1},
				{"putRecord", obj("repo", alice, "collection", note, "rkey", "c", "record", obj("$type", note, "list", []any{1, obj("x", "y")})), 1},
				{"applyWrites", obj("repo", alice, "writes", []any{
					write("create", "d", obj("$type", note, "text", "d")), write("delete", "a", nil), write("update", "b", obj("text", "e")),
				}), 2},
			} {
				validated, indexed = nil, nil
				if c.method == "applyWrites" {
					for _, w := range c.in["writes"].([]any) {
						if m := w.(map[string]any); m["value"].(map[string]any) == nil {
							delete(m, "value")
						}
					}
				}
				body, err := json.Marshal(c.in)
				if err != nil {
					t.Fatal(err)
				}
				r := httptest.NewRequest("POST", "/xrpc/com.atproto.repo."+c.method, bytes.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				rec := httptest.NewRecorder()
				if srv.ServeHTTP(rec, r); rec.Code != 200 {
					t.Fatal(rec.Body)
				}
				if len(validated) != c.records {
					t.Fatalf("%s: %d records were validated", c.method, len(validated))
				}
				for _, want := range validated {
					found := false
					for _, got := range indexed { // among those that were there before
						found = found || reflect.ValueOf(want).Pointer() == reflect.ValueOf(got).Pointer()
					}
					if len(indexed) > 0 && !found {
						t.Errorf("%s: no index has seen the value %v that was validated", c.method, want)
					}
				}
				if c.method != "createRecord" && len(indexed) == 0 {
					t.Errorf("%s: no index was asked", c.method)
				}
			}
			for rkey, want := range map[syntax.RecordKey]string{
				"b": `{"text":"e","$type":"` + note + `"}`, "c": `{"list":[1,{"x":"y"}],"$type":"` + note + `"}`, "d": `{"text":"d","$type":"` + note + `"}`,
			} {
				rec, err := host.Record(t.Context(), alice, note, rkey)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := data.AppendJSON(nil, rec.Data); err != nil || string(got) != want {
					t.Errorf("%s is %s, %v", rkey, got, err)
				}
			}
		})
	}
}
