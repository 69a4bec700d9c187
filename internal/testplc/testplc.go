// Package testplc serves a did:plc directory for as long as a test runs.
package testplc

import (
	"net/http/httptest"
	"testing"

	"github.com/pdskit/pdskit/identity/plctest"
)

// Server is a directory that is served.
type Server struct {
	*plctest.Directory
	URL string
}

// Start serves a directory until the test ends.
func Start(tb testing.TB, cfg plctest.Config) *Server {
	tb.Helper()
	d, err := plctest.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	srv := httptest.NewServer(d)
	tb.Cleanup(func() {
		srv.Close()
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &Server{d, srv.URL}
}
