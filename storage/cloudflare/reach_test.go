//go:build linux

package cloudflare_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/workerd"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/cloudflare/internal/testpds"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// TestReach measures how far an object carries, beside the same server over storage/sqlite, and prints a
// table. It runs alone and takes minutes. PDSKIT_REACH=50000
// has repositories of that size only.
//
//	PDSKIT_REACH=1 go test -v -count=1 -timeout 20m -run '^TestReach$' ./storage/cloudflare
func TestReach(t *testing.T) {
	if os.Getenv("PDSKIT_REACH") == "" {
		t.Skip("a benchmark, which runs with PDSKIT_REACH=1")
	}
	wasm := workerd.Build(t, "./internal/testworker", false)
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	must(t, err)
	_, err = z.Write(wasm)
	must(t, err)
	must(t, z.Close())
	s := startWorker(t, nil)
	object := &measured{URL: s.URL, pid: s.PID()}
	native := startNative(t)
	row := func(what, inside, outside string) { t.Logf("| %s | %s | %s |", what, inside, outside) }
	ratio := func(what, unit string, inside, outside float64) {
		row(what, fmt.Sprintf("%.3g %s", inside, unit), fmt.Sprintf("%.3g %s, ×%.1f", outside, unit, inside/outside))
	}
	row("", "object", "native")
	row("program of the tests, raw and gzip", fmt.Sprintf("%.2f MB, %.2f MB", float64(len(wasm))/1e6, float64(packed.Len())/1e6), "")

	var ready []time.Duration
	for i := range 6 {
		begin := time.Now()
		get(t, s, fmt.Sprintf("/test/memory?object=ready%d", i))
		ready = append(ready, time.Since(begin))
	}
	row("object ready: first, later", fmt.Sprintf("%d ms, %d ms", ready[0].Milliseconds(), median(ready[1:]).Milliseconds()), "")
	row("linear memory at rest", megabytes(memoryOf(t, s, "ready5")), "")

	object.get(t, "/test/create")
	native.get(t, "/test/create")
	for _, m := range []*measured{object, native} {
		m.load(t, 1, 200, createBody) // warm
	}
	for _, clients := range []int{1, 8} {
		in, out := object.load(t, clients, 1000, createBody), native.load(t, clients, 1000, createBody)
		ratio(fmt.Sprintf("createRecord, %d clients", clients), "/s", in.rate, out.rate)
		ratio(fmt.Sprintf("createRecord, %d clients, processor", clients), "ms", in.cpu, out.cpu)
		ratio(fmt.Sprintf("createRecord, %d clients, median", clients), "ms", in.median, out.median)
	}
	list := "/xrpc/com.atproto.repo.listRecords?repo=" + string(testpds.Alice) + "&collection=com.example.note"
	in, out := object.load(t, 1, 200, list), native.load(t, 1, 200, list)
	ratio("listRecords, processor", "ms", in.cpu, out.cpu)

	sizes := []int{10_000, 50_000, 100_000}
	if n, err := strconv.Atoi(os.Getenv("PDSKIT_REACH")); err == nil && n != 1 {
		sizes = []int{n}
	}
	for _, n := range sizes {
		file := export(t, n)
		for _, m := range []*measured{object, native} {
			m.took = m.time(t, func() {
				m.post(t, "/xrpc/com.atproto.repo.importRepo?object=big", "application/vnd.ipld.car", bytes.NewReader(file))
			})
		}
		ratio(fmt.Sprintf("importRepo of %d records, %s", n, megabytes(len(file))), "s", object.took, native.took)
		ratio("  processor", "s", object.cpu, native.cpu)
		row("  linear memory after", megabytes(memoryOf(t, s, "big")), "")
		path := "/xrpc/com.atproto.sync.getRepo?object=big&did=" + string(testpds.Alice)
		for _, m := range []*measured{object, native} {
			m.took = m.time(t, func() { m.get(t, path) })
		}
		ratio(fmt.Sprintf("getRepo of %d records", n), "s", object.took, native.took)
		ratio("  processor", "s", object.cpu, native.cpu)
		row("  linear memory after", megabytes(memoryOf(t, s, "big")), "")
		s.Restart(t)
		object.URL, object.pid = s.URL, s.PID()
		get(t, s, "/test/memory?object=big")
		took := object.time(t, func() {
			object.post(t, "/xrpc/com.atproto.repo.createRecord?object=big", "application/json", strings.NewReader(createBody))
		})
		row("  first write after a restart; linear memory", fmt.Sprintf("%.2f s", took), megabytes(memoryOf(t, s, "big")))
	}
}

