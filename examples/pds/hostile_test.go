package main_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// maxHostileMemory bounds what the server may ever use while it is attacked.
const maxHostileMemory = 512 << 20

// attack is a run of hostile requests against a server with two accounts: one that is attacked
// with, and a witness that must not notice.
type attack struct {
	*testing.T
	p       *process
	mallory *user
	alice   *user
	sent    int
}

const hostileSecret = "a secret that the attacker does not know"

// TestHostile attacks a server in every way that comes to mind. Whatever is sent, the answer is an
// error of the client's, in the protocol's form; nothing panics; memory stays bounded; and the
// server goes on.
func TestHostile(t *testing.T) {
	dir := t.TempDir()
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	p := startWith(t, filepath.Join(dir, "data"), logFile, "PDS_JWT_SECRET="+hostileSecret, "PDS_ADMIN_PASSWORD=hunter2",
		"PDS_EMAIL_SINK_FILE="+filepath.Join(dir, "mail"), "PDS_LOG_LEVEL=info")
	a := &attack{T: t, p: p, alice: p.register("alice"), mallory: p.register("mallory")}
	blob := writeBlob(t, a.alice, map[string]string{})
	head := latest(t, a.alice)

	slow := a.slowClients()
	for _, run := range []struct {
		name string
		do   func()
	}{
		{"bodies", a.bodies}, {"parameters", a.parameters}, {"records", a.records}, {"tokens", a.tokens}, {"paths", a.paths},
		{"files", a.files}, {"compression", a.compression}, {"streams", a.streams}, {"connections", a.connections},
	} {
		begin, before := time.Now(), a.sent
		run.do()
		t.Logf("%s: %d requests in %v", run.name, a.sent-before, time.Since(begin).Round(time.Millisecond))
	}
	slow()

	if status, _, _ := request(t, "GET", p.url+"/xrpc/_health", "", "", nil); status != 200 {
		t.Errorf("health: %d", status)
	}
	if latest(t, a.alice) != head {
		t.Error("somebody wrote to the repository of another")
	}
	a.alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": a.alice.DID, "collection": "com.example.note", "record": map[string]any{}}, nil)
	checkBlob(t, a.alice, blob)
	if res, err := a.mallory.Get(t.Context(), "com.atproto.sync.getRepo", url.Values{"did": {string(a.mallory.DID)}}); err != nil {
		t.Error(err)
	} else {
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	a.memory()
	text, err := os.ReadFile(logFile.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"panic", "internal error", "status=500", "goroutine "} {
		if i := bytes.Index(text, []byte(word)); i >= 0 {
			t.Errorf("%q is in the log: %.500s", word, text[max(0, i-200):])
		}
	}
}

// memory checks the most that the server has used.
func (a *attack) memory() {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.p.cmd.Process.Pid))
	if err != nil {
		return // not Linux
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		a.Fatal("no VmHWM")
	}
	kB, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		a.Fatal(err)
	}
	a.Logf("at most %d MiB of memory", kB>>10)
	if kB<<10 > maxHostileMemory {
		a.Errorf("%d MiB of memory", kB>>10)
	}
}

// send sends a request, whose answer must be one that clients deserve. Success is none, unless it
// is allowed. The form of errors is checked by the transport: see calls.
func (a *attack) send(name, method, nsid, query, contentType, token string, body io.Reader, mayWork bool, header ...string) (status int) {
	a.Helper()
	a.sent++
	r, err := http.NewRequest(method, a.p.url, body)
	if err != nil {
		a.Fatal(err)
	}
	r.URL.Path, r.URL.RawQuery = "/xrpc/"+nsid, query
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		a.Errorf("%s: %s: %v", nsid, name, err)
		return 0
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if res.StatusCode >= 500 || res.StatusCode < 400 && !mayWork {
		a.Errorf("%s: %s: status %d: %.200s", nsid, name, res.StatusCode, text)
	}
	return res.StatusCode
}

