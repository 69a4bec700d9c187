package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/sqlitevfs/faultvfs"
	"github.com/pdskit/pdskit/storage"
)

// A disk that is full, or that fails otherwise, is seen in the health and the metrics, and so is
// its recovery.
func TestHealthOfAStoreThatCannotBeWritten(t *testing.T) {
	faults := faultvfs.Install()
	var log bytes.Buffer
	cfg := testConfig(t, map[string]string{"PDS_METRICS_ADDRESS": "localhost:0"})
	var passed atomic.Int64
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
	s, err := Start(t.Context(), cfg, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	get := func() (status int, message string) {
		t.Helper()
		passed.Add(int64(15 * time.Second)) // what was found before no longer counts
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
		if err := s.meters.registry.Write(&b); err != nil {
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
		err := s.data.Store.KV.Write(t.Context(), func(tx storage.KVTx) error { return tx.Set(t.Context(), "key", nil, time.Time{}) })
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
