// Package s3test runs an S3 server for tests: versitygw, whose program is named by the environment
// variable PDSKIT_VERSITYGW or lies in the path.
package s3test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
)

// Credentials of all servers.
const (
	AccessKeyID     = "test-access"
	SecretAccessKey = "test-secret-key"
)

// Install is how the program is installed.
const Install = "go install github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// Server is a running server.
type Server struct {
	Addr string // host and port
	dir  string
	bin  string
	mu   sync.Mutex
	cmd  *exec.Cmd
	out  bytes.Buffer
}

// Start runs a server until the test ends. Where the program is missing the test is skipped, or
// fails if CI is set. It is left out with -short: see testenv.Slow.
func Start(tb testing.TB) *Server {
	tb.Helper()
	testenv.Slow(tb, "starts an S3 server")
	s, err := New(tb.TempDir())
	switch {
	case err == nil:
	case errors.Is(err, errMissing) && os.Getenv("CI") == "":
		tb.Skip(err)
	default:
		tb.Fatal(err)
	}
	tb.Cleanup(s.Kill)
	return s
}

// errMissing: the program is not installed.
var errMissing = errors.New("no S3 server: set PDSKIT_VERSITYGW to the program versitygw (" + Install + ")")

// New runs a server with its files in a directory, for a program, which kills it at its end.
func New(dir string) (*Server, error) {
	bin := os.Getenv("PDSKIT_VERSITYGW")
	if bin == "" {
		bin, _ = exec.LookPath("versitygw")
	}
	if bin == "" {
		return nil, errMissing
	}
	s := &Server{dir: dir, bin: bin}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.Addr = l.Addr().String()
	l.Close()
	return s, s.run()
}

// Endpoint is the server's address.
func (s *Server) Endpoint() string { return "http://" + s.Addr }

// Restart runs the server again on the same address and data.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	if err := s.run(); err != nil {
		tb.Fatal(err)
	}
}

func (s *Server) run() error {
	s.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Reset()
	s.cmd = exec.Command(s.bin, "--access", AccessKeyID, "--secret", SecretAccessKey, "--port", s.Addr, "--quiet", "--keep-alive", "posix", s.dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", s.Addr)
		if err == nil {
			conn.Close()
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("versitygw does not answer: %w\n%s", err, s.out.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Kill kills the server (SIGKILL).
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

var buckets struct {
	sync.Mutex
	n int
}

// Bucket makes a bucket and returns its name.
func (s *Server) Bucket(tb testing.TB) string {
	tb.Helper()
	name, err := s.NewBucket()
	if err != nil {
		tb.Fatal(err)
	}
	return name
}

// NewBucket is Bucket for a program.
func (s *Server) NewBucket() (string, error) {
	buckets.Lock()
	buckets.n++
	name := fmt.Sprintf("bucket-%d", buckets.n)
	buckets.Unlock()
	return name, os.Mkdir(filepath.Join(s.dir, name), 0o700)
}