func (a *attack) user() string { return "Bearer " + a.mallory.AccessJWT }

const hostileAdmin = "Basic YWRtaW46aHVudGVyMg=="

// bodies sends what is no input to every procedure.
func (a *attack) bodies() {
	deep := func(open, close string) string {
		return strings.Repeat(open, 20_000) + "1" + strings.Repeat(close, 20_000)
	}
	texts := map[string]string{
		"nothing": "", "half an object": `{"did":`, "a list": `[]`, "null": `null`, "a string": `"x"`, "a number": `1`, "two values": `{} {}`,
		"a huge number": `{"useCount":1e999,"n":123456789012345678901234567890}`, "nested lists": deep("[", "]"), "nested objects": deep(`{"a":`, "}"),
		"a repeated key": `{"did":"x","did":"y"}`, "invalid UTF-8": "{\"did\":\"\xff\xfe\"}", "NUL": "{\"did\":\"\x00\"}", "half a surrogate": `{"did":"\ud800"}`,
		"a byte order mark": "\xef\xbb\xbf{}", "wrong types": `{"did":{},"handle":[],"repo":1,"email":true,"token":{},"name":[],"subject":5,"account":[],"writes":{},"preferences":"x"}`,
		"long": `{"handle":"` + strings.Repeat("x", 2_000_000) + `"}`, "many keys": "{" + strings.Repeat(`"":1,`, 20_000) + `"":1}`,
	}
	types := []string{"", "text/plain", "application/json; charset=utf-16", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ";;;", strings.Repeat("x", 10_000)}
	catalog := lexicon.Builtin()
	// Methods whose input has nothing that must be given.
	optional := map[string]bool{
		"com.atproto.server.deactivateAccount": true, "com.atproto.server.reserveSigningKey": true, "com.atproto.admin.disableInviteCodes": true,
	}
	methods, err := readMethods()
	if err != nil {
		a.Fatal(err)
	}
	for _, m := range methods {
		schema, err := catalog.Method(syntax.NSID(m.nsid))
		if err != nil || schema.Kind != lexicon.KindProcedure || strings.HasSuffix(m.nsid, ".deleteSession") {
			continue
		}
		token := a.user()
		switch m.who {
		case "admin", "moderator":
			token = hostileAdmin
		case "anyone":
			token = ""
		case "refresh":
			token = "Bearer " + a.mallory.RefreshJWT
		}
		void := schema.Input == nil
		any := void || schema.Input.Encoding == "*/*"
		for name, text := range texts {
			// A procedure without input takes no body, and one that takes all has nothing to
			// refuse.
			if void && name == "nothing" {
				continue
			}
			mayWork := any && !void || name == "nothing" || optional[m.nsid] && name == "wrong types"
			a.send(name, "POST", m.nsid, "", "application/json", token, strings.NewReader(text), mayWork)
		}
		for _, t := range types {
			if !any {
				mayWork := optional[m.nsid] && strings.HasPrefix(t, "application/json")
				a.send("type "+t[:min(len(t), 40)], "POST", m.nsid, "", t, token, strings.NewReader(`{}`), mayWork)
			}
		}
	}
	a.mallory.call(a.T, "com.atproto.server.activateAccount", nil, nil)
}

