package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/sqlitevfs/faultvfs"
	"github.com/pdskit/pdskit/storage"
)

// proberAt is a prober with a clock that a test sets.
func proberAt(write func(context.Context) error) (p *prober, pass func(time.Duration)) {
	var clock atomic.Int64
	p = &prober{write: write, now: func() time.Time { return time.Unix(1_000_000, clock.Load()) }}
	return p, func(d time.Duration) { clock.Add(int64(d)) }
}

// The store is written as seldom as will do, and what is found is soon found again.
func TestProber(t *testing.T) {
	var result error
	var told []error
	probes := 0
	p, pass := proberAt(func(context.Context) error {
		probes++
		return result
	})
	p.changed = func(err error) { told = append(told, err) }
	full := errors.New("full")
	expect := func(what string, want error, n int) {
		t.Helper()
		if err := p.writable(t.Context()); !errors.Is(err, want) || err != nil && want == nil || probes != n {
			t.Fatalf("%s: %v after %d probes, want %v after %d", what, err, probes, want, n)
		}
	}
	expect("at first", nil, 1)
	result = full
	expect("soon after", nil, 1)
	pass(probeGood)
	expect("later", full, 2)
	result = nil
	expect("soon after", full, 2)
	pass(probeBad)
	expect("with room again", nil, 3)
	// A request has failed.
	result = full
	p.doubt()
	expect("at the same moment", nil, 3) // as many probes as requests are too many
	pass(probeBad)
	expect("soon after", full, 4)
	result = nil
	pass(probeBad)
	expect("again", nil, 5)
	if len(told) != 4 || told[0] != full || told[1] != nil || told[2] != full || told[3] != nil {
		t.Errorf("changes: %v", told)
	}
}

// However many ask, one probe is under way; a write that never ends is a failure in the end, and
// holds nobody up.
func TestProberWhoseWriteDoesNotEnd(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	var probes atomic.Int32
	p, pass := proberAt(func(context.Context) error {
		if probes.Add(1) == 1 {
			close(begun)
		}
		<-end
		return nil
	})
	ended, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			if err := p.writable(ended); err != nil {
				t.Error(err)
			}
		})
	}
	<-begun
	cancel()
	asking.Wait()
	pass(probeStuck + 1)
	if err := p.writable(ended); err == nil {
		t.Error("a write that takes an hour is well")
	}
	close(end)
	p.wait(t.Context())
	if err := p.writable(t.Context()); err != nil || probes.Load() != 1 {
		t.Errorf("%v after %d probes", err, probes.Load())
	}
}

// A disk that is full, or that fails otherwise, is seen in the health and the metrics, and so is
// its recovery.
func TestHealthOfAStoreThatCannotBeWritten(t *testing.T) {
	faults := faultvfs.Install()
	var log bytes.Buffer
	s, err := Start(t.Context(), testConfig(t, map[string]string{"PDS_METRICS_ADDRESS": "localhost:0"}), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	get := func() (status int, message string) {
		t.Helper()
		s.op.prober.mu.Lock()
		s.op.prober.until = time.Time{} // some time has passed
		s.op.prober.mu.Unlock()
		resp, err := http.Get(s.url + "/xrpc/_health")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		var out struct{ Version, Error, Message string }
		if err := errors.Join(err, json.Unmarshal(body, &out)); err != nil || out.Version != Version {
			t.Fatalf("%s: %v", body, err)
		}
		return resp.StatusCode, out.Message
	}
	metric := func() string {
		var b bytes.Buffer
		if err := s.op.metrics.Write(&b); err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(b.String(), "\npds_store_writable ")
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}
	well := func() {
		t.Helper()
		if status, message := get(); status != 200 || message != "" || metric() != "1" {
			t.Errorf("%d %s, metric %s", status, message, metric())
		}
	}
	well()
	for errno, want := range map[error]string{
		syscall.ENOSPC: "The disk is full: nothing can be written", syscall.EIO: "The store cannot be written", syscall.EROFS: "The store cannot be written",
	} {
		faults.Set(func() error { return errno })
		if status, message := get(); status != 503 || message != want || metric() != "0" {
			t.Errorf("%v: %d %s, metric %s", errno, status, message, metric())
		}
		err := s.store.KV.Write(t.Context(), func(tx storage.KVTx) error { return tx.Set(t.Context(), "key", nil, time.Time{}) })
		if errno == syscall.ENOSPC && (!errors.Is(err, storage.ErrFull) || strings.Contains(err.Error(), "I/O")) {
			t.Errorf("a write: %v", err)
		}
		faults.Set(nil)
		well()
	}
	// A folder that is gone, as when a disk was unmounted.
	if err := os.Rename(s.data.Blobs, s.data.Blobs+".away"); err != nil {
		t.Fatal(err)
	}
	if status, message := get(); status != 503 || message != "The store cannot be written" {
		t.Errorf("%d %s", status, message)
	}
	if err := os.Rename(s.data.Blobs+".away", s.data.Blobs); err != nil {
		t.Fatal(err)
	}
	well()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.cfg.DataDirectory, "probe*")); len(left) > 0 {
		t.Errorf("%q", left)
	}
	if text := log.String(); strings.Count(text, "the store cannot be written") != 4 || strings.Count(text, "can be written again") != 4 {
		t.Error(text)
	}
}