const createBody = `{"repo":"` + string(testpds.Alice) + `","collection":"com.example.note","validate":false,"record":{"$type":"com.example.note","text":"A post of the usual length, as people write them all day long."}}`

// TestReachBlob puts a blob of 100 MB into R2, as miniflare has it, and reads it.
func TestReachBlob(t *testing.T) {
	if os.Getenv("PDSKIT_REACH") == "" {
		t.Skip("a benchmark, which runs with PDSKIT_REACH=1")
	}
	s := startWorkerConfig(t, workerd.Config{Buckets: []string{"BLOBS"}})
	m := &measured{URL: s.URL, pid: s.PID()}
	m.get(t, "/test/create")
	const n = 100 << 20
	var ref []byte
	took := m.time(t, func() {
		ref = m.post(t, "/xrpc/com.atproto.repo.uploadBlob", "video/mp4", io.LimitReader(zeros{}, n))
	})
	t.Logf("| upload of 100 MB | %.1f s |", took)
	t.Logf("| linear memory after | %s |", megabytes(memoryOf(t, s, "one")))
	_, cid, _ := strings.Cut(string(ref), `"$link":"`)
	cid, _, _ = strings.Cut(cid, `"`)
	m.post(t, "/xrpc/com.atproto.repo.createRecord", "application/json", strings.NewReader(`{"repo":"`+string(testpds.Alice)+
		`","collection":"com.example.note","validate":false,"record":{"$type":"com.example.note","blob":`+
		strings.TrimSuffix(strings.TrimPrefix(string(ref), `{"blob":`), "}")+`}}`))
	took = m.time(t, func() {
		m.get(t, "/xrpc/com.atproto.sync.getBlob?did="+string(testpds.Alice)+"&cid="+cid)
	})
	t.Logf("| download | %.1f s |", took)
	t.Logf("| linear memory after | %s |", megabytes(memoryOf(t, s, "one")))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func megabytes(n int) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func median(list []time.Duration) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// memoryOf is the linear memory of an object's program.
func memoryOf(tb testing.TB, s *workerd.Server, object string) (linear int) {
	tb.Helper()
	_, err := fmt.Sscan(get(tb, s, "/test/linear?object="+object), &linear)
	must(tb, err)
	return linear
}

// measured is a server.
type measured struct {
	URL string
	pid int
	// Of what was measured last, in seconds.
	took, cpu float64
}

// client keeps connections for all that a measurement has.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 10 * time.Minute}

func (m *measured) do(tb testing.TB, r *http.Request) []byte {
	tb.Helper()
	resp, err := client.Do(r)
	must(tb, err)
	defer resp.Body.Close()
	var kept bytes.Buffer
	_, err = io.Copy(&kept, io.LimitReader(resp.Body, 1<<20))
	must(tb, err)
	_, err = io.Copy(io.Discard, resp.Body)
	must(tb, err)
	if resp.StatusCode != http.StatusOK {
		tb.Fatalf("%s: %s %s", r.URL, resp.Status, kept.String())
	}
	return kept.Bytes()
}

func (m *measured) get(tb testing.TB, path string) []byte {
	tb.Helper()
	r, err := http.NewRequest("GET", m.URL+path, nil)
	must(tb, err)
	return m.do(tb, r)
}

func (m *measured) post(tb testing.TB, path, kind string, body io.Reader) []byte {
	tb.Helper()
	r, err := http.NewRequest("POST", m.URL+path, body)
	must(tb, err)
	r.Header.Set("Content-Type", kind)
	return m.do(tb, r)
}

// time is how many seconds something takes.
func (m *measured) time(tb testing.TB, fn func()) float64 {
	tb.Helper()
	before, begin := cpuTime(tb, m.pid), time.Now()
	fn()
	m.cpu = (cpuTime(tb, m.pid) - before).Seconds()
	return time.Since(begin).Seconds()
}

// result is that of a load.
type result struct {
	rate        float64 // requests a second
	cpu, median float64 // milliseconds a request
}

// load makes requests: of a path, or createRecord with a body.
func (m *measured) load(tb testing.TB, clients, n int, what string) result {
	tb.Helper()
	client.CloseIdleConnections() // which workerd closes after five seconds
	var left atomic.Int64
	left.Store(int64(n))
	times := make([][]time.Duration, clients)
	before, begin := cpuTime(tb, m.pid), time.Now()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				if strings.HasPrefix(what, "/") {
					m.get(tb, what)
				} else {
					m.post(tb, "/xrpc/com.atproto.repo.createRecord", "application/json", strings.NewReader(what))
				}
				times[i] = append(times[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	return result{
		rate:   float64(n) / took.Seconds(),
		cpu:    (cpuTime(tb, m.pid) - before).Seconds() * 1000 / float64(n),
		median: median(slices.Concat(times...)).Seconds() * 1000,
	}
}

// cpuTime is how much processor time a process has used: ticks of 10 ms.
func cpuTime(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(tb, err)
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	must(tb, err1)
	must(tb, err2)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// export is the CAR file of a repository with n records.
func export(tb testing.TB, n int) []byte {
	tb.Helper()
	host := testpds.New(http.NewServeMux(), repo.Config{Store: memory.New(memory.Config{})})
	_, err := host.Create(tb.Context(), testpds.Alice, repo.Batch{})
	must(tb, err)
	for i := 0; i < n; i += 200 {
		var b repo.Batch
		for range 200 {
			w, err := testpds.Note(host, 150)
			must(tb, err)
			b.Writes = append(b.Writes, w)
		}
		_, err := host.Apply(tb.Context(), testpds.Alice, b)
		must(tb, err)
	}
	var car bytes.Buffer
	must(tb, host.Export(tb.Context(), testpds.Alice, "", &car))
	return car.Bytes()
}

// startNative runs the same server over storage/sqlite, in a process of its own: this test again.
func startNative(tb testing.TB) *measured {
	tb.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestNativeServer$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), "PDSKIT_REACH_NATIVE="+tb.TempDir())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(tb, err)
	out, err := cmd.StdoutPipe()
	must(tb, err)
	must(tb, cmd.Start())
	tb.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "http://") {
			go io.Copy(io.Discard, out)
			return &measured{URL: lines.Text(), pid: cmd.Process.Pid}
		}
	}
	tb.Fatal("the native server does not start")
	return nil
}

// TestNativeServer is the process of startNative.
func TestNativeServer(t *testing.T) {
	dir := os.Getenv("PDSKIT_REACH_NATIVE")
	if dir == "" {
		t.Skip("the other process of TestReach")
	}
	db, err := sqlite.Open(context.Background(), filepath.Join(dir, "db.sqlite"), sqlite.Config{})
	must(t, err)
	defer db.Close()
	store := db.Store()
	store.Blobs = memory.New(memory.Config{}).Blobs
	mux := http.NewServeMux()
	testpds.New(mux, repo.Config{Store: store, TempDir: filepath.Join(dir, "tmp")})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	fmt.Println("http://" + l.Addr().String())
	go http.Serve(l, mux)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