// parameters puts what is none into every parameter of every query.
func (a *attack) parameters() {
	good := map[string]string{
		"did": string(a.alice.DID), "repo": string(a.alice.DID), "collection": "app.bsky.actor.profile", "rkey": "self", "handle": "alice.test",
		"aud": "did:web:localhost", "uri": "at://" + string(a.alice.DID) + "/app.bsky.actor.profile/self", "dids": string(a.alice.DID),
		"cid": "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "cids": "bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi",
	}
	bad := []string{
		"", "..", "../../../../etc/passwd", "..%2f..%2fsecrets.json", "/", "did:plc:../../secrets.json", "did:web:..%2F..", "did:plc:" + strings.Repeat("a", 4000),
		"did:key:zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc", "\x00", "\xff\xfe", "'; drop table repos; --", "${jndi:x}", "😀", "-1", "0", "9223372036854775808", "1e3", "9007199254740993",
		"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG", // the first version of CIDs
		"bafkqaaa", // identity: the bytes themselves
		"bafyrei", "bafkrei" + strings.Repeat("a", 52), "zdpuAyvkgEDQm9TenwGkd5eNaosSxjgEYd8QatfPetgB1CdEZ", "f01551220", strings.Repeat("b", 60_000),
		"1::did:plc:x", "99999999999999999999::" + string(a.alice.DID), string(a.alice.DID) + "::1", "at://x", "at://" + string(a.alice.DID) + "/../..", "true",
	}
	catalog := lexicon.Builtin()
	for doc := range catalog.Documents() {
		q, ok := doc.Main().(*lexicon.Query)
		if !ok || q.Parameters == nil || !strings.HasPrefix(string(doc.ID), "com.atproto.") || doc.ID == "com.atproto.identity.resolveHandle" {
			continue
		}
		token := a.user()
		if strings.HasPrefix(string(doc.ID), "com.atproto.admin.") {
			token = hostileAdmin
		}
		for _, attacked := range q.Parameters.Properties {
			values := url.Values{}
			for _, p := range q.Parameters.Properties {
				if v := good[p.Name]; v != "" {
					values.Set(p.Name, v)
				}
			}
			for _, v := range bad {
				values.Set(attacked.Name, v)
				a.send(fmt.Sprintf("%s=%.40q", attacked.Name, v), "GET", string(doc.ID), values.Encode(), "", token, nil, true)
			}
			values[attacked.Name] = []string{good[attacked.Name], "x", "y"}
			a.send(attacked.Name+" three times", "GET", string(doc.ID), values.Encode(), "", token, nil, true)
		}
	}
	for _, h := range []string{"..", "a..test", "x", "127.0.0.1", "localhost", strings.Repeat("a.", 200) + "test", "\x00.test", "nobody.test", "xn--.test", "-.test"} {
		a.send("a handle", "GET", "com.atproto.identity.resolveHandle", "handle="+url.QueryEscape(h), "", "", nil, false)
	}
	for _, raw := range []string{"did=%zz", "did=%", strings.Repeat("did=x&", 5000), strings.Repeat("x", 60_000), ";;;", "did=x;did=y"} {
		a.send("a query string", "GET", "com.atproto.sync.getRepo", raw, "", "", nil, false)
	}
	for _, ref := range []string{"x", "#", "did:web:localhost", "did:web:localhost#", "did:web:localhost#a#b", "did:web:localhost%3A1#bsky_appview", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa#x", "did:web:../..#x", "did:web:localhost #x"} {
		a.send("forward to "+ref, "GET", "com.example.query", "", "", a.user(), nil, false, "Atproto-Proxy", ref)
	}
	for _, method := range []string{"PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"} {
		a.send(method, method, "com.atproto.repo.getRecord", "", "", "", nil, false)
	}
}

