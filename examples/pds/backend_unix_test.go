//go:build unix

package main_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/internal/s3test"
)

// runTests runs all tests, and ends the database that they may have started.
func runTests(m *testing.M) int { return pgtest.Main(m) }

// backends are the environments of data directories, by their names.
var backends sync.Map

// backend is the environment of a server, and of commands, in a data directory: where the data is. It is
// nothing, for SQLite and the disk, unless PDSKIT_PDS_BACKEND is "postgres": then each data directory has
// a schema in a PostgreSQL server that is started for all tests (or that PDSKIT_POSTGRES names), and a bucket
// in an S3 server of its own. BackendTests matches the tests that say something about the backend.
func backend(t testing.TB, dir string) []string {
	t.Helper()
	switch os.Getenv("PDSKIT_PDS_BACKEND") {
	case "", "sqlite":
		return nil
	case "postgres":
	default:
		t.Fatalf("PDSKIT_PDS_BACKEND is %q, and not sqlite or postgres", os.Getenv("PDSKIT_PDS_BACKEND"))
	}
	if env, ok := backends.Load(dir); ok {
		return env.([]string)
	}
	server := pgtest.URL(t)
	separator := "?"
	if strings.Contains(server, "?") {
		separator = "&"
	}
	sum := sha256.Sum256([]byte(dir))
	env := append(bucketEnv(t, s3test.Start(t)), fmt.Sprintf("PDS_DATABASE_URL=%s%ssearch_path=pds_%x", server, separator, sum[:12]))
	backends.Store(dir, env)
	return env
}
