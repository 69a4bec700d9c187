package plctest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/powerloss"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

func key(t testing.TB, n byte) *crypto.PrivateKey {
	t.Helper()
	k, err := crypto.ParsePrivateKey(crypto.K256, slices.Repeat([]byte{n + 1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign changes an unsigned operation and signs it.
func sign(t testing.TB, op *identity.PLCOperation, k *crypto.PrivateKey, change ...func(*identity.PLCOperation)) *identity.PLCOperation {
	t.Helper()
	for _, f := range change {
		f(op)
	}
	if err := op.Sign(context.Background(), k); err != nil {
		t.Fatal(err)
	}
	return op
}

// genesis returns the first operation of the n-th account of a test, whose rotation
// keys are 0 and 1.
func genesis(t testing.TB, n int, change ...func(*identity.PLCOperation)) (syntax.DID, *identity.PLCOperation) {
	t.Helper()
	op := sign(t, identity.NewPLCOperation(syntax.Handle(fmt.Sprintf("a%d.example.com", n)), "https://pds.example.com",
		key(t, 9).PublicKey(), key(t, 0).PublicKey(), key(t, 1).PublicKey()), key(t, 1), change...)
	did, err := op.DID()
	if err != nil {
		t.Fatal(err)
	}
	return did, op
}

func next(t testing.TB, prev *identity.PLCOperation, pds string, k *crypto.PrivateKey) *identity.PLCOperation {
	t.Helper()
	op, err := prev.Next()
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, op, k, func(op *identity.PLCOperation) { op.SetPDS(pds) })
}

func open(t testing.TB, cfg Config) *Directory {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func submit(t testing.TB, d *Directory, did syntax.DID, op *identity.PLCOperation) {
	t.Helper()
	if err := d.Submit(did, op); err != nil {
		t.Fatal(err)
	}
}

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

func TestRefusals(t *testing.T) {
	d := open(t, Config{})
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	with := func(change func(*identity.PLCOperation)) string {
		op, err := g.Next()
		if err != nil {
			t.Fatal(err)
		}
		return asJSON(t, sign(t, op, key(t, 0), change))
	}
	legacy := sign(t, &identity.PLCOperation{Type: identity.PLCCreate, Legacy: &identity.PLCLegacy{SigningKey: key(t, 0).PublicKey().DIDKey(), RecoveryKey: key(t, 1).PublicKey().DIDKey(), Handle: "a.example.com", Service: "https://x"}}, key(t, 0))
	legacyDID, err := legacy.DID()
	if err != nil {
		t.Fatal(err)
	}
	k := key(t, 0).PublicKey().DIDKey()
	for _, tc := range []struct {
		name, body, want string
		did              syntax.DID
	}{
		{"nothing", "", "Not a valid operation", did},
		{"not JSON", "{", "Not a valid operation", did},
		{"extra field", strings.Replace(asJSON(t, g), `"prev"`, `"x":1,"prev"`, 1), "Not a valid operation", did},
		{"unsigned", strings.Replace(asJSON(t, g), `"sig":"`+g.Sig+`",`, ``, 1), "Not a valid operation", did},
		{"legacy form", asJSON(t, legacy), "Not a valid operation: the legacy form is no longer accepted", legacyDID},
		{"genesis again", asJSON(t, g), "Operations not correctly ordered", did},
		{"genesis of another DID", asJSON(t, g), "Hash of genesis operation does not match DID identifier", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"},
		{"DID in upper case", asJSON(t, g), "Hash of genesis operation does not match DID identifier", "did:plc:" + syntax.DID(strings.ToUpper(did.Identifier()))},
		{"stranger", asJSON(t, next(t, g, "https://evil.example.com", key(t, 7))), "Invalid signature on op", did},
		{"too large", with(func(op *identity.PLCOperation) { op.AlsoKnownAs = append(op.AlsoKnownAs, strings.Repeat("x", 4000)) }), "Operation too large (4000 bytes maximum in cbor encoding)", did},
		{"many handles", with(func(op *identity.PLCOperation) {
			for i := range 10 {
				op.AlsoKnownAs = append(op.AlsoKnownAs, fmt.Sprint("at://", i))
			}
		}), "Too many alsoKnownAs entries (max 10)", did},
		{"long handle", with(func(op *identity.PLCOperation) { op.AlsoKnownAs[0] = "at://" + strings.Repeat("x", 254) }), "alsoKnownAs entry too long (max 258)", did},
		{"handle twice", with(func(op *identity.PLCOperation) { op.AlsoKnownAs = []string{"at://x", "at://x"} }), "duplicate alsoKnownAs entry: at://x", did},
		{"many rotation keys", with(func(op *identity.PLCOperation) { op.RotationKeys = slices.Repeat([]string{k}, 11) }), "Too many rotationKey entries (max 10)", did},
		{"rotation key of an unsupported type", with(func(op *identity.PLCOperation) { op.RotationKeys = []string{ed25519} }), "Invalid rotationKey: " + ed25519, did},
		{"many services", with(func(op *identity.PLCOperation) {
			for i := range 10 {
				op.Services[fmt.Sprint(i)] = identity.PLCService{}
			}
		}), "Too many service entries (max 10)", did},
		{"long service id", with(func(op *identity.PLCOperation) { op.Services[strings.Repeat("x", 33)] = identity.PLCService{} }), "Service id, type or endpoint too long (max 32, 256, 512)", did},
		{"long endpoint", with(func(op *identity.PLCOperation) { op.SetPDS(strings.Repeat("x", 513)) }), "Service id, type or endpoint too long (max 32, 256, 512)", did},
		{"many keys", with(func(op *identity.PLCOperation) {
			for i := range 10 {
				op.VerificationMethods[fmt.Sprint(i)] = k
			}
		}), "Too many Verification Method entries (max 10)", did},
		{"long key", with(func(op *identity.PLCOperation) { op.VerificationMethods["x"] = "did:key:z" + strings.Repeat("x", 250) }), "Verification Method id or key too long (max 32, 256)", did},
		{"key that is no did:key", with(func(op *identity.PLCOperation) { op.VerificationMethods["x"] = "did:key:zO0" }), "Invalid verificationMethod key: did:key:zO0", did},
		{"key without multibase", with(func(op *identity.PLCOperation) { op.VerificationMethods["x"] = "did:key:" }), "Invalid verificationMethod key: did:key:", did},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := request(d, "POST", "/"+string(tc.did), tc.body)
			if w.Code != 400 || message(t, w) != tc.want {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	if w := request(d, "POST", "/"+string(did), strings.Repeat(" ", maxBody+1)); w.Code != 413 {
		t.Error(w.Code)
	}
	if n := d.Log(did).Len(); n != 1 || len(d.order) != 1 {
		t.Errorf("%d operations were accepted", n)
	}
	if w := request(d, "POST", "/"+string(did), with(func(op *identity.PLCOperation) { op.VerificationMethods["x"] = ed25519 })); w.Code != 200 {
		t.Errorf("a signing key of any type is allowed: %s", w.Body)
	}
}

const ed25519 = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"

func TestRecoveryWindow(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := open(t, Config{Now: func() time.Time { return at }})
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	at = at.Add(time.Hour)
	submit(t, d, did, next(t, g, "https://thief.example.com", key(t, 1)))
	rescue := next(t, g, "https://safe.example.com", key(t, 0))
	at = at.Add(identity.PLCRecoveryWindow + time.Millisecond)
	if err := d.Submit(did, rescue); !errors.Is(err, identity.ErrLateRecovery) {
		t.Error(err)
	}
	at = at.Add(-time.Millisecond)
	submit(t, d, did, rescue)
}

func TestRateLimit(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, lifted := range []bool{false, true} {
		d := open(t, Config{Now: func() time.Time { return at }, NoRateLimits: lifted})
		did, op := genesis(t, 1)
		submit(t, d, did, op)
		for i := range 9 {
			op = next(t, op, fmt.Sprintf("https://%d.example.com", i), key(t, 1))
			submit(t, d, did, op)
		}
		eleventh := next(t, op, "https://x.example.com", key(t, 1))
		err := d.Submit(did, eleventh)
		if lifted {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Message != "Too many operations within last hour (max 10)" {
			t.Error(err)
		}
		// Whoever has the higher key is not locked out by the thief's operations.
		last := d.Log(did).Operations()[8]
		submit(t, d, did, next(t, last, "https://safe.example.com", key(t, 0)))
		at = at.Add(time.Hour + time.Minute)
		submit(t, d, did, next(t, d.Log(did).Last(), "https://y.example.com", key(t, 1)))
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

// Operations that race for the same predecessor: one wins, and there is no fork.
func TestRace(t *testing.T) {
	d := open(t, Config{})
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	var wg sync.WaitGroup
	results := make(chan error, 20)
	for i := range 20 {
		op := next(t, g, fmt.Sprintf("https://%d.example.com", i), key(t, 1))
		wg.Go(func() { results <- d.Submit(did, op) })
		wg.Go(func() { request(d, "GET", "/"+string(did)+"/log/audit", "") })
		wg.Go(func() { request(d, "GET", "/export", "") })
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
		}
	}
	if n := len(d.Log(did).Operations()); won != 1 || n != 2 {
		t.Errorf("%d won, %d operations", won, n)
	}
}

func TestFileSurvivesRestart(t *testing.T) {
	name := filepath.Join(t.TempDir(), "plc.jsonl")
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := Config{File: name, Now: func() time.Time { at = at.Add(time.Minute); return at }}
	d := open(t, cfg)
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	submit(t, d, did, next(t, g, "https://thief.example.com", key(t, 1)))
	other, og := genesis(t, 2)
	submit(t, d, other, og)
	submit(t, d, did, next(t, g, "https://safe.example.com", key(t, 0)))
	want := request(d, "GET", "/export", "").Body.String()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Submit(did, g); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if w := request(d, "GET", "/_health", ""); w.Code != 503 {
		t.Error(w.Code)
	}
	at = at.Add(-24 * time.Hour) // the clock was set back
	d = open(t, cfg)
	if diff := cmp.Diff(want, request(d, "GET", "/export", "").Body.String()); diff != "" {
		t.Error(diff)
	}
	submit(t, d, did, next(t, d.Log(did).Last(), "https://later.example.com", key(t, 1)))
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

// What a process wrote, and had not flushed when it died, is answered from the next start on: so a
// power failure does not take it away any more.
func TestPowerFailureAfterDeath(t *testing.T) {
	before, dir := filepath.Join(t.TempDir(), "plc.jsonl"), t.TempDir()
	d := open(t, Config{File: before})
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	content, err := os.ReadFile(before)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := powerloss.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	flushed := func(path string) {
		if err := disk.Synced(path); err != nil {
			t.Error(err)
		}
	}
	durablefile.Watch.Store(&flushed)
	defer durablefile.Watch.Store(nil)
	name := filepath.Join(dir, "plc.jsonl")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if open(t, Config{File: name}).Log(did) == nil {
		t.Fatal("the operation is not there")
	}
	for seed := range uint64(10) {
		to := t.TempDir()
		if err := disk.Crash(to, rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		if open(t, Config{File: filepath.Join(to, "plc.jsonl")}).Log(did) == nil {
			t.Errorf("seed %d: the operation is not there after a power failure", seed)
		}
	}
}

// A crash may leave any prefix of the file behind: the whole lines of it count.
func TestFileCutAnywhere(t *testing.T) {
	name := filepath.Join(t.TempDir(), "plc.jsonl")
	d := open(t, Config{File: name})
	for i := range 2 {
		did, g := genesis(t, i)
		submit(t, d, did, g)
	}
	d.Close()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	newDID, newOp := genesis(t, 7)
	for n := 0; n <= len(whole); n += 37 {
		for _, tail := range []string{"", "\x00\x00\x00", "\x00\x00\x00\n"} {
			if tail != "" && (n == 0 || whole[n-1] == '\n') {
				continue
			}
			if err := os.WriteFile(name, append(whole[:n:n], tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := New(Config{File: name})
			if err != nil {
				t.Fatalf("%d bytes and %q: %v", n, tail, err)
			}
			lines := bytes.Count(whole[:n], []byte{'\n'})
			if len(d.order) != lines {
				t.Errorf("%d bytes: %d operations, want %d", n, len(d.order), lines)
			}
			submit(t, d, newDID, newOp)
			d.Close()
			if d, err = New(Config{File: name}); err != nil {
				t.Fatalf("after writing on: %v", err)
			}
			if len(d.order) != lines+1 {
				t.Errorf("%d bytes: %d operations after writing on", n, len(d.order))
			}
			d.Close()
		}
	}
}

func TestFileDamaged(t *testing.T) {
	name := filepath.Join(t.TempDir(), "plc.jsonl")
	d := open(t, Config{File: name})
	did, g := genesis(t, 1)
	submit(t, d, did, g)
	submit(t, d, did, next(t, g, "https://x.example.com", key(t, 1)))
	d.Close()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte{'\n'})
	for what, content := range map[string][]byte{
		"first line damaged":       bytes.Replace(whole, []byte(`{`), []byte(`[`), 1),
		"content changed":          bytes.Replace(whole, []byte("pds.example.com"), []byte("evi.example.com"), 1),
		"first line missing":       lines[1],
		"lines out of order":       bytes.Join([][]byte{lines[1], lines[0]}, nil),
		"line twice":               bytes.Join([][]byte{lines[0], lines[0]}, nil),
		"line without an entry":    []byte("{}\n"),
		"line without an end":      append(bytes.Repeat([]byte(" "), maxLine+1), lines[0]...),
		"a file of something else": []byte("hello\nworld\n"),
		"a line of something else": []byte("hello\n"),
		"a word of something else": []byte("hello"),
		"JSON of something else":   []byte(`{"a":1}`),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := New(Config{File: name}); err == nil {
			d.Close()
			t.Errorf("%s: no error", what)
		}
		if after, err := os.ReadFile(name); err != nil || !bytes.Equal(after, content) {
			t.Errorf("%s: the file was changed", what)
		}
	}
	if _, err := New(Config{File: filepath.Join(name, "x")}); err == nil {
		t.Error("a file below a file")
	}
}

// failingFile fails in the ways that are asked for.
type failingFile struct {
	*os.File
	short, sync, truncate bool
}

var errDisk = errors.New("disk is full")

func (f *failingFile) Write(b []byte) (int, error) {
	if !f.short {
		return f.File.Write(b)
	}
	n, _ := f.File.Write(b[:len(b)/2])
	return n, errDisk
}

func (f *failingFile) Sync() error {
	if f.sync {
		f.sync = false
		return errDisk
	}
	return f.File.Sync()
}

func (f *failingFile) Truncate(n int64) error {
	if f.truncate {
		return errDisk
	}
	return f.File.Truncate(n)
}

func TestFileFailures(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fail   failingFile
		broken bool
	}{
		{"write", failingFile{short: true}, false},
		{"sync", failingFile{sync: true}, false},
		{"write and undo", failingFile{short: true, truncate: true}, true},
		{"sync and undo", failingFile{sync: true, truncate: true}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "plc.jsonl")
			d := open(t, Config{File: name})
			did, g := genesis(t, 1)
			submit(t, d, did, g)
			real := d.file.(*os.File)
			tc.fail.File = real
			d.file = &tc.fail
			op := next(t, g, "https://x.example.com", key(t, 1))
			w := request(d, "POST", "/"+string(did), asJSON(t, op))
			if w.Code != 500 || strings.Contains(w.Body.String(), "disk") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if n := d.Log(did).Len(); n != 1 {
				t.Errorf("the operation is visible: %d", n)
			}
			d.file = real
			if err := d.Submit(did, op); (err != nil) != tc.broken || tc.broken && !errors.Is(err, errDisk) {
				t.Error(err)
			}
			d.Close()
			again, err := New(Config{File: name})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if n := again.Log(did).Len(); n != 2 && !tc.broken {
				t.Errorf("%d operations after a restart", n)
			}
		})
	}
}

func TestUnknownDID(t *testing.T) {
	d := open(t, Config{})
	if log := d.Log("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"); log != nil {
		t.Error(log)
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

func BenchmarkSubmit(b *testing.B) {
	d := open(b, Config{File: filepath.Join(b.TempDir(), "plc.jsonl")})
	i := 0
	for b.Loop() {
		b.StopTimer()
		did, g := genesis(b, i)
		i++
		b.StartTimer()
		submit(b, d, did, g)
	}
}
