package server

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/xrpc/doctor"
)

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// What the checks find is in the metrics and in the log.
func TestDoctorMetrics(t *testing.T) {
	var log buffer
	s, err := Start(t.Context(), loaded(t, map[string]string{"PDS_DATA_DIRECTORY": t.TempDir(), "PDS_PORT": "0"}), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(context.Background())
	s.doctor.Checks = append(s.doctor.Checks, doctor.Check{Name: "roof", Run: func(context.Context) []doctor.Finding {
		return []doctor.Finding{doctor.Bad("mend it", "it leaks")}
	}})
	if _, err := s.doctor.Now(t.Context()); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.meters.registry.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`pds_check{check="roof"} 2`, `pds_check{check="configuration"} 0`, `pds_check{check="clock"} -1`} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("no %s in\n%s", part, &b)
		}
	}
	if !strings.Contains(log.String(), "it leaks") || !strings.Contains(log.String(), "mend it") {
		t.Error(log.String())
	}
}

// A server that got another name says so at its start: the DIDs of its accounts name the old one.
func TestChangedName(t *testing.T) {
	dir := t.TempDir()
	run := func(during func(s *Server), more ...string) string {
		env := map[string]string{"PDS_DATA_DIRECTORY": dir, "PDS_PORT": "0", "PDS_DEV_MODE": "true", "PDS_HOSTNAME": "pds.site.test", "PDS_SERVICE_HANDLE_DOMAINS": ".test"}
		for _, e := range more {
			name, value, _ := strings.Cut(e, "=")
			env[name] = value
		}
		var log buffer
		s, err := Start(t.Context(), loaded(t, env), slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		during(s)
		s.warnOfAddresses(t.Context())
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		return log.String()
	}
	make := func(s *Server) {
		body, _ := json.Marshal(map[string]string{"handle": "alice.test", "email": "alice@example.com", "password": "a long password"})
		resp, err := http.Post("http://"+s.listener.Addr().String()+"/xrpc/com.atproto.server.createAccount", "application/json", bytes.NewReader(body))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
	}
	const words = "DIDs of accounts name another server"
	if log := run(make); strings.Contains(log, words) {
		t.Error(log)
	}
	if log := run(func(*Server) {}, "PDS_HOSTNAME=new.site.test"); !strings.Contains(log, words) || !strings.Contains(log, "names=https://pds.site.test") {
		t.Error(log)
	}
	if log := run(func(*Server) {}); strings.Contains(log, words) {
		t.Error(log)
	}
}
