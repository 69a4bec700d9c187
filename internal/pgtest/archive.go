//go:build unix

package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Archive is a server that archives its log, with what is needed to bring another one to any moment
// since the base backup.
type Archive struct{ *Server }

// StartArchived starts a server that archives each segment of its log when it is full, and at least
// every second in which there was any. It is stopped, and the archive deleted, when the test ends.
func StartArchived(tb testing.TB) Archive {
	tb.Helper()
	s, err := newServer(nil)
	missing(tb, err)
	tb.Cleanup(s.Close)
	a := Archive{s}
	if err = os.Mkdir(a.segments(), 0o700); err == nil {
		err = s.Own(a.segments())
	}
	if err == nil {
		s.args = []string{"-c", "wal_level=replica", "-c", "archive_mode=on", "-c", "archive_timeout=1s",
			"-c", fmt.Sprintf("archive_command=test ! -f %[1]s/%%f && cp %%p %[1]s/%%f.new && mv %[1]s/%%f.new %[1]s/%%f", a.segments())}
		if err = s.initdb(); err == nil {
			err = s.begin()
		}
	}
	missing(tb, err)
	return a
}

func (a Archive) segments() string { return filepath.Join(a.dir, "segments") }
func (a Archive) base() string     { return filepath.Join(a.dir, "base") }

// Own gives a file to the user that the server runs as.
func (s *Server) Own(path string) error {
	if s.who == nil {
		return nil
	}
	return os.Chown(path, int(s.who.Uid), int(s.who.Gid))
}

// Backup takes the base backup.
func (a Archive) Backup(tb testing.TB) {
	tb.Helper()
	if err := a.program("pg_basebackup", a.connection("-D", a.base(), "-X", "none", "--checkpoint=fast", "--no-sync")...); err != nil {
		tb.Fatal(err)
	}
}

// connection are the arguments of a program that connects to the server.
func (s *Server) connection(args ...string) []string {
	return append([]string{"-h", s.dir, "-p", fmt.Sprint(s.port), "-U", "postgres"}, args...)
}

// Restore starts a server with the base backup, brought to a moment, which ends when the test does.
func (a Archive) Restore(tb testing.TB, to time.Time) *Server {
	tb.Helper()
	s, err := newServer([]string{
		"-c", fmt.Sprintf("restore_command=cp %s/%%f %%p", a.segments()), "-c", "recovery_target_action=promote",
		"-c", "recovery_target_time=" + to.UTC().Format("2006-01-02 15:04:05.000000+00"),
	})
	missing(tb, err)
	tb.Cleanup(s.Close)
	copied := exec.Command("cp", "-a", a.base(), s.data())
	s.prepare(copied)
	out, err := copied.CombinedOutput()
	if err == nil {
		signal := filepath.Join(s.data(), "recovery.signal")
		if err = os.WriteFile(signal, nil, 0o600); err == nil {
			err = s.Own(signal)
		}
	}
	if err == nil {
		err = s.begin()
	}
	if err != nil {
		tb.Fatalf("restore: %v\n%s", err, out)
	}
	return s
}
