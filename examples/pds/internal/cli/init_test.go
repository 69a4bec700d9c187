package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/setup"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testplc"
)

// here is a DNS in which every name leads to this machine.
type here struct{}

func (here) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
}

// newcomer runs init in a clean directory.
type newcomer struct {
	t        *testing.T
	dir      string
	env      []string
	in       string
	terminal bool
}

func newNewcomer(t *testing.T) *newcomer {
	t.Helper()
	directory := testplc.Start(t, plctest.Config{})
	return &newcomer{t: t, dir: t.TempDir(), env: []string{"PDS_DID_PLC_URL=" + directory.URL, "PDS_LOG_LEVEL=off", "PDS_METRICS_ADDRESS=localhost:0"}}
}

func (n *newcomer) run(args ...string) (stdout, stderr string, code int) {
	n.t.Helper()
	var out, errs bytes.Buffer
	args = append(append([]string{"init"}, args...), "-config", n.dir, "-data", filepath.Join(n.dir, "data"), "-backups", filepath.Join(n.dir, "backups"), "-units", filepath.Join(n.dir, "units"))
	code = Run(n.t.Context(), args, IO{
		Environ: n.env, In: strings.NewReader(n.in), Stdout: &out, Stderr: &errs, Terminal: n.terminal,
		Machine: setup.Machine{DNS: here{}, Time: []string{}, Listen: func(string) error { return nil }},
	})
	return out.String(), errs.String(), code
}

func (n *newcomer) file(name string) string {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil {
		n.t.Fatal(err)
	}
	return string(text)
}

