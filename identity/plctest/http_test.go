package plctest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/identity"
)

func request(d *Directory, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func message(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	var m struct{ Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	return m.Message
}

func TestAPI(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	d := open(t, Config{Now: func() time.Time { return at }})
	did, g := genesis(t, 1)
	path := "/" + string(did)
	if w := request(d, "GET", path, ""); w.Code != 404 || message(t, w) != "DID not registered: "+string(did) {
		t.Error(w.Code, w.Body)
	}
	if w := request(d, "POST", path, asJSON(t, g)); w.Code != 200 || w.Body.String() != "OK" {
		t.Error(w.Code, w.Body)
	}
	cid, err := g.CID()
	if err != nil {
		t.Fatal(err)
	}
	data, err := g.Data(did)
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string][2]string{
		"":           {"application/did+ld+json; charset=utf-8", asJSON(t, data.Document())},
		"/data":      {"application/json; charset=utf-8", asJSON(t, data)},
		"/log":       {"application/json; charset=utf-8", "[" + asJSON(t, g) + "]"},
		"/log/last":  {"application/json; charset=utf-8", asJSON(t, g)},
		"/log/audit": {"application/json; charset=utf-8", fmt.Sprintf(`[{"did":%q,"operation":%s,"cid":%q,"nullified":false,"createdAt":"2026-01-02T03:04:05.678Z"}]`, did, asJSON(t, g), cid)},
	} {
		w := request(d, "GET", path+what, "")
		if w.Code != 200 || w.Header().Get("Content-Type") != want[0] || w.Body.String() != want[1] {
			t.Errorf("%s: %d %s %s", what, w.Code, w.Header(), w.Body)
		}
	}
	if w := request(d, "GET", "/did%3Aplc%3A"+strings.TrimPrefix(string(did), "did:plc:"), ""); w.Code != 200 {
		t.Error(w.Code, w.Body) // clients escape colons
	}

	dead, err := g.Tombstone()
	if err != nil {
		t.Fatal(err)
	}
	at = at.Add(time.Hour)
	submit(t, d, did, sign(t, dead, key(t, 1)))
	for what, want := range map[string]int{"": 410, "/data": 410, "/log": 200, "/log/last": 200, "/log/audit": 200, "/nonsense": 404} {
		w := request(d, "GET", path+what, "")
		if w.Code != want || want == 410 && message(t, w) != "DID not available: "+string(did) {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
	at = at.Add(time.Hour)
	submit(t, d, did, next(t, g, "https://back.example.com", key(t, 0)))
	if w := request(d, "GET", path, ""); w.Code != 200 || !strings.Contains(w.Body.String(), "back.example.com") {
		t.Error(w.Code, w.Body)
	}
	var audit []identity.PLCLogEntry
	if err := json.Unmarshal(request(d, "GET", path+"/log/audit", "").Body.Bytes(), &audit); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.ValidatePLCLog(did, audit); err != nil || len(audit) != 3 || !audit[1].Nullified {
		t.Error(audit, err)
	}

	for _, tc := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 200}, {"GET", "/_health", 200}, {"GET", "/nonsense", 404}, {"GET", "/export", 200},
		{"DELETE", path, 405}, {"PUT", path, 405}, {"POST", "/", 405}, {"POST", "/export", 405}, {"OPTIONS", path, 204},
		{"GET", "/did:web:a.example.com", 404}, {"GET", "/did:", 404}, {"POST", path + "/data", 405},
	} {
		if w := request(d, tc.method, tc.path, ""); w.Code != tc.want {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, w.Code, w.Body)
		}
	}
}

func TestExport(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := open(t, Config{Now: func() time.Time { return at }})
	for i := range 5 {
		did, g := genesis(t, i)
		submit(t, d, did, g) // all at the same moment of the clock
	}
	type line struct {
		Type      string
		Seq       int
		DID       string
		CreatedAt string
		Nullified *bool
	}
	export := func(query string) (list []line) {
		t.Helper()
		w := request(d, "GET", "/export"+query, "")
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/jsonlines" {
			t.Fatal(w.Code, w.Header())
		}
		for s := range strings.SplitSeq(w.Body.String(), "\n") {
			if s == "" {
				continue
			}
			var l line
			if err := json.Unmarshal([]byte(s), &l); err != nil {
				t.Fatal(err)
			}
			list = append(list, l)
		}
		return list
	}
	seen := map[string]bool{}
	for after, pages := 0, 0; ; pages++ {
		page := export(fmt.Sprintf("?after=%d&count=2", after))
		if len(page) == 0 {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		for _, l := range page {
			if l.Type != "sequenced_op" || l.Seq != after+1 || l.Nullified != nil || seen[l.DID] {
				t.Errorf("%+v", l)
			}
			after, seen[l.DID] = l.Seq, true
		}
	}
	clear(seen)
	for query := "?count=2"; ; {
		page := export(query)
		if len(page) == 0 {
			break
		}
		for _, l := range page {
			if l.Type != "" || l.Nullified == nil || seen[l.DID] {
				t.Errorf("%+v", l)
			}
			seen[l.DID] = true
			query = "?count=2&after=" + l.CreatedAt
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d operations by time", len(seen))
	}
	if n := len(export("?count=100000")); n != 5 {
		t.Error(n)
	}
	for _, query := range []string{"?count=0", "?count=x", "?after=x", "?after=-1"} {
		if w := request(d, "GET", "/export"+query, ""); w.Code != 400 {
			t.Error(query, w.Code)
		}
	}
}

func FuzzPost(f *testing.F) {
	did, g := genesis(f, 1)
	f.Add(asJSON(f, g))
	f.Add(asJSON(f, next(f, g, "https://x.example.com", key(f, 0))))
	f.Fuzz(func(t *testing.T, body string) {
		d := open(t, Config{})
		w := request(d, http.MethodPost, "/"+string(did), body)
		if w.Code != 200 && w.Code != 400 && w.Code != 413 {
			t.Fatal(w.Code, w.Body)
		}
		if w.Code == 200 && d.Log(did).Last().Sig != g.Sig {
			t.Fatal("a DID has two genesis operations")
		}
		if w.Code != 200 {
			message(t, w)
		}
	})
}
