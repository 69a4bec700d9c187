package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The program measures all that it promises, if only for a moment.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the server")
	}
	opt := options{
		dir: t.TempDir(), json: true, profiles: t.TempDir(), duration: 50 * time.Millisecond,
		clients: 2, accounts: 3, coldAccounts: 3, records: 150, downloads: 2,
	}
	var out bytes.Buffer
	if err := run(t.Context(), opt, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	var results []result
	if err := json.Unmarshal(out.Bytes(), &results); err != nil {
		t.Fatal(err)
	}
	want := []string{"createRecord over HTTP, 2 clients, durable", "getRecord", "listRecords, 50", "getRepo, 1,000 records", "its first byte, of a new connection", "getRepo, 150 records (0 MB)", "2 at once", "apps let in: request, page, consent, code", "getSession with a bearer token", "getSession with DPoP", "memory at rest with 3 accounts", "cold start with 3 accounts"}
	if len(results) != len(want) {
		t.Fatalf("%+v", results)
	}
	for i, r := range results {
		if r.Work != want[i] || r.Target == "" || r.Measured == "" || strings.HasPrefix(r.Measured, "0/s") {
			t.Errorf("%+v", r)
		}
	}
	for _, name := range []string{"createRecord.cpu", "listRecords-50.heap"} {
		if info, err := os.Stat(filepath.Join(opt.profiles, name)); err != nil || info.Size() == 0 {
			t.Errorf("no profile %s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(opt.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	opt.only = "write,everything"
	if err := run(t.Context(), opt, io.Discard, io.Discard); err == nil {
		t.Error("no error for a work that there is not")
	}
}

func TestAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		n    int64
		fail string
	}{
		"length":         {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 3, ""},
		"chunks":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", 13, ""},
		"error":          {"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nslow", 0, "status 429: slow"},
		"torn":           {"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nabc", 0, "EOF"},
		"torn in chunks": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", 0, "EOF"},
		"no end":         {"HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\nabc", 0, errAnswer.Error()},
		"bad length":     {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc", 0, "invalid"},
		"no answer":      {"hello\r\n", 0, errAnswer.Error()},
	} {
		n, err := answer(bufio.NewReader(strings.NewReader(tt.text)))
		if tt.fail == "" && (err != nil || n != tt.n) || tt.fail != "" && (err == nil || !strings.Contains(err.Error(), tt.fail)) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	if _, err := answer(bufio.NewReader(strings.NewReader(""))); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestFigures(t *testing.T) {
	f := figures{calls: 4000, took: 2 * time.Second, busy: time.Second}
	for i := range 4000 {
		f.times = append(f.times, time.Duration(i)*time.Microsecond)
	}
	if got := f.String(); got != "2,000/s, p50 2.0 ms, p99 4.0 ms; 250 µs of the server's processors each" {
		t.Error(got)
	}
	if got := (figures{took: time.Second}).String(); !strings.HasPrefix(got, "0/s") {
		t.Error(got)
	}
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(v); got != want {
			t.Errorf("%v: %s", v, got)
		}
	}
}

// Attacks run for a moment each, on small data, and leave nothing behind. What they find is not
// looked at here.
func TestHostile(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the server")
	}
	opt := options{dir: t.TempDir(), json: true, hostile: true, duration: 2 * time.Second, records: 2000}
	var only []string
	for _, a := range attacks {
		if a.name != "slots" && a.name != "connections" && a.name != "bodies" { // thousands of connections
			only = append(only, a.name)
		}
	}
	opt.only = strings.Join(only, ",")
	var out bytes.Buffer
	if err := run(t.Context(), opt, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	var results []result
	if err := json.Unmarshal(out.Bytes(), &results); err != nil {
		t.Fatal(err)
	}
	if len(results) != len(only) {
		t.Fatalf("%+v", results)
	}
	for _, r := range results {
		t.Logf("%+v", r)
		if r.Work == "" || !strings.Contains(r.Measured, "createRecord") || strings.Contains(r.Measured, "p99 of 0 createRecord") {
			t.Errorf("%+v", r)
		}
	}
	if left, err := os.ReadDir(opt.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The server is attacked with the memory that its unit file gives it.
func TestMemoryLimitIsThatOfTheUnitFile(t *testing.T) {
	text, err := os.ReadFile("../deploy/pds.service")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("\nEnvironment=GOMEMLIMIT="+memoryLimit+"\n")) {
		t.Error("GOMEMLIMIT is another one")
	}
}
