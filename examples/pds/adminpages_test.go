package main_test

import (
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// visitor is a browser.
type visitor struct {
	t      *testing.T
	origin string
	http   http.Client
	text   string // of the last page
}

func newVisitor(t *testing.T, origin string) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, origin: origin, http: http.Client{Jar: jar}}
}

func (v *visitor) do(method, path string, form url.Values) (status int) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.origin+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if method == "POST" {
		r.Header.Set("Origin", v.origin)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.http.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	v.text = html.UnescapeString(string(text))
	return resp.StatusCode
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)">`)

// submit sends the form of the last page.
func (v *visitor) submit(path string, form url.Values) int {
	v.t.Helper()
	for _, m := range hidden.FindAllStringSubmatch(v.text, -1) {
		form.Set(m[1], m[2])
	}
	return v.do("POST", path, form)
}

func (v *visitor) has(texts ...string) {
	v.t.Helper()
	for _, text := range texts {
		if !strings.Contains(v.text, text) {
			v.t.Errorf("no %q in %s", text, v.text)
		}
	}
}

// The administrator sees the server, its backups, and an account, and takes it down, by the pages of a
// server that runs.
func TestAdminPages(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	o := newOperator(t, dir, p.port())
	alice := p.register("alice")
	o.ok(nil, "backup", filepath.Join(t.TempDir(), "backups"))
	var secrets struct{ AdminPassword string }
	text, err := os.ReadFile(filepath.Join(dir, "secrets.json"))
	if err == nil {
		err = json.Unmarshal(text, &secrets)
	}
	if err != nil || secrets.AdminPassword == "" {
		t.Fatal(err)
	}
	v := newVisitor(t, p.url)
	if v.do("GET", "/admin", nil) != 200 {
		t.Fatal(v.text)
	}
	if status := v.submit("/admin/sign-in", url.Values{"password": {"wrong"}}); status != 401 {
		t.Errorf("%d %s", status, v.text)
	}
	v.submit("/admin/sign-in", url.Values{"password": {secrets.AdminPassword}})
	v.has("The server works.", "pds.sqlite", " s ago")
	v.do("GET", "/admin/backups", nil)
	v.has("pds backup DIRECTORY", "/backups")
	did := url.QueryEscape(string(alice.DID))
	v.do("GET", "/admin/act/takedown?of="+did, nil)
	if status := v.submit("/admin/act/takedown", url.Values{"value": {"case 7"}}); status != 200 {
		t.Errorf("%d %s", status, v.text)
	}
	v.has("taken down", "case 7")
	fails(t, alice.note("no more"), 401, "AccountTakedown")
	v.do("GET", "/admin/trail", nil)
	v.has("com.atproto.admin.updateSubjectStatus", "sign-in")
	var r checkReport
	if o.ok(&r, "check"); r.Found != 0 {
		t.Errorf("%+v", r)
	}
	p.interrupt()

	p = start(t, dir, "PDS_ADMIN_PAGES=false")
	if status := newVisitor(t, p.url).do("GET", "/admin", nil); status != 404 {
		t.Errorf("turned off: %d", status)
	}
}