// records writes what is no record.
func (a *attack) records() {
	a.mallory.call(a.T, "com.atproto.repo.createRecord", map[string]any{"repo": a.mallory.DID, "collection": "com.example.note", "rkey": "one", "record": map[string]any{}}, nil)
	a.mallory.call(a.T, "com.atproto.server.createAppPassword", map[string]any{"name": "one"}, nil)
	a.send("a name that exists", "POST", "com.atproto.server.createAppPassword", "", "application/json", a.user(), strings.NewReader(`{"name":"one"}`), false)
	blob := func(s string) string {
		return `{"b":{"$type":"blob",` + s + `}}`
	}
	for name, record := range map[string]string{
		"an integer beyond 2^53": `{"n":9007199254740993}`, "one below": `{"n":-9007199254740993}`, "one beyond 2^63": `{"n":9223372036854775808}`, "a fraction": `{"n":0.5}`,
		"an exponent": `{"n":1e400}`, "bytes that are none": `{"b":{"$bytes":"!!"}}`, "bytes of a number": `{"b":{"$bytes":1}}`, "bytes and more": `{"b":{"$bytes":"AAAA","x":1}}`,
		"a link that is none": `{"l":{"$link":"x"}}`, "a link to a number": `{"l":{"$link":1}}`, "a link and more": `{"l":{"$link":"bafkqaaa","x":1}}`, "a link of version 0": `{"l":{"$link":"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG"}}`,
		"a $type that is none": `{"$type":5}`, "an empty $type": `{"$type":""}`, "a nested empty $type": `{"x":{"$type":""}}`,
		"a blob without ref": blob(`"mimeType":"image/png","size":1`), "a blob of negative size": blob(`"ref":{"$link":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},"mimeType":"image/png","size":-1`),
		"a blob of no type": blob(`"ref":{"$link":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},"size":1`),
		"a legacy blob":     `{"b":{"cid":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku","mimeType":"image/png"}}`,
		"deep lists":        `{"l":` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000) + `}`, "a long text": `{"t":"` + strings.Repeat("x", 1_100_000) + `"}`,
		"many blobs": `{"l":[` + strings.TrimSuffix(strings.Repeat(`{"$type":"blob","ref":{"$link":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},"mimeType":"a/b","size":1},`, 2000), ",") + `]}`,
	} {
		for _, method := range []string{"createRecord", "putRecord", "applyWrites"} {
			rkey, body := "x", ""
			if method == "applyWrites" {
				body = fmt.Sprintf(`{"repo":%q,"writes":[{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.note","rkey":%q,"value":%s}]}`, a.mallory.DID, rkey, record)
			} else {
				body = fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":%q,"record":%s}`, a.mallory.DID, rkey, record)
			}
			a.send(name, "POST", "com.atproto.repo."+method, "", "application/json", a.user(), strings.NewReader(body), false)
		}
	}
	for _, rkey := range []string{"one", ".", "..", "a/b", "a b", "é", "\x00", strings.Repeat("x", 600), "%2e%2e"} {
		body, _ := json.Marshal(map[string]any{"repo": a.mallory.DID, "collection": "com.example.note", "rkey": rkey, "record": map[string]any{}})
		a.send("record key "+rkey[:min(len(rkey), 20)], "POST", "com.atproto.repo.createRecord", "", "application/json", a.user(), bytes.NewReader(body), false)
	}
	for _, collection := range []string{"x", "com.example", "..", "com.example.note/..", strings.Repeat("a.", 200) + "b", "com.example.no-te"} {
		body, _ := json.Marshal(map[string]any{"repo": a.mallory.DID, "collection": collection, "record": map[string]any{}})
		a.send("collection "+collection[:min(len(collection), 20)], "POST", "com.atproto.repo.createRecord", "", "application/json", a.user(), bytes.NewReader(body), false)
	}
	twice := fmt.Sprintf(`{"repo":%q,"writes":[%[2]s,%[2]s]}`, a.mallory.DID, `{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.note","rkey":"two","value":{}}`)
	a.send("one key twice", "POST", "com.atproto.repo.applyWrites", "", "application/json", a.user(), strings.NewReader(twice), false)
}

