//go:build !js

package stream_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/stream"
	"github.com/pdskit/pdskit/xrpc/stream/dictionary"
)

const jetstreamModule = "github.com/bluesky-social/jetstream"

// The versions of Jetstream's module that have the official clients of version 1 and 2.
const (
	jetstreamV1 = "v0.0.0-20250414024304-d17bd81a945e"
	jetstreamV2 = "v0.2.0"
)

// clientV1 prints the events that the official client of version 1 hands out, with its defaults.
const clientV1 = `package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strconv"

	"github.com/bluesky-social/jetstream/pkg/client"
	"github.com/bluesky-social/jetstream/pkg/client/schedulers/sequential"
	"github.com/bluesky-social/jetstream/pkg/models"
)

func main() {
	config := client.DefaultClientConfig()
	config.WebsocketURL = "ws" + os.Args[1][len("http"):] + "/subscribe"
	config.WantedCollections = os.Args[3:]
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	out := json.NewEncoder(os.Stdout)
	c, err := client.NewClient(config, log, sequential.NewScheduler("x", log, func(_ context.Context, e *models.Event) error {
		return out.Encode(e)
	}))
	if err != nil {
		panic(err)
	}
	cursor, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		panic(err)
	}
	panic(c.ConnectAndRead(context.Background(), &cursor))
}
`

// clientV2 prints those of version 2: first a replay, then what comes.
const clientV2 = `package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strconv"

	"github.com/bluesky-social/jetstream"
)

func main() {
	after, err := strconv.ParseUint(os.Args[2], 10, 64)
	if err != nil {
		panic(err)
	}
	start := jetstream.WithLiveCursor(after)
	if after == 0 {
		start = jetstream.WithAfterSeq(0)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	c, err := jetstream.Subscribe(os.Args[1], start, jetstream.WithCollections(os.Args[3:]), jetstream.WithLogger(log))
	if err != nil {
		panic(err)
	}
	out := json.NewEncoder(os.Stdout)
	for batch, err := range c.Events(context.Background()) {
		if err != nil {
			panic(err)
		}
		for _, e := range batch.Events() {
			out.Encode(e)
		}
	}
}
`

// official builds a program with a version of Jetstream's module. It returns its path and the folder
// of the module.
func official(t *testing.T, version, program string) (bin, module string) {
	t.Helper()
	if os.Getenv("PDSKIT_INTEROP") == "" {
		t.Skip("runs with PDSKIT_INTEROP=1: it builds the official client with " + jetstreamModule + "@" + version + ", which it gets from the Go module proxy")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": program, "go.mod": "module client\n\ngo 1.26\n\nrequire " + jetstreamModule + " " + version + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Skipf("the official client cannot be had here: %s@%s and what it imports are needed from the Go module proxy: go %s: %v\n%s", jetstreamModule, version, args[0], err, errs.String())
		}
		return strings.TrimSpace(out.String())
	}
	bin = filepath.Join(dir, "client")
	run("build", "-o", bin, ".")
	return bin, run("list", "-m", "-f", "{{.Dir}}", jetstreamModule)
}

// officialEvent is an event as the official clients hand it out.
type officialEvent struct {
	DID    string `json:"did"`
	TimeUS int64  `json:"time_us"`
	Cursor int64  `json:"cursor"`
	Kind   string `json:"kind"`
	Commit struct {
		Operation, Collection, Rkey, RKey string
		Record                            map[string]any
	}
	Identity struct{ Handle string }
	Account  struct{ Active bool }
}

func (e officialEvent) short() string {
	switch s := e.DID[8:9] + " " + e.Kind; e.Kind {
	case "commit":
		return fmt.Sprintf("%s %s %s/%s%s %v", s, e.Commit.Operation, e.Commit.Collection, e.Commit.Rkey, e.Commit.RKey, e.Commit.Record["text"])
	case "identity":
		return s + " " + e.Identity.Handle
	case "account":
		return fmt.Sprint(s, " ", e.Account.Active)
	default:
		return s
	}
}

