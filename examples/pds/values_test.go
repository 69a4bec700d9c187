package main_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"
)

// TestNamesInAnotherCaseOrTwice: what was validated is what is done.
func TestNamesInAnotherCaseOrTwice(t *testing.T) {
	const secret = "a secret for session tokens of 32 bytes"
	b := newSandbox(t, "PDS_JWT_SECRET="+secret)
	alice := b.register("alice")
	did, token := string(alice.DID), "Bearer "+alice.AccessJWT
	post := func(method, token, body string, args ...any) (status int, name, text string) {
		t.Helper()
		return request(t, "POST", b.url+"/xrpc/"+method, "application/json", token, strings.NewReader(fmt.Sprintf(body, args...)))
	}
	records := func(collection string) int {
		t.Helper()
		var out struct {
			Records []any `json:"records"`
		}
		q := url.Values{"repo": {did}, "collection": {collection}}
		if err := b.anonymous().Query(t.Context(), "com.atproto.repo.listRecords", q, &out); err != nil {
			t.Fatal(err)
		}
		return len(out.Records)
	}
	// The second spelling is an unknown member.
	if status, _, text := post("com.atproto.repo.createRecord", token, `{"repo":%q,"collection":"com.example.note","Collection":"com.example.other","record":{},"Record":{"x":1},"rkey":"a","RKEY":"b"}`, did); status != 200 || !strings.Contains(text, "/com.example.note/a") {
		t.Errorf("create: %d %s", status, text)
	}
	if status, _, text := post("com.atproto.repo.putRecord", token, `{"Repo":"did:web:nobody.example","repo":%q,"collection":"com.example.note","\u0043ollection":"com.example.other","record":{},"rkey":"c"}`, did); status != 200 || !strings.Contains(text, "/com.example.note/c") {
		t.Errorf("put: %d %s", status, text)
	}
	if status, _, text := post("com.atproto.repo.applyWrites", token, `{"repo":%q,"writes":[{"$type":"com.atproto.repo.applyWrites#create","$TYPE":"com.atproto.repo.applyWrites#delete","collection":"com.example.note","COLLECTION":"com.example.other","rkey":"d","value":{},"Value":{"$type":"com.example.other"}}],"Writes":[]}`, did); status != 200 || !strings.Contains(text, "/com.example.note/d") {
		t.Errorf("apply: %d %s", status, text)
	}
	if status, _, text := post("com.atproto.repo.deleteRecord", token, `{"repo":%q,"collection":"com.example.note","rkey":"a","Rkey":"c"}`, did); status != 200 {
		t.Errorf("delete: %d %s", status, text)
	}
	if n, other := records("com.example.note"), records("com.example.other"); n != 2 || other != 0 {
		t.Errorf("%d notes and %d others", n, other)
	}
	// A name that is there only in another case is missing; a name that is there twice is an error.
	for _, tt := range [][2]string{
		{"com.atproto.repo.createRecord", `{"repo":%q,"Collection":"com.example.note","record":{}}`},
		{"com.atproto.repo.createRecord", `{"repo":%q,"collection":"com.example.note","collection":"com.example.other","record":{}}`},
		{"com.atproto.repo.createRecord", `{"repo":%q,"collection":"com.example.note","\u0063ollection":"com.example.other","record":{}}`},
		{"com.atproto.repo.createRecord", `{"repo":%q,"collection":"com.example.note","record":{"a":[{"b":1,"b":2}]}}`},
		{"com.atproto.repo.applyWrites", `{"repo":%q,"writes":[{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.note","collection":"com.example.other","value":{}}]}`},
		{"app.bsky.actor.putPreferences", `{"x":%q,"preferences":[{"$type":"app.bsky.x","a":1,"a":2}]}`},
	} {
		if status, name, text := post(tt[0], token, tt[1], did); status != 400 || name != "InvalidRequest" {
			t.Errorf("%s: %d %s", tt[1], status, text)
		}
	}
	if status, _, text := post("com.atproto.server.createSession", "", `{"identifier":"alice.test","password":"password of alice","Password":"x","IDENTIFIER":"bob.test"}`); status != 200 {
		t.Errorf("login: %d %s", status, text)
	}
	// A part of a body that is decoded later.
	admin := b.admin()
	r, _ := http.NewRequest("POST", b.url, nil)
	if err := admin.Authorize(r); err != nil {
		t.Fatal(err)
	}
	if status, _, text := post("com.atproto.admin.updateSubjectStatus", r.Header.Get("Authorization"), `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","DID":%q},"takedown":{"applied":true}}`, did); status == 200 {
		t.Errorf("takedown: %d %s", status, text)
	}
	if _, err := b.login(t, "alice.test", "password of alice"); err != nil {
		t.Errorf("taken down by another name of a member: %v", err)
	}
	// Session tokens, should anybody have the secret's signature on such text.
	now := time.Now()
	sign := func(head, claims string) string {
		text := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		h := hmac.New(sha256.New, []byte(secret))
		io.WriteString(h, text)
		return "Bearer " + text + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	}
	const head = `{"typ":"at+jwt","alg":"HS256"}`
	claims := fmt.Sprintf(`{"scope":"com.atproto.access","aud":"did:web:localhost","sub":%q,"iat":%d,"exp":%d}`, did, now.Unix(), now.Add(time.Hour).Unix())
	if _, was, ok := strings.Cut(alice.AccessJWT, "."); ok {
		part, _, _ := strings.Cut(was, ".")
		text, _ := base64.RawURLEncoding.DecodeString(part)
		claims = string(text) // whatever else the server puts there
	}
	for name, tt := range map[string]struct {
		head, claims string
		ok           bool
	}{
		"good":                      {head, claims, true},
		"a claim in another case":   {head, strings.Replace(claims, `"scope"`, `"Scope"`, 1), false},
		"a claim in two cases":      {head, strings.Replace(claims, `{`, `{"SUB":"did:web:x.example","Scope":"com.atproto.refresh",`, 1), true},
		"a claim twice":             {head, strings.Replace(claims, `{`, `{"sub":"did:web:x.example",`, 1), false},
		"an unknown claim twice":    {head, strings.Replace(claims, `{`, `{"x":1,"x":1,`, 1), false},
		"a header twice":            {`{"typ":"at+jwt","alg":"none","alg":"HS256"}`, claims, false},
		"a header in another case":  {`{"typ":"at+jwt","ALG":"HS256"}`, claims, false},
		"an unknown header twice":   {`{"typ":"at+jwt","alg":"HS256","x":1,"x":2}`, claims, false},
		"a header that is no JSON":  {`{"typ":"at+jwt","alg":"HS256"} x`, claims, false},
		"claims that are not UTF-8": {head, strings.Replace(claims, `{`, "{\"x\":\"\xff\",", 1), false},
	} {
		if status, _, text := request(t, "GET", b.url+"/xrpc/com.atproto.server.getSession", "", sign(tt.head, tt.claims), nil); (status == 200) != tt.ok {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}

// encoded applies content codings to a text.
func encoded(t *testing.T, text string, codings ...string) []byte {
	t.Helper()
	out := []byte(text)
	for _, c := range codings {
		var b bytes.Buffer
		var w io.WriteCloser
		switch strings.ToLower(strings.TrimSpace(c)) {
		case "gzip", "x-gzip":
			w = gzip.NewWriter(&b)
		case "deflate":
			w = zlib.NewWriter(&b)
		case "raw":
			w, _ = flate.NewWriter(&b, flate.BestSpeed)
		case "br":
			w = brotli.NewWriter(&b)
		default:
			continue
		}
		w.Write(out)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out = b.Bytes()
	}
	return out
}

func TestContentCodings(t *testing.T) {
	b := newSandbox(t)
	alice := b.register("alice")
	send := func(body []byte, headers ...string) (status int) {
		t.Helper()
		r, err := http.NewRequest("POST", b.url+"/xrpc/com.atproto.repo.createRecord", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "bearer  "+alice.AccessJWT)
		for _, h := range headers {
			r.Header.Add("Content-Encoding", h)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	text := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","record":{"text":%q}}`, alice.DID, strings.Repeat("x", 1000))
	for name, tt := range map[string]struct {
		codings, headers []string
		want             int
	}{
		"gzip":                      {[]string{"gzip"}, []string{"gzip"}, 200},
		"in capitals":               {[]string{"gzip"}, []string{"GZIP"}, 200},
		"x-gzip":                    {[]string{"gzip"}, []string{"x-GZip"}, 200},
		"deflate":                   {[]string{"deflate"}, []string{"Deflate"}, 200},
		"deflate without zlib":      {[]string{"raw"}, []string{"deflate"}, 200},
		"br":                        {[]string{"br"}, []string{"BR"}, 200},
		"a list":                    {[]string{"gzip", "br"}, []string{"gzip, br"}, 200},
		"a list in several headers": {[]string{"deflate", "gzip", "br"}, []string{"deflate,gzip", " br"}, 200},
		"a list in another order":   {[]string{"gzip", "br"}, []string{"br, gzip"}, 400},
		"identity in a list":        {[]string{"gzip"}, []string{"identity, gzip,, Identity"}, 200},
		"nothing, and says so":      {nil, []string{"Identity"}, 200},
		"nothing in a list":         {nil, []string{" , "}, 200},
		"twice the same":            {[]string{"gzip", "gzip"}, []string{"gzip,gzip"}, 200},
		"too many":                  {[]string{"gzip", "gzip", "gzip", "gzip", "gzip"}, []string{"gzip,gzip,gzip,gzip,gzip"}, 415},
		"unknown":                   {nil, []string{"zstd"}, 415},
		"unknown in a list":         {[]string{"gzip"}, []string{"compress, gzip"}, 415},
		"none that says br":         {nil, []string{"br"}, 400},
		"none that says deflate":    {nil, []string{"deflate"}, 400},
	} {
		if status := send(encoded(t, text, tt.codings...), tt.headers...); status != tt.want {
			t.Errorf("%s: status %d, want %d", name, status, tt.want)
		}
	}
	bomb := strings.Repeat(" ", 64<<20) + text
	for _, codings := range [][]string{{"gzip"}, {"br"}, {"deflate"}, {"raw"}, {"gzip", "gzip"}, {"br", "gzip"}} {
		header := strings.Replace(strings.Join(codings, ","), "raw", "deflate", 1)
		if status := send(encoded(t, bomb, codings...), header); status != 413 {
			t.Errorf("a bomb in %v: %d", codings, status)
		}
		broken := encoded(t, text, codings...)
		if status := send(broken[:len(broken)*2/3], header); status != 400 {
			t.Errorf("broken off in %v: %d", codings, status)
		}
		if status := send(append(encoded(t, text, codings...), "more"...), header); status != 400 {
			t.Errorf("more after the end of %v: %d", codings, status)
		}
	}
}

// TestSpellings has what clients and proxies send that means the same.
func TestSpellings(t *testing.T) {
	b := newSandbox(t)
	alice := b.register("alice")
	do := func(method, path, contentType, auth, body string) (int, http.Header) {
		t.Helper()
		r, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range map[string]string{"Content-Type": contentType, "Authorization": auth} {
			if v != "" {
				r.Header.Set(name, v)
			}
		}
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode, res.Header
	}
	note := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","record":{}}`, alice.DID)
	token := alice.AccessJWT
	const create, repos = "/xrpc/com.atproto.repo.createRecord", "/xrpc/com.atproto.sync.listRepos"
	records := "/xrpc/com.atproto.repo.listRecords?repo=" + string(alice.DID) + "&collection=com.example.note"
	for _, tt := range []struct {
		method, path, contentType, auth, body string
		want                                  int
	}{
		{"POST", create + "/", "application/json", "Bearer " + token, note, 200},
		{"GET", repos + "/", "", "", "", 200},
		{"GET", repos + "/?limit=1", "", "", "", 200},
		{"HEAD", repos + "/", "", "", "", 200},
		{"GET", "/xrpc/_health/", "", "", "", 200},
		{"GET", "/xrpc/_health//", "", "", "", 400},
		{"POST", create + "//", "application/json", "Bearer " + token, note, 400},
		{"GET", repos + "//?limit=1", "", "", "", 400},
		{"GET", "/xrpc/com.atproto.sync%2elistRepos", "", "", "", 200},
		{"GET", "/xrpc//com.atproto.sync.listRepos", "", "", "", 400},
		{"POST", "/xrpc//com.atproto.repo.createRecord", "application/json", "Bearer " + token, note, 400},
		{"GET", "/xrpc/./com.atproto.sync.listRepos", "", "", "", 400},
		{"GET", "/xrpc/", "", "", "", 400},
		{"HEAD", "/", "", "", "", 200},
		{"HEAD", "/.well-known/did.json", "", "", "", 200},
		{"HEAD", create, "", "", "", 405},
		{"GET", repos + "/x", "", "", "", 400},
		{"POST", create, "Application/JSON", "Bearer " + token, note, 200},
		{"POST", create, "application/json;charset=UTF-8", "BEARER " + token, note, 200},
		{"POST", create, "application/json; charset=utf-8;", "bearer   " + token + " ", note, 200},
		{"POST", create, "text/plain", "Bearer " + token, note, 400},
		{"POST", create, "application", "Bearer " + token, note, 400},
		{"POST", "/xrpc/com.atproto.server.deactivateAccount", "application/json", "Bearer " + token, "", 200},
		{"POST", "/xrpc/com.atproto.server.activateAccount", "", "Bearer " + token, "", 200},
		{"GET", records + "&reverse=true&unknown=1&unknown=2", "", "", "", 200},
		{"GET", records + "&reverse=false&limit=", "", "", "", 200},
		{"GET", records + "&reverse=yes", "", "", "", 400},
		{"GET", records + "&limit=1&limit=2", "", "", "", 400},
		{"GET", "/xrpc/com.atproto.sync.getRepoStatus?did=" + url.QueryEscape(string(alice.DID)), "", "", "", 200},
		{"OPTIONS", create, "", "", "", 204},
		{"OPTIONS", repos + "/", "", "", "", 204},
		{"OPTIONS", "/xrpc/_health", "", "", "", 204},
		{"OPTIONS", "/xrpc/app.bsky.feed.getTimeline", "", "", "", 204},
		{"OPTIONS", "/.well-known/did.json", "", "", "", 204},
		{"OPTIONS", "/.well-known/atproto-did", "", "", "", 204},
		{"OPTIONS", "/", "", "", "", 204},
		{"OPTIONS", "/robots.txt", "", "", "", 204},
		{"OPTIONS", "/nothing/here", "", "", "", 204},
		{"OPTIONS", "/xrpc", "", "", "", 204},
		{"OPTIONS", "/xrpc//x/", "", "", "", 204},
	} {
		status, header := do(tt.method, tt.path, tt.contentType, tt.auth, tt.body)
		if status != tt.want {
			t.Errorf("%s %s (%q): status %d, want %d", tt.method, tt.path, tt.contentType, status, tt.want)
		}
		if tt.method == "OPTIONS" && (header.Get("Access-Control-Allow-Origin") != "*" || header.Get("Access-Control-Allow-Methods") == "") {
			t.Errorf("OPTIONS %s: %v", tt.path, header)
		}
	}
}

// TestMailTokenSpellings: people type tokens.
func TestMailTokenSpellings(t *testing.T) {
	b := newSandbox(t)
	for i, spell := range []func(string) string{
		func(s string) string { return strings.ReplaceAll(s, "-", "") },
		strings.ToLower,
		func(s string) string { return "\t" + strings.ToLower(strings.ReplaceAll(s, "-", "")) + " \r\n" },
		func(s string) string { return strings.ReplaceAll(s, "-", " - ") },
		func(s string) string { return strings.ReplaceAll(s, "-", "\u2011") }, // a hyphen that does not break
		func(s string) string { return "\u00a0" + strings.ReplaceAll(s, "-", "\u2013") + "\u200b" },
	} {
		u := b.register(fmt.Sprintf("user%d", i))
		address := fmt.Sprintf("user%d@example.com", i)
		u.call(t, "com.atproto.server.requestEmailConfirmation", nil, nil)
		token := b.token(t, address)
		confirm := func(token string) error {
			return u.Procedure(t.Context(), "com.atproto.server.confirmEmail", map[string]any{"email": address, "token": token}, nil)
		}
		for _, wrong := range []string{"", "-", token[:5], token + "A", token + token, strings.Repeat("A", 1<<12)} {
			if err := confirm(wrong); err == nil {
				t.Fatalf("%q is good", wrong)
			}
		}
		if err := confirm(spell(token)); err != nil {
			t.Errorf("%q: %v", spell(token), err)
		}
		if err := b.anonymous().Procedure(t.Context(), "com.atproto.server.requestPasswordReset", map[string]any{"email": address}, nil); err != nil {
			t.Fatal(err)
		}
		in := map[string]any{"token": spell(b.token(t, address)), "password": "another password"}
		if err := b.anonymous().Procedure(t.Context(), "com.atproto.server.resetPassword", in, nil); err != nil {
			t.Errorf("reset with %q: %v", in["token"], err)
		}
		// The other purposes.
		u, err := b.login(t, address, "another password")
		if err != nil {
			t.Error(err)
			continue
		}
		u.call(t, "com.atproto.server.requestEmailUpdate", nil, nil)
		in = map[string]any{"token": spell(b.token(t, address)), "email": "new-" + address}
		if err := u.Procedure(t.Context(), "com.atproto.server.updateEmail", in, nil); err != nil {
			t.Errorf("change of address with %q: %v", in["token"], err)
		}
		u.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
		in = map[string]any{"token": spell(b.token(t, "new-"+address))}
		if err := u.Procedure(t.Context(), "com.atproto.identity.signPlcOperation", in, nil); err != nil {
			t.Errorf("operation with %q: %v", in["token"], err)
		}
		u.call(t, "com.atproto.server.requestAccountDelete", nil, nil)
		in = map[string]any{"token": spell(b.token(t, "new-"+address)), "did": u.DID, "password": "another password"}
		if err := b.anonymous().Procedure(t.Context(), "com.atproto.server.deleteAccount", in, nil); err != nil {
			t.Errorf("deletion with %q: %v", in["token"], err)
		}
	}
}

// TestPreferencesAreJSON: preferences are no records. What comes back is what was put, number by
// number.
func TestPreferencesAreJSON(t *testing.T) {
	b := newSandbox(t)
	alice := b.register("alice")
	pref := `{"$type":"app.bsky.actor.defs#newPref","half":0.5,"large":12345678901234567890,"larger":1e400,"tiny":-1.5E-10,"one":1.0,"zero":-0,"max":9007199254740993,
		"list":[0.1,[2.50,{"x":3e2}]],"text":"<&>\u2028 \ud83d","$link":"no link","bytes":{"$bytes":7},"null":null,"Upper":1,"upper":2}`
	feeds := `{"$type":"app.bsky.actor.defs#savedFeedsPrefV2","items":[{"id":"1","type":"feed","value":"at://a","pinned":true,"weight":0.25}]}`
	age := `{"$type":"app.bsky.actor.defs#personalDetailsPref","birthDate":"1990-01-01T00:00:00Z","score":1.25}`
	put := func(body string) (int, string) {
		status, _, text := request(t, "POST", b.url+"/xrpc/app.bsky.actor.putPreferences", "application/json", "Bearer "+alice.AccessJWT, strings.NewReader(body))
		return status, text
	}
	for range 2 {
		if status, text := put(`{"preferences":[` + pref + `,` + feeds + `,` + age + `]}`); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		var out struct {
			Preferences []json.RawMessage `json:"preferences"`
		}
		if err := alice.Query(t.Context(), "app.bsky.actor.getPreferences", nil, &out); err != nil || len(out.Preferences) != 4 {
			t.Fatal(err, len(out.Preferences))
		}
		for i, want := range []string{pref, feeds, age} {
			if diff := cmp.Diff(exactly(t, want), exactly(t, string(out.Preferences[i]))); diff != "" {
				t.Error(diff)
			}
		}
	}
	for name, body := range map[string]string{
		"a name twice":          `{"preferences":[{"$type":"app.bsky.x","a":1,"a":2}]}`,
		"a known one is wrong":  `{"preferences":[{"$type":"app.bsky.actor.defs#adultContentPref","enabled":1.5}]}`,
		"half of an integer":    `{"preferences":[{"$type":"app.bsky.actor.defs#threadViewPref","sort":7.5}]}`,
		"no list":               `{"preferences":{"a":1.5}}`,
		"no number":             `{"preferences":[{"$type":"app.bsky.x","a":01}]}`,
		"more after the end":    `{"preferences":[]} 1.5`,
		"nested without an end": `{"preferences":[{"$type":"app.bsky.x","a":` + strings.Repeat("[", 50_000),
		"not UTF-8":             "{\"preferences\":[{\"$type\":\"app.bsky.x\",\"a\":\"\xff\"}]}",
	} {
		if status, text := put(body); status != 400 {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}

// exactly reads JSON with its numbers as they are written.
func exactly(t *testing.T, text string) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestBlobGetsTheLatestType: an upload that was declared wrongly may be declared again, until a
// record refers to it.
func TestBlobGetsTheLatestType(t *testing.T) {
	b := newSandbox(t)
	alice := b.register("alice")
	content := []byte("1\n00:00:01,000 --> 00:00:02,000\nhello\n")
	up := func(contentType, want string) blob {
		t.Helper()
		x, err := alice.upload(t, contentType, content)
		if err != nil || x.MIME != want {
			t.Fatalf("uploaded as %s: %+v, %v", contentType, x, err)
		}
		return x
	}
	write := func(rkey string, x blob) error {
		return alice.Procedure(t.Context(), "com.atproto.repo.putRecord", map[string]any{
			"repo": alice.DID, "collection": "com.example.file", "rkey": rkey, "record": map[string]any{"file": x}}, nil)
	}
	served := func(x blob, want string) {
		t.Helper()
		res, err := b.anonymous().Get(t.Context(), "com.atproto.sync.getBlob", url.Values{"did": {string(alice.DID)}, "cid": {x.Ref.Link}})
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Content-Type"); got != want {
			t.Errorf("served as %s, want %s", got, want)
		}
	}
	plain := up("text/plain", "text/plain")
	vtt := up("text/vtt; charset=utf-8", "text/vtt")
	fails(t, write("a", plain), 400, "InvalidMimeType") // the latest counts
	if err := write("a", vtt); err != nil {
		t.Fatal(err)
	}
	served(vtt, "text/vtt")
	up("text/plain", "text/vtt") // a record refers to it now
	served(vtt, "text/vtt")
	if err := alice.Procedure(t.Context(), "com.atproto.repo.deleteRecord", map[string]any{"repo": alice.DID, "collection": "com.example.file", "rkey": "a"}, nil); err != nil {
		t.Fatal(err)
	}
	srt := up("application/x-subrip", "application/x-subrip") // and no longer
	fails(t, write("b", vtt), 400, "InvalidMimeType")
	short := srt
	short.Size--
	fails(t, write("b", short), 400, "InvalidSize")
	if err := write("b", srt); err != nil {
		t.Fatal(err)
	}
	served(srt, "application/x-subrip")
	if err := write("c", vtt); err != nil { // a record has the blob: what others say of it is their own matter
		t.Error(err)
	}
	served(srt, "application/x-subrip")
	for _, malformed := range []string{"text", "text/", "/plain", "te xt/plain", "text/plain/x", "image/*", "*", "text/" + strings.Repeat("x", 200), "text/pl\u00e4in", strings.Repeat("a", 5000)} {
		_, err := alice.upload(t, malformed, content)
		fails(t, err, 400, "InvalidRequest")
	}
}
