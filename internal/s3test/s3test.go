// Package s3test runs an S3 server for tests: versitygw, whose program is named by the environment
// variable PDSKIT_VERSITYGW or lies in the path.
package s3test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
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
// fails if CI is set.
func Start(tb testing.TB) *Server {
	tb.Helper()
	bin := os.Getenv("PDSKIT_VERSITYGW")
	if bin == "" {
		bin, _ = exec.LookPath("versitygw")
	}
	if bin == "" {
		const text = "no S3 server: set PDSKIT_VERSITYGW to the program versitygw (" + Install + ")"
		if os.Getenv("CI") != "" {
			tb.Fatal(text)
		}
		tb.Skip(text)
	}
	s := &Server{dir: tb.TempDir(), bin: bin}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s.Addr = l.Addr().String()
	l.Close()
	tb.Cleanup(s.Kill)
	s.Restart(tb)
	return s
}

// Endpoint is the server's address.
func (s *Server) Endpoint() string { return "http://" + s.Addr }

// Restart runs the server again on the same address and data.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Reset()
	s.cmd = exec.Command(s.bin, "--access", AccessKeyID, "--secret", SecretAccessKey, "--port", s.Addr, "--quiet", "--keep-alive", "posix", s.dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", s.Addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("versitygw does not answer: %v\n%s", err, s.out.String())
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
	buckets.Lock()
	buckets.n++
	name := fmt.Sprintf("bucket-%d", buckets.n)
	buckets.Unlock()
	if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil {
		tb.Fatal(err)
	}
	return name
}