// tokens forges credentials.
func (a *attack) tokens() {
	did := string(a.alice.DID)
	now := time.Now()
	claims := func(change ...any) jwt.MapClaims {
		c := jwt.MapClaims{"scope": "com.atproto.access", "aud": "did:web:localhost", "sub": did, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
		for i := 0; i < len(change); i += 2 {
			if c[change[i].(string)] = change[i+1]; change[i+1] == nil {
				delete(c, change[i].(string))
			}
		}
		return c
	}
	sign := func(m jwt.SigningMethod, key any, c jwt.MapClaims) string {
		text, err := jwt.NewWithClaims(m, c).SignedString(key)
		if err != nil {
			a.Fatal(err)
		}
		return "Bearer " + text
	}
	ours := func(c jwt.MapClaims) string { return sign(jwt.SigningMethodHS256, []byte(hostileSecret), c) }
	if status := a.send("a good token", "GET", "com.atproto.server.getSession", "", "", ours(claims()), nil, true); status != 200 {
		a.Fatalf("the token is not what the server makes: %d", status)
	}
	parts := strings.Split(a.alice.AccessJWT, ".")
	header := func(text string) string {
		return "Bearer " + base64.RawURLEncoding.EncodeToString([]byte(text)) + "." + parts[1] + "."
	}
	for name, token := range map[string]string{
		"no signature": sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()), "alg none with a signature": header(`{"alg":"none"}`) + parts[2], "alg NONE": header(`{"alg":"NONE"}`),
		"no alg": header(`{}`) + parts[2], "another alg": header(`{"alg":"RS256"}`) + parts[2], "an alg that is a number": header(`{"alg":1}`) + parts[2], "a cut signature": "Bearer " + parts[0] + "." + parts[1] + ".",
		"another key": sign(jwt.SigningMethodHS256, []byte("x"), claims()), "no key": sign(jwt.SigningMethodHS256, []byte{}, claims()), "another hash": sign(jwt.SigningMethodHS512, []byte(hostileSecret), claims()),
		"another audience": ours(claims("aud", "did:web:example.com")), "no audience": ours(claims("aud", nil)), "late": ours(claims("exp", now.Add(-time.Hour).Unix())), "no end": ours(claims("exp", nil)),
		"an end that is a text": ours(claims("exp", "tomorrow")), "not yet": ours(claims("nbf", now.Add(time.Hour).Unix())), "another scope": ours(claims("scope", "com.atproto.admin")), "no scope": ours(claims("scope", nil)),
		"scopes in a list": ours(claims("scope", []string{"com.atproto.access"})), "nobody": ours(claims("sub", nil)), "no DID": ours(claims("sub", "alice.test")), "a path": ours(claims("sub", "did:plc:../..")),
		"an account that is not here": ours(claims("sub", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")), "the scope of refreshing": ours(claims("scope", "com.atproto.refresh")),
		"a payload that is none": "Bearer " + parts[0] + ".e30." + parts[2], "dots": "Bearer ...", "nothing": "Bearer ", "a space": "Bearer  ", "no scheme": a.alice.AccessJWT, "two tokens": "Bearer a b", "DPoP": "DPoP " + a.alice.AccessJWT,
		"a long one": "Bearer " + strings.Repeat("x", 30_000), "Basic": "Basic x", "Basic without a colon": "Basic " + base64.StdEncoding.EncodeToString([]byte("admin")),
		"Basic with another's name": "Basic " + base64.StdEncoding.EncodeToString([]byte("root:hunter2")), "Basic with no password": "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:")),
	} {
		for _, method := range []string{"com.atproto.server.getSession", "app.bsky.actor.getPreferences", "com.atproto.admin.getInviteCodes"} {
			a.send(name, "GET", method, "", "", token, nil, false)
		}
		for _, method := range []string{"com.atproto.server.refreshSession", "com.atproto.server.createAccount"} {
			a.send(name, "POST", method, "", "", token, nil, false)
		}
		a.send(name, "POST", "com.atproto.repo.uploadBlob", "", "text/plain", token, strings.NewReader("x"), false)
		a.send(name, "POST", "com.atproto.moderation.createReport", "", "application/json", token, strings.NewReader("{}"), false)
	}
	a.send("a refresh token without an ID", "POST", "com.atproto.server.refreshSession", "", "", ours(claims("scope", "com.atproto.refresh")), nil, false)
	a.send("a refresh token that was never given", "POST", "com.atproto.server.refreshSession", "", "", ours(claims("scope", "com.atproto.refresh", "jti", "x/../y")), nil, false)
}