// client starts a program, and returns what reads the events that it prints.
func client(t *testing.T, bin string, args ...string) (next func() officialEvent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := exec.CommandContext(ctx, bin, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); cmd.Wait() })
	lines := bufio.NewScanner(out)
	return func() (e officialEvent) {
		t.Helper()
		if !lines.Scan() {
			cmd.Wait()
			t.Fatalf("the client has ended: %s", errs.String())
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
}

// officialEvents are those of an account and its notes, but for the first ones, whose order is not
// fixed.
func officialEvents(n *network) (want []string) {
	n.write(alice, "put com.example.note/1 x", "put com.example.other/2 <y>", "put com.example.note/3 z")
	n.write(alice, "put com.example.note/1 ü", "delete com.example.note/3")
	return []string{
		"a commit create com.example.note/1 x", "a commit create com.example.other/2 <y>", "a commit create com.example.note/3 z",
		"a commit update com.example.note/1 ü", "a commit delete com.example.note/3 <nil>",
	}
}

// The official Go client of version 1 reads the view with its defaults, compressed without a dictionary
// or with its own: replay, live, and after it comes back in the middle of a commit.
func TestJ02OfficialClientV1(t *testing.T) {
	bin, module := official(t, jetstreamV1, clientV1)
	raw, err := os.ReadFile(filepath.Join(module, "pkg", "models", "zstd_dictionary"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := dictionary.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*countingCompressor{"plain": {Dictionary: dictionary.Plain()}, "its own dictionary": {Dictionary: own}} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			n.create(alice, "alice.test")
			want := officialEvents(n)
			srv := httptest.NewServer(&stream.JSONView{Outbox: n.out, Zstd: d})
			t.Cleanup(srv.Close)
			url := srv.URL
			next := client(t, bin, url, "1")
			var first []string
			for range 2 {
				first = append(first, next().short())
			}
			if got := strings.Join(first, ","); got != "a identity alice.test,a account true" && got != "a account true,a identity alice.test" {
				t.Error(got)
			}
			var times []int64
			for _, w := range want {
				e := next()
				same(t, "replay", e.short(), w)
				times = append(times, e.TimeUS)
			}
			n.write(alice, "put com.example.note/9 live")
			e := next()
			same(t, "live", e.short(), "a commit create com.example.note/9 live")
			for i, at := range append(times[1:], e.TimeUS) {
				if at <= times[i] {
					t.Errorf("time_us %d after %d", at, times[i])
				}
			}
			next = client(t, bin, url, fmt.Sprint(times[1]), "com.example.note")
			same(t, "resumed, of one collection", next().short(), want[2])
			same(t, "resumed", next().short(), want[3])
			same(t, "compressed", d.n > 0, true)
		})
	}
}

// The official Go client of version 2 does too: it asks for the plan of the archive, which is empty,
// then for the dictionary, and follows the stream.
func TestJ02OfficialClientV2(t *testing.T) {
	bin, _ := official(t, jetstreamV2, clientV2)
	for name, d := range map[string]*countingCompressor{"no dictionary": {Dictionary: dictionary.Plain()}, "a dictionary": {Dictionary: compressor(t)}} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			n.create(alice, "alice.test")
			want := officialEvents(n)
			url := servePDS(t, &stream.EventsView{Outbox: n.out, Zstd: d})
			next := client(t, bin, url, "0")
			for range 3 { // identity, account, sync
				if e := next(); e.Kind == "commit" {
					t.Error(e.short())
				}
			}
			var last officialEvent
			for _, w := range want {
				e := next()
				if same(t, "replay", e.short(), w); e.Cursor <= last.Cursor {
					t.Errorf("%d after %d", e.Cursor, last.Cursor)
				}
				last = e
			}
			n.write(alice, "put com.example.note/9 live")
			same(t, "live", next().short(), "a commit create com.example.note/9 live")
			next = client(t, bin, url, fmt.Sprint(last.Cursor-2), "com.example.note")
			same(t, "resumed, of one collection", next().short(), want[3])
			same(t, "resumed", next().short(), want[4])
			same(t, "compressed", d.n > 0, d.ID() != 0)
		})
	}
}
