package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
)

func loaded(t *testing.T, env map[string]string) *config.Config {
	t.Helper()
	cfg, err := config.Load(env)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// busy returns a port that is taken.
func busy(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// An error of listening names the variable to change, and a server does without metrics.
func TestListenErrors(t *testing.T) {
	port := busy(t)
	cfg := loaded(t, map[string]string{"PDS_DATA_DIRECTORY": t.TempDir(), "PDS_PORT": port})
	_, err := Start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	var e *ListenError
	if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), "PDS_PORT, PDS_BIND_ADDRESS: cannot listen on localhost:"+port) || !strings.Contains(err.Error(), "sport = :"+port) {
		t.Errorf("%v", err)
	}
	var log bytes.Buffer
	cfg = loaded(t, map[string]string{"PDS_DATA_DIRECTORY": t.TempDir(), "PDS_PORT": "0", "PDS_METRICS_ADDRESS": "localhost:" + port})
	s, err := Start(t.Context(), cfg, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "there are no metrics") || !strings.Contains(log.String(), "PDS_METRICS_ADDRESS: cannot listen") {
		t.Error(log.String())
	}
	cfg = loaded(t, map[string]string{"PDS_DATA_DIRECTORY": t.TempDir(), "PDS_PORT": "0", "PDS_HOSTNAME": "pds.site.test", "PDS_BIND_ADDRESS": "localhost",
		"PDS_TLS_ACME": "true", "PDS_HTTP_PORT": port})
	if _, err := Start(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), "PDS_HTTP_PORT") {
		t.Errorf("%v", err)
	}
	if _, err := listen("PDS_PORT", "192.0.2.1:0"); err == nil || !strings.Contains(err.Error(), "No network interface") {
		t.Errorf("%v", err)
	}
}

// One server serves from a directory. A second one is told which process that is, whatever its port.
func TestTwoServers(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"PDS_DATA_DIRECTORY": dir, "PDS_PORT": "0"}
	first, err := Start(t.Context(), loaded(t, env), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), loaded(t, env), slog.New(slog.DiscardHandler))
	if !errors.Is(err, datadir.ErrServed) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second server: %v", err)
	}
	if err := first.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	again, err := Start(t.Context(), loaded(t, env), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	again.Shutdown(context.Background())
}

// A folder of the official server is not taken for an empty one, and nothing is left in it.
func TestForeignData(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "account.sqlite"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), loaded(t, map[string]string{"PDS_DATA_DIRECTORY": dir, "PDS_PORT": "0"}), slog.New(slog.DiscardHandler))
	if !errors.Is(err, datadir.ErrForeign) || !strings.Contains(err.Error(), "PDS_DATA_DIRECTORY") {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// The did:plc directory has the same address at each start, unless somebody else has taken its port.
func TestPLCPort(t *testing.T) {
	env := map[string]string{"PDS_DATA_DIRECTORY": t.TempDir(), "PDS_PORT": "0"}
	at := func() (url string, log string) {
		var b bytes.Buffer
		s, err := Start(t.Context(), loaded(t, env), slog.New(slog.NewTextHandler(&b, nil)))
		if err != nil {
			t.Fatal(err)
		}
		url, local := s.PLC()
		if !local {
			t.Error("the directory is elsewhere")
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		return url, b.String()
	}
	first, _ := at()
	if second, _ := at(); second != first {
		t.Errorf("%s, then %s", first, second)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(first, "http://"), ":")
	l, err := net.Listen("tcp", "localhost:"+port)
	if err != nil {
		t.Skip("somebody has taken the port:", err)
	}
	if third, log := at(); third == first || !strings.Contains(log, "is taken") {
		t.Errorf("while %s is taken: %s\n%s", first, third, log)
	}
	l.Close()
	if fourth, _ := at(); fourth != first {
		t.Errorf("later: %s, want %s", fourth, first)
	}
}

func TestVersionOf(t *testing.T) {
	info := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	commit := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123"}
	for _, tt := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{nil, unreleased},
		{info("v1.2.3"), "1.2.3"},
		{info("(devel)"), unreleased},
		{info("(devel)", commit), unreleased + "+0123456789ab"},
		{info("", commit, debug.BuildSetting{Key: "vcs.modified", Value: "true"}), unreleased + "+0123456789ab.changed"},
	} {
		if got := versionOf(tt.info); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.info, got, tt.want)
		}
	}
}
