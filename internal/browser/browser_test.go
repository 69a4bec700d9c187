package browser_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/internal/testenv"
)

var chromium browser.Chromium

func TestMain(m *testing.M) { chromium.Main(m) }

// policy is that of the pages below: scripts of the site, and nothing in line.
const policy = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'"

const form = `<!DOCTYPE html><html lang=en><meta name=viewport content="width=device-width"><title>Form</title>
<main><h1>Form</h1><form method=post>
<p><label for=n>Name</label> <input id=n name=name autofocus></p>
<p><label><input type=checkbox name=box> Keep</label></p>
<p><label>Colour <select name=colour><option>red<option>blue</select></label></p>
<p><button>Send</button> <button name=other value=yes>Send all</button></p></form>
<p><a href="/slow">Slow</a></p><p id=script>no script</p></main><script src="/script.js"></script></html>`

// site is what the browser looks at.
func site() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /form", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		http.SetCookie(w, &http.Cookie{Name: "__Host-id", Value: "1", Path: "/", Secure: true, HttpOnly: true})
		io.WriteString(w, form)
	})
	mux.HandleFunc("POST /form", func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		c, _ := r.Cookie("__Host-id")
		fmt.Fprintf(w, "<!DOCTYPE html><title>Sent</title><p>%s %s %v %s at %s</p>", r.Header.Get("Origin"), r.Form.Encode(), c, r.Header.Get("Accept-Language"), r.Host)
	})
	mux.HandleFunc("GET /script.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		io.WriteString(w, "document.getElementById('script').textContent = 'scripted'")
	})
	mux.HandleFunc("GET /bad", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		io.WriteString(w, `<!DOCTYPE html><title></title><div style="width:700px"><img src="/x.png"><input></div><script>alert(1)</script><script src="/throws.js"></script>`)
	})
	mux.HandleFunc("GET /throws.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		io.WriteString(w, "console.error('a', 1); throw new Error('thrown')")
	})
	return mux
}

// dial reaches a server under any name.
func dial(s *httptest.Server) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.HasSuffix(address, ".test:443") {
			return nil, fmt.Errorf("no site %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
	}
}

func TestForm(t *testing.T) {
	s := httptest.NewServer(site())
	defer s.Close()
	for _, noScript := range []bool{false, true} {
		tab := chromium.Tab(t, browser.Options{Dial: dial(s), NoScript: noScript, Language: "de"})
		tab.Goto("https://a.test/form")
		if got, want := tab.TextOf("#script"), map[bool]string{false: "scripted", true: "no script"}[noScript]; got != want {
			t.Errorf("script: %q, want %q", got, want)
		}
		if tab.Status() != 200 || tab.Header("content-security-policy") != policy || tab.Cookie("__Host-id") != "1" {
			t.Errorf("%d %q %v", tab.Status(), tab.Header("content-security-policy"), tab.Cookies())
		}
		tab.Fill("Name", "first")
		tab.Fill("#n", "Grüße & 1")
		tab.Check("Keep", true)
		tab.Select("Colour", "blue")
		tab.Submit("Send")
		if got, want := tab.Text(), "https://a.test box=on&colour=blue&name=Gr%C3%BC%C3%9Fe+%26+1 __Host-id=1 de at a.test"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		tab.Back()
		tab.WaitFor("[name=other]")
		tab.Goto(s.URL + "/form") // of this machine
		tab.Fill("Name", "x")
		tab.Enter()
		tab.WaitFor("name=x")
	}
}

// Two tabs of a profile share cookies, two profiles do not.
func TestProfiles(t *testing.T) {
	s := httptest.NewServer(site())
	defer s.Close()
	one, other := chromium.Tab(t, browser.Options{Dial: dial(s)}), chromium.Tab(t, browser.Options{Dial: dial(s)})
	one.Goto("https://a.test/form")
	one.SetCookie("__Host-id", "planted")
	same := one.Another()
	same.Goto("https://a.test/script.js")
	other.Goto("https://a.test/script.js")
	if a, b := same.Cookie("__Host-id"), other.Cookie("__Host-id"); a != "planted" || b != "" {
		t.Errorf("%q %q", a, b)
	}
	one.ForgetCookies()
	if c := same.Cookie("__Host-id"); c != "" {
		t.Error(c)
	}
}

