package xrpc_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

type params struct {
	S     string       `json:"s,omitempty"`
	DID   syntax.DID   `json:"did"`
	I     int          `json:"i"`
	L     int64        `json:"l"`
	B     bool         `json:"b"`
	P     *bool        `json:"p"`
	N     *int         `json:"n"`
	List  []string     `json:"list"`
	DIDs  []syntax.DID `json:"dids"`
	Ints  []int        `json:"ints"`
	Other string       // has no name
	hid   string
}

// Without a schema, parameters are decoded only.
func TestParams(t *testing.T) {
	var got params
	url := serve(t, routes(&xrpc.Server{}, map[string]xrpc.Handler{
		"com.example.q": xrpc.Query(func(_ ctx, _ *xrpc.Request, p params) (name, error) {
			got = p
			return name{}, nil
		}),
	}))
	yes, zero := true, 0
	for query, want := range map[string]*params{
		"":                             {},
		"s=a%20b+c&did=did:web:x.y":    {S: "a b c", DID: "did:web:x.y"},
		"s=a&s=b":                      {S: "a"},
		"S=a&Other=b&hid=c&unknown=d":  {},
		"i=-7&l=9223372036854775807":   {I: -7, L: 1<<63 - 1},
		"b=true&p=true&n=0":            {B: true, P: &yes, N: &zero},
		"list=a&list=b&list=":          {List: []string{"a", "b", ""}},
		"dids=a&dids=b&ints=1&ints=-1": {DIDs: []syntax.DID{"a", "b"}, Ints: []int{1, -1}},
		"i=7.5":                        nil,
		"i=":                           nil,
		"i=x":                          nil,
		"l=9223372036854775808":        nil,
		"ints=1&ints=x":                nil,
		"b=1":                          nil,
		"b=":                           nil,
		"p=TRUE":                       nil,
		"s=%zz":                        nil,
		"s=a;b":                        nil,
	} {
		got = params{}
		status := answer{Status: 200, Body: `{"name":""}`}
		if want == nil {
			status, want = answer{Status: 400, Error: "InvalidRequest"}, &params{}
		}
		answered, _ := call(t, "GET", url+"/xrpc/com.example.q?"+query, nil)
		check(t, query, answered, status)
		if got.hid != "" {
			t.Error("a field that is not exported was set")
		}
		got.hid = ""
		check(t, query, paramsOf(got), paramsOf(*want))
	}
	for what, query := range map[string]string{
		"a long query":      "s=" + strings.Repeat("x", 70_000),
		"a thousand things": strings.Repeat("list=x&", 3000),
	} {
		answered, _ := call(t, "GET", url+"/xrpc/com.example.q?"+query, nil)
		check(t, what, answered, answer{Status: 414, Error: "InvalidRequest"})
	}
}

// paramsOf is what go-cmp can compare.
func paramsOf(p params) any {
	return struct {
		S, Other string
		DID      syntax.DID
		I        int
		L        int64
		B        bool
		P        *bool
		N        *int
		List     []string
		DIDs     []syntax.DID
		Ints     []int
	}{p.S, p.Other, p.DID, p.I, p.L, p.B, p.P, p.N, p.List, p.DIDs, p.Ints}
}

type listRecords struct {
	Repo       syntax.AtIdentifier `json:"repo"`
	Collection syntax.NSID         `json:"collection"`
	Limit      int                 `json:"limit"`
	Cursor     string              `json:"cursor"`
	Reverse    *bool               `json:"reverse"`
}

type getBlocks struct {
	DID  syntax.DID `json:"did"`
	CIDs []string   `json:"cids"`
}

