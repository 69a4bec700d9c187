package main_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// buildDir is where the server's program is, once it was built.
var buildDir string

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pds-test-*")
	if err != nil {
		return "", err
	}
	buildDir = dir
	bin := filepath.Join(dir, "pds")
	if runtime.GOOS == "windows" {
		bin += ".exe"
	}
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, err
})

// quick are the tests whose servers and commands run with -short too.
var quick = []string{"TestEndToEnd", "TestErrors"}

// program is the server's program. It is built once.
func program(t testing.TB) string {
	t.Helper()
	if name, _, _ := strings.Cut(t.Name(), "/"); testing.Short() && !slices.Contains(quick, name) {
		t.Skip("with -short: runs processes")
	}
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestMain(m *testing.M) {
	flag.Parse()
	calls := recordCalls()
	code := runTests(m)
	chromium.Close()
	if code == 0 && wholeRun() {
		code = calls.report()
	}
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
	os.Exit(code)
}

// process is a server in a process of its own.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	url  string
	out  []string // what it printed until it was ready
	done chan error
}

var urlPattern = regexp.MustCompile(`http://localhost:\d+`)

// start builds the server's program and runs it in a data directory.
func start(t testing.TB, dir string, env ...string) *process {
	t.Helper()
	return startWith(t, dir, os.Stderr, env...)
}

// startWith is start with another place for the log.
func startWith(t testing.TB, dir string, log *os.File, env ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program(t)), done: make(chan error, 1)}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PDS_PORT=" + freePort(t), "PDS_LOG_LEVEL=warn", "PDS_DATA_DIRECTORY=" + dir}, backend(t, dir)...)
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		p.out = append(p.out, lines.Text())
		if p.url == "" {
			p.url = urlPattern.FindString(lines.Text())
		}
		if strings.Contains(lines.Text(), "createAccount") || strings.Contains(lines.Text(), "createInviteCode") {
			break
		}
	}
	go func() {
		for lines.Scan() {
		}
		p.done <- p.cmd.Wait()
	}()
	if p.url == "" {
		t.Fatalf("the server did not say where it is:\n%s", strings.Join(p.out, "\n"))
	}
	return p
}

// freePort is a port that nothing listens on.
func freePort(t testing.TB) string {
	t.Helper()
	port, err := testenv.FreePort("localhost")
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// port is the port that the server listens on, for the environment of the next one.
func (p *process) port() string {
	u, err := url.Parse(p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	return "PDS_PORT=" + u.Port()
}

// interrupt stops the server as Ctrl-C does and waits for its end.
func (p *process) interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.done:
		p.done <- err
		if err != nil {
			p.t.Fatalf("the server did not end well: %v", err)
		}
	case <-time.After(30 * time.Second):
		p.t.Fatal("the server does not end")
	}
}

// kill stops the server at once, as a crash does.
func (p *process) kill() {
	p.cmd.Process.Signal(syscall.SIGKILL)
	err := <-p.done
	p.done <- err
}

// user is an account with its session.
type user struct {
	*xrpc.Client
	DID        syntax.DID `json:"did"`
	Handle     string     `json:"handle"`
	AccessJWT  string     `json:"accessJwt"`
	RefreshJWT string     `json:"refreshJwt"`
	ref        string     // of a blob
}

func (p *process) anonymous() *xrpc.Client { return &xrpc.Client{Host: p.url} }

// register makes an account.
func (p *process) register(name string) *user {
	p.t.Helper()
	u := &user{}
	err := p.anonymous().Procedure(context.Background(), "com.atproto.server.createAccount", map[string]string{
		"handle": name + ".test", "email": name + "@example.com", "password": "password of " + name,
	}, u)
	if err != nil {
		p.t.Fatal(err)
	}
	u.Client = &xrpc.Client{Host: p.url, Authorize: xrpc.Bearer(u.AccessJWT)}
	return u
}

// call calls a procedure that must succeed.
func (u *user) call(t testing.TB, nsid string, in map[string]any, out any) {
	t.Helper()
	var body any
	if in != nil {
		body = in
	}
	if err := u.Procedure(context.Background(), nsid, body, out); err != nil {
		t.Fatalf("%s: %v", nsid, err)
	}
}
