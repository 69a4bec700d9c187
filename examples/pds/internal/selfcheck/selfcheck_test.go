package selfcheck

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/operator"
)

// nowhere is a network in which nobody answers.
type nowhere struct{}

func (nowhere) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, &net.DNSError{IsNotFound: true}
}
func (nowhere) LookupTXT(context.Context, string) ([]string, error) {
	return nil, &net.DNSError{IsNotFound: true}
}

var silent = &http.Client{Transport: nettest.RoundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("nobody is there") })}

// input is that of a server without a network.
func input(t *testing.T, env map[string]string) Input {
	t.Helper()
	all := map[string]string{"PDS_DATA_DIRECTORY": t.TempDir(), "PDS_HOSTNAME": "pds.site.test", "PDS_BIND_ADDRESS": "127.0.0.1", "PDS_DID_PLC_URL": "http://127.0.0.1:1"}
	for k, v := range env {
		all[k] = v
	}
	cfg, err := config.Load(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cfg.DataDirectory, 0o700); err != nil {
		t.Fatal(err)
	}
	store := memory.New(memory.Config{})
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return Input{
		Config: cfg, Target: doctor.Target{URL: "https://pds.site.test", DNS: nowhere{}, HTTP: silent}, PLC: cfg.PLC, DNS: nowhere{}, HTTP: silent,
		Store: store, Accounts: account.Open(repo.Config{Store: store}, box), EchoKey: []byte("key"),
		Free: func(string) (int64, int64, bool) { return 50 << 30, 100 << 30, true },
	}
}

// one runs the check of a name.
func one(t *testing.T, in Input, name string) []doctor.Finding {
	t.Helper()
	for _, c := range Checks(in) {
		if c.Name == name {
			return doctor.Run(t.Context(), []doctor.Check{c}).Findings
		}
	}
	t.Fatalf("there is no check %s", name)
	return nil
}

// All checks have names, which are told once, and end where nobody answers; what is not good has a
// remedy.
func TestAllChecksEnd(t *testing.T) {
	in := input(t, nil)
	in.Local = func(context.Context) error { return errors.New("down") }
	r := doctor.Run(t.Context(), Checks(in))
	seen := map[string]bool{}
	for _, f := range r.Findings {
		seen[f.Check] = true
		if (f.Level == doctor.Warning || f.Level == doctor.Problem) != (f.Remedy != "") || f.Text == "" {
			t.Errorf("%+v", f)
		}
	}
	for _, name := range []string{"configuration", "server", "dns", "certificate", "stream", "forwarded", "clock", "mail", "accounts", "relays", "appview", "backups", "space", "modes"} {
		if !seen[name] {
			t.Errorf("nothing of %s", name)
		}
	}
	if len(seen) != 14 || r.Level != doctor.Problem {
		t.Errorf("%v, %s", seen, r.Level)
	}
	dev := input(t, map[string]string{"PDS_HOSTNAME": "localhost", "PDS_DID_PLC_URL": ""})
	if r := doctor.Run(t.Context(), Checks(dev)); r.Level != doctor.OK {
		t.Errorf("a development server: %+v", r.Findings)
	}
}

