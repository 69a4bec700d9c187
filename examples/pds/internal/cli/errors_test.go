package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/backup"
)

// told runs a command with an environment and returns what it says, and its exit code.
func told(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	var out, errs bytes.Buffer
	code := Run(t.Context(), args, IO{Environ: env, In: strings.NewReader("password\n"), Stdout: &out, Stderr: &errs})
	return errs.String(), code
}

// machine is what no person should have to read: names of XRPC, of packages, and of system calls.
var machine = regexp.MustCompile(`xrpc:|datadir:|identity:|storage:|backup:|account: |dial tcp|AuthMissing|AuthenticationRequired|InternalServerError|XRPCNotSupported|InvalidRequest|MethodNotImplemented|Params/|Input/|\bEOF\b|invalid character`)

// Whatever is wrong with the server, each command that calls it says so in words, and what to do.
func TestErrorsInWords(t *testing.T) {
	answer := func(status int, kind, body string) *httptest.Server {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(srv.Close)
		return srv
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	servers := []struct {
		name, url, want string
		some            bool
	}{
		{"wrong password", answer(401, "application/json", `{"error":"AuthenticationRequired","message":"Authentication Required"}`).URL, "does not take the administrator's password", false},
		{"web site", answer(404, "text/html", "<html>Not here</html>").URL, "is it that of a PDS?", false},
		{"web site that likes all", answer(200, "text/html", "<html>Welcome</html>").URL, "is it that of a PDS?", false},
		{"fault", answer(500, "application/json", `{"error":"InternalServerError","message":"Internal Server Error"}`).URL, "Its log says more", true},
		{"disk full", answer(503, "application/json", `{"error":"NotEnoughResources","message":"The disk is full"}`).URL, "The disk is full", true},
		{"too many", answer(429, "application/json", `{"error":"RateLimitExceeded","message":"Rate Limit Exceeded"}`).URL, "too many tries", true},
		{"nobody", "http://localhost:1", "does not answer: connection refused", true},
		{"no such name", "https://pds.invalid", "does not answer", true},
		{"certificate", secure.URL, "certificate", true},
	}
	args := map[string][]string{
		"account list": nil, "account info": {"alice.test"}, "account create": {"a@b.test", "alice.test"}, "account takedown": {"alice.test"}, "account untakedown": {"alice.test"},
		"account reset-password": {"alice.test"}, "account update-email": {"alice.test", "a@b.test"}, "account update-handle": {"alice.test", "b.test"},
		"account delete": {"-yes", "alice.test"}, "invite create": nil, "invite list": nil, "invite disable": {"code"}, "health": nil,
	}
	for _, cmd := range commands() { // none that calls a server is forgotten
		if cmd.flags == nil || cmd.name == "doctor" || strings.HasPrefix(cmd.name, "worker") {
			continue
		}
		if text, code := told(t, nil, "help"); code != 0 {
			t.Fatal(text)
		}
		var out bytes.Buffer
		Run(t.Context(), append([]string{"help"}, strings.Fields(cmd.name)...), IO{Stdout: &out, Stderr: &out})
		if _, ok := args[cmd.name]; !ok && strings.Contains(out.String(), "-url address") {
			t.Errorf("no test of pds %s", cmd.name)
		}
	}
	for _, srv := range servers {
		for name, more := range args {
			if srv.some && name != "account list" && name != "health" || srv.name == "web site that likes all" && name == "invite disable" {
				continue // the client tries them several times; a method without output cannot know
			}
			text, code := told(t, []string{"PDS_DATA_DIRECTORY=" + t.TempDir(), "PDS_ADMIN_PASSWORD=wrong password"}, slices.Concat(strings.Fields(name), []string{"-url", srv.url}, more)...)
			if code != ExitFailed || !strings.Contains(text, srv.want) || machine.MatchString(text) || !strings.HasPrefix(text, "pds: ") {
				t.Errorf("pds %s, %s: %d, want %q: %s", name, srv.name, code, srv.want, text)
			}
		}
	}
}

// So do commands that open the data directory, where there is none.
func TestNoDataInWords(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nothing")
	for _, line := range []string{
		"account factors alice.test", "account reset-factors alice.test", "account sessions list alice.test", "account sessions end alice.test", "account export alice.test x.tar",
		"account import x.tar", "oauth list alice.test", "oauth revoke alice.test", "nodes", "mail list", "mail retry -all", "mail drop -all", "backup " + dir + "b", "check", "resync",
		"rotate-keys", "migrate-storage -status", "jetstream train x",
	} {
		text, code := told(t, []string{"PDS_DATA_DIRECTORY=" + dir}, strings.Fields(line)...)
		if code != ExitFailed || !strings.Contains(text, "is PDS_DATA_DIRECTORY") || machine.MatchString(text) {
			t.Errorf("pds %s: %d, %s", line, code, text)
		}
	}
	for _, line := range []string{"account info", "account create -url x", "invite list -url ftp://x", "account info -url http://localhost:1 not/a/handle", "mail drop", "request-crawl", "mail-test a@b.test"} {
		if text, code := told(t, []string{"PDS_DATA_DIRECTORY=" + dir, "PDS_ADMIN_PASSWORD=wrong password"}, strings.Fields(line)...); code != ExitUsage || machine.MatchString(text) {
			t.Errorf("pds %s: %d, %s", line, code, text)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a command that failed has made the data directory")
	}
}

// Errors of the machine say what to do.
func TestRemedies(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "write", Path: "/b/x", Err: syscall.ENOSPC}, "make room"},
		{fmt.Errorf("backup: %w", &fs.PathError{Op: "mkdir", Path: "/b", Err: syscall.EACCES}), "runuser -u pds"},
		{fmt.Errorf("alice.test: %w", account.ErrNotFound), "alice.test: no such account. \"pds account list\""},
		{fmt.Errorf("%w: /data", backup.ErrNotEmpty), "the directory is not empty: /data. A backup is restored into an empty folder"},
		{&fs.PathError{Op: "stat", Path: "/nowhere/backup", Err: fs.ErrNotExist}, "There is no folder /nowhere"},
		{&fs.PathError{Op: "stat", Path: filepath.Join(t.TempDir(), "backup"), Err: fs.ErrNotExist}, "There is nothing of that name in"},
		{fmt.Errorf("asking: %w", context.DeadlineExceeded), "It took too long"},
		{errors.New("account: a made-up word: storage: account: x"), "a made-up word: x"},
		{errors.New("plain"), "plain"},
	} {
		if got := inWords(tt.err); !strings.Contains(got, tt.want) || strings.HasPrefix(got, "backup: ") || strings.HasPrefix(got, "account: ") {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}

// A move says so too: whichever of the two servers is wrong, and whatever nobody has answered.
func TestMoveErrorsInWords(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>Welcome</html>") }))
	t.Cleanup(page.Close)
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "describeServer") {
			fmt.Fprint(w, `{"did":"did:web:pds.test","availableUserDomains":[".test"]}`)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"AuthenticationRequired","message":"Invalid identifier or password"}`)
	}))
	t.Cleanup(refuses.Close)
	another := httptest.NewServer(refuses.Config.Handler)
	t.Cleanup(another.Close)
	for _, tt := range []struct{ old, new, more, want string }{
		{page.URL, another.URL, "", "is it that of a PDS?"},
		{refuses.URL, page.URL, "", "is it that of a PDS?"},
		{refuses.URL, "http://localhost:1", "", "does not answer: connection refused"},
		{"http://localhost:1", refuses.URL, "", "does not answer: connection refused"},
		{refuses.URL, "https://pds.invalid", "", "does not answer"},
		{refuses.URL, refuses.URL, "", "See -old-server"},
		{refuses.URL, another.URL, "", "Check the account's name and the password"},
		{refuses.URL, "ftp://x", "", "ftp://x"},
		{"", refuses.URL, "", "See -old-server"},
		{refuses.URL, another.URL, "-rotation-key /nowhere/key", "There is no folder /nowhere"},
	} {
		args := []string{"migrate", "-no-input", "-patience", "-1s", "-plc", "http://localhost:1", "-state", filepath.Join(t.TempDir(), "state")}
		if tt.old != "" {
			args = append(args, "-old-server", tt.old)
		}
		args = append(append(args, strings.Fields(tt.more)...), "alice.test", tt.new)
		text, code := told(t, []string{"PDS_MIGRATE_OLD_PASSWORD=one", "PDS_MIGRATE_NEW_PASSWORD=two"}, args...)
		if code != ExitFailed || !strings.Contains(text, tt.want) || machine.MatchString(text) || strings.Contains(text, "administrator") || !strings.HasPrefix(text, "pds: ") {
			t.Errorf("from %s to %s %s: %d, want %q: %s", tt.old, tt.new, tt.more, code, tt.want, text)
		}
	}
}

// So do the commands that set a server up, here and in a Worker.
func TestSetupErrorsInWords(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>Welcome</html>") }))
	t.Cleanup(page.Close)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		line string
		code int
		want string
	}{
		{"init", ExitUsage, "there is no terminal to ask at: give -yes"},
		{"init -yes -no-start -config " + dir, ExitUsage, "-hostname pds.example.com"},
		{"init -yes -no-start -hostname not_a_name -config " + dir, ExitUsage, "not_a_name"},
		{"init -yes -no-start -hostname pds.test.example -tls apache -config " + dir, ExitUsage, "apache"},
		{"init -yes -no-start -hostname pds.test.example -tls caddy -network=false -config " + file + " -data " + dir + "/d -backups " + dir + "/b -units " + dir + "/u", ExitFailed, file},
		{"init -yes -no-start -hostname pds.test.example -tls caddy -network=false -config " + dir + " -data " + file + " -backups " + dir + "/b -units " + dir + "/u", ExitFailed, file},
		{"worker deploy-check", ExitUsage, "pds worker deploy-check"},
		{"worker deploy-check " + page.URL, ExitProblems, "there are problems"},
		{"worker deploy-check http://localhost:1", ExitProblems, "there are problems"},
		{"worker init " + file, ExitFailed, "give -host or -many"},
		{"worker migrate in alice.test nowhere", ExitFailed, "give that of the Worker's server"},
		{"worker migrate in alice.test http://localhost:1", ExitFailed, "secrets.json"},
	} {
		text, code := told(t, nil, strings.Fields(tt.line)...)
		if code != tt.code || !strings.Contains(text, tt.want) || machine.MatchString(text) {
			t.Errorf("pds %s: %d, want %d, %q: %s", tt.line, code, tt.code, tt.want, text)
		}
	}
}