// With a schema, parameters are validated and have defaults.
func TestParamsBySchema(t *testing.T) {
	var list listRecords
	var blocks getBlocks
	url := serve(t, routes(&xrpc.Server{Catalog: builtin()}, map[string]xrpc.Handler{
		"com.atproto.repo.listRecords": xrpc.Query(func(_ ctx, _ *xrpc.Request, p listRecords) (name, error) {
			list = p
			return name{}, nil
		}),
		"com.atproto.sync.getBlocks": xrpc.Query(func(_ ctx, _ *xrpc.Request, p getBlocks) (name, error) {
			blocks = p
			return name{}, nil
		}),
		"com.atproto.sync.subscribeRepos": xrpc.Subscription(http.NotFoundHandler()),
	}))
	const cid = "bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
	yes := true
	fine, bad := answer{Status: 200, Body: `{"name":""}`}, answer{Status: 400, Error: "InvalidRequest"}
	for query, want := range map[string]answer{
		"repo=did:web:x.example&collection=com.example.note":                        fine,
		"repo=did:web:x.example&collection=com.example.note&limit=100&reverse=true": fine,
		"repo=did:web:x.example&collection=com.example.note&limit=101":              bad,
		"repo=did:web:x.example&collection=com.example.note&limit=0":                bad,
		"repo=did:web:x.example&collection=com.example.note&limit=x":                bad,
		"repo=did:web:x.example&collection=com.example.note&reverse=1":              bad,
		"repo=did:web:x.example&collection=nonsense":                                bad,
		"repo=not%20an%20identifier&collection=com.example.note":                    bad,
		"repo=did:web:x.example&repo=did:web:y.example&collection=com.example.note": bad,
		"collection=com.example.note":                                               bad,
	} {
		list = listRecords{}
		got, _ := call(t, "GET", url+"/xrpc/com.atproto.repo.listRecords?"+query, nil)
		check(t, query, got, want)
		switch {
		case want != fine:
			check(t, query, list, listRecords{})
		case strings.Contains(query, "limit"):
			check(t, query, list, listRecords{"did:web:x.example", "com.example.note", 100, "", &yes})
		default:
			check(t, query, list, listRecords{"did:web:x.example", "com.example.note", 50, "", nil})
		}
	}
	got, _ := call(t, "GET", url+"/xrpc/com.atproto.sync.getBlocks?did=did:web:x.example&cids="+cid+"&cids="+cid, nil)
	check(t, "list", got, fine)
	check(t, "list", blocks, getBlocks{"did:web:x.example", []string{cid, cid}})
	got, _ = call(t, "GET", url+"/xrpc/com.atproto.sync.getBlocks?did=did:web:x.example&cids="+cid+"&cids=x", nil)
	check(t, "list", got, bad)
	got, _ = call(t, "GET", url+"/xrpc/com.atproto.sync.subscribeRepos?cursor=x", nil, "Connection: Upgrade", "Upgrade: websocket")
	check(t, "subscription", got, bad)
}

// What a query string decodes to must mean the same when it is sent again.
func FuzzParams(f *testing.F) {
	for _, s := range []string{"", "s=a&i=7&b=true&list=x&list=y", "did=did:web:a.b&p=false&n=-1&ints=3", "l=9223372036854775807", "s=%zz", "a;b", "list=&=&&x"} {
		f.Add(s)
	}
	var got params
	called := false
	s := routes(&xrpc.Server{}, map[string]xrpc.Handler{
		"com.example.q": xrpc.Query(func(_ ctx, _ *xrpc.Request, p params) (name, error) {
			got, called = p, true
			return name{}, nil
		}),
	})
	run := func(query string) bool {
		got, called = params{}, false
		r := httptest.NewRequest("GET", "/xrpc/com.example.q", nil)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if called != (w.Code == 200) || w.Code >= 500 {
			f.Fatalf("%q: status %d", query, w.Code)
		}
		return called
	}
	f.Fuzz(func(t *testing.T, query string) {
		if !run(query) {
			return
		}
		first := paramsOf(got)
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q was accepted: %v", query, err)
		}
		if !run(q.Encode()) {
			t.Fatalf("%q was accepted, but not %q", query, q.Encode())
		}
		check(t, query, paramsOf(got), first)
	})
}