func TestBackups(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name string
		all  []operator.Backup
		want []doctor.Level
	}{
		{"none", nil, []doctor.Level{doctor.Warning}},
		{"new", []operator.Backup{{At: now, Path: "/b", Good: true}}, []doctor.Level{doctor.OK}},
		{"late", []operator.Backup{{At: now.Add(-48 * time.Hour), Path: "/b", Good: true}}, []doctor.Level{doctor.Warning}},
		{"old", []operator.Backup{{At: now.Add(-20 * 24 * time.Hour), Path: "/b", Good: true}}, []doctor.Level{doctor.Problem}},
		{"failed since", []operator.Backup{{At: now.Add(-20 * time.Hour), Path: "/b", Good: true}, {At: now, Path: "/b", Problem: "no room"}}, []doctor.Level{doctor.Warning, doctor.OK}},
	} {
		in := input(t, nil)
		for _, b := range tt.all {
			if err := Notes(in.Store).Note(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		got := one(t, in, "backups")
		ok := len(got) == len(tt.want)
		for i := range min(len(got), len(tt.want)) {
			ok = ok && got[i].Level == tt.want[i]
		}
		if !ok {
			t.Errorf("%s: %+v, want %v", tt.name, got, tt.want)
		}
	}
	if got := one(t, input(t, map[string]string{"PDS_DATABASE_URL": "postgres://x"}), "backups"); got[0].Level != doctor.Skipped {
		t.Errorf("%+v", got)
	}
}

func TestSpace(t *testing.T) {
	in := input(t, nil)
	in.Blobs = filepath.Join(t.TempDir(), "not", "there")
	for _, tt := range []struct {
		left, total int64
		want        doctor.Level
	}{{50 << 30, 100 << 30, doctor.OK}, {5 << 30, 100 << 30, doctor.Warning}, {1 << 29, 2 << 30, doctor.Warning}, {1 << 30, 100 << 30, doctor.Problem}, {100 << 20, 1 << 30, doctor.Problem}} {
		in.Free = func(string) (int64, int64, bool) { return tt.left, tt.total, true }
		if got := one(t, in, "space"); len(got) != 2 || got[0].Level != tt.want || got[1].Subject != in.Blobs {
			t.Errorf("%d of %d: %+v, want %s", tt.left, tt.total, got, tt.want)
		}
	}
	in.Free = nil
	if got := one(t, in, "space"); runtime.GOOS == "linux" && got[0].Level == doctor.Skipped {
		t.Errorf("%+v", got)
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no modes")
	}
	in := input(t, nil)
	dir := in.Config.DataDirectory
	if got := one(t, in, "modes"); got[0].Level != doctor.OK {
		t.Errorf("%+v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "secrets.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Join(dir, "secrets.json"): 0o640} {
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if got := one(t, in, "modes"); len(got) != 1 || got[0].Level != doctor.Problem || got[0].Subject != path || !strings.HasPrefix(got[0].Remedy, "chmod ") {
			t.Errorf("%s: %+v", path, got)
		}
		os.Chmod(path, before.Mode())
	}
}

func TestMail(t *testing.T) {
	smtp := func(url string) map[string]string {
		return map[string]string{"PDS_EMAIL_SMTP_URL": url, "PDS_EMAIL_FROM_ADDRESS": "pds@site.test"}
	}
	server := mailServer(t)
	for _, tt := range []struct {
		name string
		env  map[string]string
		to   string
		dead int
		want []doctor.Level
	}{
		{"none", nil, "", 0, []doctor.Level{doctor.Warning}},
		{"a file", map[string]string{"PDS_EMAIL_SINK_FILE": "f"}, "", 0, []doctor.Level{doctor.Warning}},
		{"down", smtp("smtp://127.0.0.1:1"), "", 0, []doctor.Level{doctor.Problem}},
		{"up", smtp("smtp://" + server), "", 0, []doctor.Level{doctor.OK}},
		{"a message", smtp("smtp://" + server), "me@site.test", 0, []doctor.Level{doctor.OK}},
		{"refused", smtp("smtp://" + server), "nobody@site.test", 0, []doctor.Level{doctor.Problem}},
		{"dead mail", smtp("smtp://" + server), "", 2, []doctor.Level{doctor.OK, doctor.Warning}},
	} {
		in := input(t, tt.env)
		in.MailTo = tt.to
		in.DeadMail = func(context.Context) (int, error) { return tt.dead, nil }
		got := one(t, in, "mail")
		ok := len(got) == len(tt.want)
		for i := range min(len(got), len(tt.want)) {
			ok = ok && got[i].Level == tt.want[i]
		}
		if !ok {
			t.Errorf("%s: %+v, want %v", tt.name, got, tt.want)
		}
	}
}

// mailServer takes all mail but that for nobody@site.test.
func mailServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go converse(conn)
		}
	}()
	return l.Addr().String()
}

func converse(conn net.Conn) {
	defer conn.Close()
	conn.Write([]byte("220 test\r\n"))
	buf, body := make([]byte, 64<<10), false
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		line := string(buf[:n])
		answer := "250 ok\r\n"
		switch {
		case body:
			if !strings.HasSuffix(line, "\r\n.\r\n") {
				continue
			}
			body = false
		case strings.HasPrefix(line, "DATA"):
			answer, body = "354 go\r\n", true
		case strings.Contains(line, "nobody@"):
			answer = "550 no such user\r\n"
		case strings.HasPrefix(line, "QUIT"):
			return
		}
		conn.Write([]byte(answer))
	}
}