// paths asks for files. Only paths under /xrpc/ have answers in the protocol's form.
func (a *attack) paths() {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, path := range []string{
		"/xrpc/..%2f..%2fsecrets.json", "/xrpc/%2e%2e/%2e%2e/secrets.json", "/xrpc/com.atproto.sync.getBlob/../../secrets.json", "/../secrets.json", "/.well-known/../../secrets.json",
		"//secrets.json", "/xrpc/", "/xrpc/" + strings.Repeat("a", 5000), "/xrpc/com.atproto.%00", "/xrpc/%ff", "/xrpc/com.atproto.sync.getBlob%2f..", "/pds.sqlite", "/.well-known/atproto-did",
	} {
		a.sent++
		res, err := client.Get(a.p.url + path)
		if err != nil {
			a.Errorf("%s: %v", path, err)
			continue
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode >= 500 || res.StatusCode == 200 || bytes.Contains(text, []byte("masterKey")) {
			a.Errorf("%s: status %d: %.100s", path, res.StatusCode, text)
		}
	}
}

// files imports what is no repository.
func (a *attack) files() {
	varint := func(n uint64) []byte {
		var b []byte
		for ; n >= 0x80; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		return append(b, byte(n))
	}
	section := func(b []byte) []byte { return append(varint(uint64(len(b))), b...) }
	root := append([]byte{0xd8, 0x2a, 0x58, 0x25, 0x00, 0x01, 0x71, 0x12, 0x20}, make([]byte, 32)...) // a link in CBOR
	header := func(roots int) []byte {
		h := []byte("\xa2\x65roots")
		switch {
		case roots < 24:
			h = append(h, 0x80|byte(roots))
		default:
			h = append(h, 0x99, byte(roots>>8), byte(roots))
		}
		h = append(h, bytes.Repeat(root, roots)...)
		return section(append(h, "\x67version\x01"...))
	}
	block := append([]byte{0x01, 0x71, 0x12, 0x20}, make([]byte, 32)...)
	tiny := bytes.Repeat(section(append(bytes.Clone(block), 0xa0)), 100_000)
	deep := append(bytes.Clone(block), bytes.Repeat([]byte{0x81}, 1_000_000)...)
	for name, file := range map[string][]byte{
		"a header of 2^63 bytes": append(varint(1<<63-1), 0xa2), "a number without end": bytes.Repeat([]byte{0xff}, 100), "a header of 1 GiB": append(varint(1<<30), make([]byte, 1000)...),
		"a header of nested lists": section(bytes.Repeat([]byte{0x81}, 100_000)), "a header that claims 2^32 keys": section([]byte{0xba, 0xff, 0xff, 0xff, 0xff}),
		"no root": header(0), "two roots": header(2), "60,000 roots": header(60_000), "a root and nothing": header(1), "a block of 1 GiB": append(header(1), varint(1<<30)...),
		"a block of no bytes": append(header(1), 0), "a block without CID": append(header(1), section([]byte{1})...), "blocks with wrong CIDs": append(header(1), tiny...),
		"a block of nested lists": append(header(1), section(deep)...), "zeros": make([]byte, 8<<20),
	} {
		a.send(name, "POST", "com.atproto.repo.importRepo", "", "application/vnd.ipld.car", a.user(), bytes.NewReader(file), false)
	}
}

// compression sends little that becomes much.
func (a *attack) compression() {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 64 {
		z.Write(zeros)
	}
	z.Close()
	for _, m := range []struct{ nsid, contentType string }{
		{"com.atproto.repo.uploadBlob", "text/plain"}, {"com.atproto.repo.importRepo", "application/vnd.ipld.car"}, {"com.atproto.server.createSession", "application/json"},
		{"com.atproto.repo.createRecord", "application/json"}, {"com.atproto.moderation.createReport", "application/json"},
	} {
		a.send("64 MiB in 64 KiB", "POST", m.nsid, "", m.contentType, a.user(), bytes.NewReader(bomb.Bytes()), false, "Content-Encoding", "gzip")
		a.send("a torn bomb", "POST", m.nsid, "", m.contentType, a.user(), bytes.NewReader(bomb.Bytes()[:1000]), false, "Content-Encoding", "gzip")
		a.send("no gzip", "POST", m.nsid, "", m.contentType, a.user(), strings.NewReader("no gzip"), false, "Content-Encoding", "gzip")
		a.send("an encoding that is not known", "POST", m.nsid, "", m.contentType, a.user(), strings.NewReader("x"), false, "Content-Encoding", "br, gzip")
	}
}

// dial opens a bare connection.
func (a *attack) dial() net.Conn {
	c, err := net.DialTimeout("tcp", strings.TrimPrefix(a.p.url, "http://"), time.Minute)
	if err != nil {
		a.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// streams subscribes, and then says what no subscriber should.
func (a *attack) streams() {
	for _, say := range []string{"", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\xff", 1000), "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff", "\x89\x80\x00\x00\x00\x00"} {
		for _, cursor := range []string{"", "?cursor=0", "?cursor=9223372036854775807", "?cursor=-1", "?cursor=x"} {
			a.sent++
			c := a.dial()
			fmt.Fprintf(c, "GET /xrpc/com.atproto.sync.subscribeRepos%s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n%s", cursor, say)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || res.StatusCode >= 500 {
				a.Errorf("cursor %q, %.10q: %v %v", cursor, say, res, err)
			}
			c.Close()
		}
	}
	for _, text := range []string{"\r\n\r\n", "x", "GET /xrpc/x HTTP/9.9\r\n\r\n", "GET /xrpc/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "POST /xrpc/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"POST /xrpc/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "GET /xrpc/x HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 100_000) + "\r\n\r\n"} {
		a.sent++
		c := a.dial()
		io.WriteString(c, text)
		c.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(c)
		c.Close()
		if bytes.HasPrefix(answer, []byte("HTTP/1.1 5")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 505")) || bytes.HasPrefix(answer, []byte("HTTP/1.1 2")) {
			a.Errorf("%.40q: %.100s", text, answer)
		}
	}
}

// connections opens a thousand at once, all of which are served.
func (a *attack) connections() {
	const n = 1000
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = a.dial()
		defer conns[i].Close()
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for i, c := range conns {
		a.sent++
		wg.Go(func() {
			path := "com.atproto.repo.getRecord?repo=alice.test&collection=app.bsky.actor.profile&rkey=self"
			if i%2 == 1 {
				path = "com.atproto.repo.getRecord?repo=..&collection=x"
			}
			fmt.Fprintf(c, "GET /xrpc/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
			code := 0
			if res, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
				code = res.StatusCode
			}
			mu.Lock()
			defer mu.Unlock()
			codes[code]++
		})
	}
	wg.Wait()
	if codes[200] != n/2 || codes[400] != n/2 {
		a.Errorf("answers to a thousand connections: %v", codes)
	}
}

// slowClients opens connections that send next to nothing, and stay so while everything else goes
// on. The function that it returns looks whether the server has got rid of those without a request.
func (a *attack) slowClients() func() {
	var headers, bodies []net.Conn
	for i := range 100 {
		c := a.dial()
		io.WriteString(c, "GET /xrpc/com.atproto.server.describeServer HTTP/1.1\r\nHost: local")
		headers = append(headers, c)
		c = a.dial()
		method, contentType := "com.atproto.server.createSession", "application/json"
		if i%2 == 1 {
			method, contentType = "com.atproto.repo.uploadBlob", "text/plain"
		}
		fmt.Fprintf(c, "POST /xrpc/%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\n{", method, a.user(), contentType)
		bodies = append(bodies, c)
	}
	return func() {
		for _, c := range headers {
			c.SetDeadline(time.Now().Add(time.Minute))
			if answer, err := io.ReadAll(c); err != nil || bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
				a.Errorf("a client that never asks: %.100s %v", answer, err)
			}
		}
		for _, c := range append(headers, bodies...) {
			c.Close()
		}
	}
}