// A first start that fails takes nothing with it; run again, init makes the account and shows its
// password; and once more, it makes none and changes nothing.
func TestInit(t *testing.T) {
	n := newNewcomer(t)
	other := httptest.NewServer(http.NotFoundHandler()) // another program has the port
	port := strings.TrimPrefix(other.URL, "http://127.0.0.1:")
	args := []string{"-yes", "-hostname", "pds.site.test", "-tls", "caddy", "-email", "me@site.test", "-handle", "alice", "-port", port, "-network=false"}
	out, errs, code := n.run(args...)
	if code != ExitFailed || !strings.Contains(errs, "the server does not start, so that there is no account yet: PDS_PORT, PDS_BIND_ADDRESS: cannot listen") || strings.Contains(out+errs, "shown only now") {
		t.Errorf("while the port is taken: %d\n%s%s", code, out, errs)
	}
	other.Close()
	out, errs, code = n.run(args...)
	if code != ExitOK || !strings.Contains(out, "alice.pds.site.test (did:plc:") || !strings.Contains(out, "(shown only now)") || !strings.Contains(out, "https://pds.site.test/account") {
		t.Fatalf("%d\n%s%s", code, out, errs)
	}
	if info, err := os.Stat(filepath.Join(n.dir, "pds.env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	// The operator's changes stay, unless they are to be replaced, and then they are kept beside.
	edited := n.file("pds.env") + "PDS_SERVICE_NAME=Mine\n"
	if err := os.WriteFile(filepath.Join(n.dir, "pds.env"), []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	var result initResult
	out, errs, code = n.run("-yes", "-json")
	if err := json.Unmarshal([]byte(out), &result); err != nil || code != ExitOK {
		t.Fatalf("%d, %v\n%s%s", code, err, out, errs)
	}
	if a := result.Account; a == nil || a.Password != "" || a.Invite != "" || result.Files[filepath.Join(n.dir, "pds.env")] != setup.Kept || n.file("pds.env") != edited {
		t.Errorf("%+v", result)
	}
	if result.Files[filepath.Join(n.dir, "units", "pds.service")] != setup.Same || result.Files[filepath.Join(n.dir, "Caddyfile")] != setup.Same {
		t.Errorf("%+v", result.Files)
	}
	if out, errs, code = n.run("-yes", "-overwrite", "-no-start"); code != ExitOK || strings.Contains(n.file("pds.env"), "Mine") || n.file("pds.env.old") != edited {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	caddy := n.file("Caddyfile")
	if !strings.Contains(caddy, "pds.site.test, *.pds.site.test {") || !strings.Contains(caddy, "127.0.0.1:"+port) || strings.Contains(caddy, "example.com") {
		t.Error(caddy)
	}
}

// With a proxy in front, relays are to be asked again when it runs: what the server asks before is
// too early.
func TestInitSaysWhatIsNext(t *testing.T) {
	for tls, want := range map[string]bool{"caddy": true, "nginx": true, "acme": false} {
		out, errs, code := newNewcomer(t).run("-yes", "-no-start", "-hostname", "pds.site.test", "-tls", tls, "-email", "me@site.test")
		if code != ExitOK || strings.Contains(out, "request-crawl") != want || want && strings.Index(out, "request-crawl") < strings.Index(out, "reload") {
			t.Errorf("%s: %d\n%s%s", tls, code, out, errs)
		}
	}
}

// At a terminal, init asks; enter takes what is shown; nothing is replaced without a yes; an end of the
// input ends it.
func TestInitAsks(t *testing.T) {
	n := newNewcomer(t)
	n.terminal = true
	n.in = "PDS.Site.test\nother\nme@site.test\nsmtp://user:p%23wort@mail.site.test\n\n\nn\n"
	out, errs, code := n.run()
	env := n.file("pds.env")
	if code != ExitOK || !strings.Contains(env, "PDS_HOSTNAME=pds.site.test\n") || !strings.Contains(env, "PDS_BIND_ADDRESS=0.0.0.0") || !strings.Contains(env, "PDS_EMAIL_SMTP_URL=smtp://user:p%23wort@mail.site.test") ||
		!strings.Contains(env, "PDS_EMAIL_FROM_ADDRESS=pds@pds.site.test") || strings.Contains(out+errs, "wort@") {
		t.Errorf("%d\n%s%s\n%s", code, out, errs, env)
	}
	n.in = "\n\nyou@site.test\n\n\nn\nn\n" // as before, but for the address; keep pds.env; do not start
	if out, errs, code = n.run(); code != ExitOK || n.file("pds.env") != env || !strings.Contains(errs, "Replace it") || strings.Contains(out+errs, "wort@") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	n.in = "\n\nyou@site.test\n\n\ny\nn\n"
	if out, errs, code = n.run(); code != ExitOK || n.file("pds.env.old") != env || !strings.Contains(n.file("pds.env"), "you@site.test") || !strings.Contains(n.file("pds.env"), "p%23wort") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	other := newNewcomer(t)
	other.terminal, other.in = true, "pds.site.test\n"
	if _, errs, code := other.run(); code != ExitFailed || !strings.Contains(errs, "nothing was done") || exists(filepath.Join(other.dir, "pds.env")) {
		t.Errorf("%d\n%s", code, errs)
	}
}

// Wrong answers are told before anything is written.
func TestInitRefuses(t *testing.T) {
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"there is no terminal", nil},
		{"needs a name", []string{"-yes"}},
		{"needs no set-up", []string{"-yes", "-hostname", "localhost"}},
		{"is not a host name", []string{"-yes", "-hostname", "https://pds.site.test"}},
		{"none of acme, caddy", []string{"-yes", "-hostname", "pds.site.test", "-tls", "magic"}},
		{"needs a sender", []string{"-yes", "-hostname", "pds.site.test", "-smtp", "smtp://x"}},
		{"not a URL", []string{"-yes", "-hostname", "pds.site.test", "-smtp", "mail:s3cret@x", "-from", "a@site.test"}},
		{"not an e-mail", []string{"-yes", "-hostname", "pds.site.test", "-email", "me\nPDS_DEV_MODE=true"}},
		{"not a port", []string{"-yes", "-hostname", "pds.site.test", "-port", "0"}},
		{"not a path", []string{"-yes", "-hostname", "pds.site.test", "-user", "x", "-data", "/a b"}},
	} {
		n := newNewcomer(t)
		var errs bytes.Buffer
		args := append([]string{"init", "-config", n.dir}, tt.args...)
		code := Run(t.Context(), args, IO{In: strings.NewReader(""), Stdout: &errs, Stderr: &errs})
		left, _ := os.ReadDir(n.dir)
		if code != ExitUsage || !strings.Contains(errs.String(), tt.want) || len(left) > 0 || strings.Contains(errs.String(), "s3cret") {
			t.Errorf("%q: %d %s, left %v", tt.args, code, &errs, left)
		}
	}
}

// What init writes is a configuration without warnings, for each way of TLS.
func TestInitWritesGoodSettings(t *testing.T) {
	for _, tls := range setup.Ways {
		for _, network := range []bool{true, false} {
			a := setup.Answers{Hostname: "pds.site.test", TLS: tls, Email: "me@site.test", Port: 2583, Data: "/d", Backups: "/b", Config: t.TempDir(), User: "pds", Program: "/p",
				SMTP: "smtps://user:pa%24%23ss@mail.site.test", From: `"The PDS" <pds@site.test>`, Network: network}
			if err := a.Check(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(a.EnvFile(), a.Env(), 0o600); err != nil {
				t.Fatal(err)
			}
			env, _, err := config.Environment(nil, a.EnvFile())
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(env)
			if err != nil || len(cfg.Warnings) > 0 || cfg.Mail.SMTP != a.SMTP || cfg.Mail.From != a.From || (len(cfg.Crawlers) > 0) != network || cfg.TLS.ACME != (tls == setup.ACME) || cfg.DataDirectory != "/d" {
				t.Errorf("%s: %v, %+v", tls, err, cfg)
			}
			files, err := a.Files("/u")
			if err != nil || len(files) < 4 {
				t.Fatal(files, err)
			}
			for _, f := range files[1:] {
				for _, left := range []string{"/var/lib/pds", "/var/backups/pds", "/etc/pds/", "/usr/local/bin/pds", "StateDirectory", "Group="} {
					if strings.Contains(string(f.Text), left) {
						t.Errorf("%s still has %s", f.Path, left)
					}
				}
			}
		}
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a b", `"x"`, `\$`, "a#b", "'", "`", "ä", "x\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsAny(s, "\r\n\x00") || strings.TrimSpace(s) != s || strings.Contains(s, "\ufeff") {
			t.Skip()
		}
		file := filepath.Join(t.TempDir(), "pds.env")
		if err := os.WriteFile(file, []byte("A="+setup.Quote(s)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		env, _, err := config.Environment(nil, file)
		if err != nil || env["A"] != s {
			t.Errorf("%q became %q, %v", s, env["A"], err)
		}
	})
}
