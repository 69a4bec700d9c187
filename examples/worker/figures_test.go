//go:build !js && linux

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/workerd"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// TestFigures prints the table of the README: PDSKIT_FIGURES=1 go test -v -run TestFigures
func TestFigures(t *testing.T) {
	if os.Getenv("PDSKIT_FIGURES") == "" {
		t.Skip("PDSKIT_FIGURES is not set: this prints figures, and takes minutes")
	}
	hosts := []string{"a.test", "b.test", "c.test", "d.test", "e.test", "f.test"}
	w := deploy(t, hosts...)
	wasm := workerd.Build(t, ".", false)
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	z.Write(wasm)
	z.Close()
	row := func(what, format string, args ...any) { t.Logf("| %s | %s |", what, fmt.Sprintf(format, args...)) }
	row("program", "%.1f MB, %.2f MB after gzip", float64(len(wasm))/1e6, float64(zipped.Len())/1e6)
	for i, host := range hosts {
		began, cpu := time.Now(), w.cpu()
		if _, err := api.ServerDescribeServer(t.Context(), w.client(host)); err != nil {
			t.Fatal(err)
		}
		row(fmt.Sprintf("start of object %d", i+1), "%d ms, %d ms of processor", time.Since(began).Milliseconds(), w.cpu()-cpu)
	}
	row("memory at rest", "%.1f MB", w.memory())
	did, c := w.account("f.test", "the owner's password")
	row("memory after an account was made", "%.1f MB", w.memory())
	w.measure(row, "describeServer", 200, func(int) error {
		_, err := api.ServerDescribeServer(t.Context(), c)
		return err
	})
	for _, code := range []string{"cold", "warm"} { // cold: V8 compiles on another thread meanwhile
		w.measure(row, "createRecord, the code "+code, 1000, func(i int) error {
			_, err := api.RepoCreateRecord(t.Context(), c, api.RepoCreateRecordInput{Repo: syntax.AtIdentifier(did), Collection: "com.example.note", Record: note(t, i)})
			return err
		})
	}
	row("memory after 2000 records", "%.1f MB", w.memory())
	w.measure(row, "listRecords of 50", 200, func(int) error {
		_, err := api.RepoListRecords(t.Context(), c, api.RepoListRecordsParams{Repo: syntax.AtIdentifier(did), Collection: "com.example.note"})
		return err
	})
	for n := 2000; n < 50_000; n += 200 {
		var in api.RepoApplyWritesInput
		in.Repo = syntax.AtIdentifier(did)
		for i := range 200 {
			in.Writes = append(in.Writes, api.RepoApplyWritesInput_Writes{Create: &api.RepoApplyWritesCreate{Collection: "com.example.note", Value: note(t, n+i)}})
		}
		if _, err := api.RepoApplyWrites(t.Context(), c, in); err != nil {
			t.Fatal(err)
		}
	}
	row("memory with 50,000 records", "%.1f MB", w.memory())
	w.measure(row, "createRecord with 50,000", 200, func(i int) error {
		_, err := api.RepoCreateRecord(t.Context(), c, api.RepoCreateRecordInput{Repo: syntax.AtIdentifier(did), Collection: "com.example.note", Record: note(t, i)})
		return err
	})
	w.measure(row, "getRepo of 50,000", 1, func(int) error { return w.download(c, did) })
	row("memory after that", "%.1f MB", w.memory())
	w.workerd.Restart(t)
	if _, err := api.ServerDescribeServer(t.Context(), w.client("a.test")); err != nil { // the code is compiled
		t.Fatal(err)
	}
	w.measure(row, "wake-up with 50,000 and a read", 1, func(int) error {
		_, err := api.RepoListRecords(t.Context(), c, api.RepoListRecordsParams{Repo: syntax.AtIdentifier(did), Collection: "com.example.note"})
		return err
	})
	w.measure(row, "first write after that", 1, func(i int) error {
		_, err := api.RepoCreateRecord(t.Context(), c, api.RepoCreateRecordInput{Repo: syntax.AtIdentifier(did), Collection: "com.example.note", Record: note(t, i)})
		return err
	})
	row("memory then", "%.1f MB", w.memory())
}

// measure does something a number of times, and prints what one takes.
func (w *edgeWorld) measure(row func(what, format string, args ...any), what string, times int, do func(i int) error) {
	w.t.Helper()
	began, cpu := time.Now(), w.cpu()
	for i := range times {
		if err := do(i); err != nil {
			w.t.Fatalf("%s: %v", what, err)
		}
	}
	took := time.Since(began)
	row(what, "%.1f ms, %.1f ms of processor", took.Seconds()*1000/float64(times), float64(w.cpu()-cpu)/float64(times))
}

// cpu is the processor time of workerd in milliseconds.
func (w *edgeWorld) cpu() int64 {
	w.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.workerd.PID()))
	if err != nil {
		w.t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return (user + system) * 10
}

// memory is the linear memory of the program that was started last, in megabytes.
func (w *edgeWorld) memory() float64 { return w.memoryOf("") }

// memoryOf is that of an object.
func (w *edgeWorld) memoryOf(object string) float64 {
	w.t.Helper()
	res, err := workerd.Client.Get(w.workerd.URL + "/test/memory?object=" + object)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return n / 1e6
}

func (w *edgeWorld) download(c *xrpc.Client, did syntax.DID) error {
	res, err := c.HTTP.Get(c.Host + "/xrpc/com.atproto.sync.getRepo?did=" + string(did))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || n < 1<<20) {
		err = fmt.Errorf("status %d, %d bytes", res.StatusCode, n)
	}
	return err
}
