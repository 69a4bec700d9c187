//go:build !unix

// Package pgtest does not support this platform: it would have to start servers as another user,
// and stop them by signals.
package pgtest

import (
	"errors"
	"syscall"
	"testing"
)

// Env names a server to use, elsewhere.
const Env = "PDSKIT_POSTGRES"

const reason = "PostgreSQL is started on Unix alone"

// Server is not there.
type Server struct{}

// Main runs the tests.
func Main(m interface{ Run() int }) int { return m.Run() }

// URL skips the test.
func URL(tb testing.TB) string {
	tb.Skip(reason)
	return ""
}

// Start skips the test.
func Start(tb testing.TB) *Server {
	tb.Skip(reason)
	return nil
}

// New fails.
func New() (*Server, error) { return nil, errors.New(reason) }

// URL returns nothing.
func (s *Server) URL() string { return "" }

// Signal does nothing.
func (s *Server) Signal(syscall.Signal) {}

// Kill does nothing.
func (s *Server) Kill() {}

// Restart fails.
func (s *Server) Restart() error { return errors.New(reason) }

// Close does nothing.
func (s *Server) Close() {}
