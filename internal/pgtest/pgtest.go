//go:build unix

// Package pgtest starts PostgreSQL for tests, from the programs that are installed.
//
// [URL] returns the one server that a test process shares. A package that uses it has
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// so that the server ends with the process. [Start] starts one for a test that kills or stops it.
// Servers listen on the loopback interface only and keep their files below the system's temporary
// directory.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
)

// Env is the environment variable that names an existing server, by its connection string. The
// role needs the right to create schemas.
const Env = "PDSKIT_POSTGRES"

var shared struct {
	sync.Mutex
	server *Server
	err    error
}

// URL returns the connection string of a server that all tests of the process share, starting it
// the first time. Child processes of the test use the same one. Where there is no PostgreSQL, the
// test is skipped, or fails if CI=true. It is left out with -short: see testenv.Slow.
func URL(tb testing.TB) string {
	tb.Helper()
	testenv.Slow(tb, "runs on PostgreSQL")
	shared.Lock()
	defer shared.Unlock()
	if url := os.Getenv(Env); url != "" {
		return url
	}
	if shared.server == nil && shared.err == nil {
		// What is not flushed is lost with the machine, not with the server.
		if shared.server, shared.err = start("-c", "fsync=off", "-c", "full_page_writes=off"); shared.err == nil {
			shared.err = os.Setenv(Env, shared.server.URL())
		}
	}
	missing(tb, shared.err)
	return shared.server.URL()
}

// Main runs a package's tests and stops the shared server.
func Main(m interface{ Run() int }) int {
	defer func() {
		shared.Lock()
		defer shared.Unlock()
		if shared.server != nil {
			shared.server.Close()
		}
	}()
	return m.Run()
}

// Start starts a server for one test, which flushes what is committed. It is stopped when the test
// ends.
func Start(tb testing.TB) *Server {
	tb.Helper()
	testenv.Slow(tb, "starts PostgreSQL")
	s, err := start()
	missing(tb, err)
	tb.Cleanup(s.Close)
	return s
}

// New starts a server for a program, which flushes what is committed. The caller closes it.
func New() (*Server, error) { return start() }

// errMissing: PostgreSQL is not installed.
var errMissing = errors.New("no PostgreSQL: initdb and postgres are neither in /usr/lib/postgresql/*/bin nor in PATH; install the package postgresql, or set " + Env + " to the connection string of a server")

func missing(tb testing.TB, err error) {
	tb.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errMissing) && os.Getenv("CI") != "true":
		tb.Skip(err)
	default:
		tb.Fatal(err)
	}
}

// Server is a server of our own.
type Server struct {
	dir  string
	bin  string
	args []string // of postgres
	port int
	who  *syscall.Credential // nil: the user of this process
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan struct{} // closed when cmd has ended
}

// bin finds the programs of the newest PostgreSQL.
func bin() (string, error) {
	list, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	slices.SortFunc(list, func(a, b string) int { return version(b) - version(a) })
	for _, file := range list {
		dir := filepath.Dir(file)
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
			return dir, nil
		}
	}
	if file, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(file), nil
	}
	return "", errMissing
}

func version(file string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(file))))
	return n
}

func start(args ...string) (*Server, error) {
	s, err := newServer(args)
	if err != nil {
		return nil, err
	}
	if err = s.initdb(); err == nil {
		err = s.begin()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// newServer makes the folder of a server.
func newServer(args []string) (s *Server, err error) {
	s = &Server{args: args}
	if s.bin, err = bin(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, fmt.Errorf("%w (as root, it runs as the user postgres: %v)", errMissing, err)
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		s.who = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, int(uid), int(gid)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// StartStandby starts a server that follows another one and answers queries.
func StartStandby(tb testing.TB, primary *Server) *Server {
	tb.Helper()
	s, err := newServer(nil)
	missing(tb, err)
	tb.Cleanup(s.Close)
	err = s.program("pg_basebackup", "-h", primary.dir, "-p", strconv.Itoa(primary.port), "-U", "postgres", "-D", s.data(), "-R", "-X", "stream", "--checkpoint=fast", "--no-sync")
	if err == nil {
		err = s.begin()
	}
	missing(tb, err)
	return s
}

func (s *Server) initdb() error {
	return s.program("initdb", "-D", s.data(), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync")
}

// begin finds a free port and starts the server.
func (s *Server) begin() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return err
	}
	return s.run()
}

// program runs one of PostgreSQL's programs to its end.
func (s *Server) program(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	s.prepare(cmd)
	unlock := parent()
	defer unlock()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) prepare(cmd *exec.Cmd) {
	cmd.Dir = s.dir
	cmd.SysProcAttr = attributes()
	cmd.SysProcAttr.Credential = s.who
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=" + s.dir}
}

// run starts the server's process and waits until it accepts connections.
func (s *Server) run() error {
	args := append([]string{"-D", s.data(), "-k", s.dir, "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "max_connections=200", "-c", "shared_buffers=128MB", "-c", "log_min_messages=fatal", "-c", "max_wal_size=4GB"}, s.args...)
	s.cmd = exec.Command(filepath.Join(s.bin, "postgres"), args...)
	s.prepare(s.cmd)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.done = make(chan struct{})
	started := make(chan error)
	go func() {
		unlock := parent()
		defer unlock()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
		close(s.done)
	}()
	if err := <-started; err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(20 * time.Millisecond) {
		ready := exec.Command(filepath.Join(s.bin, "pg_isready"), "-q", "-h", s.dir, "-p", strconv.Itoa(s.port))
		if ready.Run() == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("postgres has ended: %v\n%s", s.cmd.ProcessState, s.log.String())
		default:
		}
	}
	return errors.New("postgres did not start within a minute")
}

// URL is the server's connection string, for its Unix socket.
func (s *Server) URL() string {
	return fmt.Sprintf("postgres://postgres@/postgres?host=%s&port=%d&sslmode=disable", s.dir, s.port)
}

// Signal sends a signal to all processes of the server, its own first.
func (s *Server) Signal(sig syscall.Signal) {
	pids := append([]int{s.cmd.Process.Pid}, children(s.cmd.Process.Pid)...)
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig)
	}
}

// Kill kills all processes of the server, as a power failure would.
func (s *Server) Kill() {
	s.Signal(syscall.SIGKILL)
	<-s.done
}

// Restart starts a server that was killed.
func (s *Server) Restart() error { return s.run() }

// Close stops the server, and deletes its files.
func (s *Server) Close() {
	if s.done != nil {
		s.Signal(syscall.SIGCONT)
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // at once, without a checkpoint
		select {
		case <-s.done:
		case <-time.After(10 * time.Second):
			s.Kill()
		}
	}
	_ = os.RemoveAll(s.dir)
}