func TestKeyboard(t *testing.T) {
	s := httptest.NewServer(site())
	defer s.Close()
	tab := chromium.Tab(t, browser.Options{Dial: dial(s)})
	tab.Goto("https://a.test/form")
	var names []string
	for _, f := range tab.TabOrder() {
		names = append(names, f.Name)
		if !f.Visible {
			t.Errorf("the focus on %q is not visible", f.Name)
		}
	}
	if want := []string{"Name", "Keep", "Colour redblue", "Send", "Send all", "Slow"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	tab.FocusStart()
	tab.Press("Tab")
	tab.Type("by hand")
	tab.Press("Tab")
	tab.Press("Space")
	tab.Press("Tab")
	tab.Press("Tab")
	tab.Press("Tab")
	tab.Press("Shift+Tab")
	tab.Enter()
	tab.WaitFor("box=on&colour=red&name=by+hand")
}

// What is wrong in a page is found.
func TestProblems(t *testing.T) {
	s := httptest.NewServer(site())
	defer s.Close()
	tab := chromium.Tab(t, browser.Options{Dial: dial(s), Width: 320})
	tab.Goto("https://a.test/bad")
	if list := tab.TooWide(); len(list) == 0 || !strings.Contains(list[0], "700px") {
		t.Errorf("too wide: %q", list)
	}
	found := strings.Join(tab.Problems(), "\n")
	for _, want := range []string{"Content Security Policy", "/x.png", `console: "a" 1`, "Error: thrown"} {
		if !strings.Contains(found, want) {
			t.Errorf("no %q in %s", want, found)
		}
	}
	axe := strings.Join(tab.Axe(), "\n")
	for _, want := range []string{"image-alt (critical)", "html-has-lang", "document-title", "label (critical)"} {
		if !strings.Contains(axe, want) {
			t.Errorf("no %q in %s", want, axe)
		}
	}
	tab.Goto("https://a.test/nothing")
	if tab.Status() != 404 || len(tab.Problems()) > 0 {
		t.Error(tab.Status())
	}
	tab.Goto("https://a.test/form")
	tab.Audit("form")
}

// The browser makes passkeys for the sites of the test's network.
func TestAuthenticator(t *testing.T) {
	s := httptest.NewServer(site())
	defer s.Close()
	tab := chromium.Tab(t, browser.Options{Dial: dial(s)})
	keys := tab.Authenticator()
	tab.Goto("https://pds.a.test/form")
	const create = `navigator.credentials.create({publicKey: {challenge: new Uint8Array(32), rp: {id: 'pds.a.test', name: 'x'}, user: {id: new Uint8Array([7]), name: 'alice', displayName: 'Alice'},
pubKeyCredParams: [{type: 'public-key', alg: -7}], authenticatorSelection: {residentKey: 'required', userVerification: 'required'}}}).then(c => c.id, e => String(e))`
	var id, got string
	tab.Eval(create, &id)
	list := keys.Credentials()
	if len(list) != 1 || list[0].RpID != "pds.a.test" || string(list[0].UserHandle) != "\x07" {
		t.Fatalf("%s: %+v", id, list)
	}
	const get = `navigator.credentials.get({publicKey: {challenge: new Uint8Array(32), rpId: 'pds.a.test', userVerification: 'required'}}).then(c => c.id, e => e.name)`
	if tab.Eval(get, &got); got != id {
		t.Errorf("%s, want %s", got, id)
	}
	keys.Verify(false)
	if tab.Eval(get, &got); got != "NotAllowedError" {
		t.Errorf("not verified: %s", got)
	}
	keys.Verify(true)
	keys.Clear()
	if tab.Eval(get, &got); got != "NotAllowedError" {
		t.Errorf("no passkey: %s", got)
	}
	other := chromium.Tab(t, browser.Options{Dial: dial(s)}).Authenticator()
	other.Add(list[0])
	if len(other.Credentials()) != 1 {
		t.Error("the passkey was not copied")
	}
}

// Nothing is left of a browser that has ended.
func TestClose(t *testing.T) {
	var c browser.Chromium
	tab := c.Tab(t, browser.Options{})
	var line string
	tab.Goto("about:blank?")
	// The command line of one of its processes names its folder.
	processes := func() (list []string) {
		out, err := exec.Command("ps", "-eo", "ppid,args").Output()
		if err != nil {
			testenv.Missing(t, "ps: %v", err)
		}
		for l := range strings.Lines(string(out)) {
			if strings.HasPrefix(strings.TrimSpace(l), fmt.Sprint(os.Getpid())+" ") && strings.Contains(l, "--user-data-dir=") {
				list = append(list, l)
			}
		}
		return list
	}
	before := processes()
	for _, l := range before {
		line += l
	}
	_, dir, ok := strings.Cut(before[len(before)-1], "--user-data-dir=")
	if !ok {
		t.Fatal(line)
	}
	dir = strings.Fields(dir)[0]
	c.Close()
	if after := processes(); len(after) >= len(before) {
		t.Errorf("%d processes before, %d after", len(before), len(after))
	}
	if _, err := os.Stat(filepath.Clean(dir)); !os.IsNotExist(err) {
		t.Errorf("%s: %v", dir, err)
	}
}
