package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/examples/agents/internal/brain"
	"github.com/pdskit/pdskit/internal/browser"
)

var chromium browser.Chromium

// TestMain runs the program itself in a process that a test has started as a child.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
		return
	}
	chromium.Main(m)
}

// TestChaos is a short -chaos. PDSKIT_AGENTS_KILLS says how often the process is killed, and
// PDSKIT_AGENTS_SEED where the random numbers begin.
func TestChaos(t *testing.T) {
	o, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	o.chaos, o.kills = time.Hour, 6
	if testing.Short() {
		o.kills = 2
	}
	if n, err := strconv.Atoi(os.Getenv("PDSKIT_AGENTS_KILLS")); err == nil {
		o.kills = n
	}
	if seed, err := strconv.ParseUint(os.Getenv("PDSKIT_AGENTS_SEED"), 10, 64); err == nil {
		o.seed = seed
	}
	var out bytes.Buffer
	err = chaos(t.Context(), o, &out)
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "No task is lost") || strings.Contains(text, "\n0 tasks") {
		t.Error("nothing was checked")
	}
}

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithoutCancel(t.Context()))
}

// waitFor waits until a server answers.
func waitFor(t *testing.T, address string) {
	t.Helper()
	eventually(t, func() bool {
		res, err := http.Get("http://" + address + "/")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
}

// eventually waits until something is so.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never comes to be so")
		}
	}
}

// TestReadme: the request and the answer in the README are what the types encode.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "```json\n")
	if len(blocks) != 3 {
		t.Fatalf("the README has %d blocks of JSON", len(blocks)-1)
	}
	for i, v := range []any{&brain.Request{}, &brain.Response{}} {
		text, _, _ := strings.Cut(blocks[i+1], "```")
		var got, want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), v); err != nil {
			t.Fatal(err)
		}
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(encoded, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the README (-) and the types (+):\n%s", diff)
		}
	}
}

// TestPython: the program that the README shows is a brain.
func TestPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	o, err := parse([]string{"-brain", python + " brain.py"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := o.thinker()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []brain.Request{
		{Occasion: brain.OnTick, Tick: 3},
		{Occasion: brain.OnTask, Task: &brain.Task{Kind: "count", Text: "hello", Attempt: 1}, Known: []brain.Known{{URI: "at://a/b/c"}}},
		{Occasion: brain.OnMessage, Message: &brain.Message{From: "Bo", Text: "hello"}},
	} {
		answer, err := b.Think(t.Context(), r)
		if err != nil {
			t.Errorf("%s: %v", r.Occasion, err)
		}
		if r.Occasion == brain.OnTask && (answer.Output != "HELLO" || len(answer.Evidence) != 1) {
			t.Errorf("%+v", answer)
		}
	}
}

// TestFlags: what makes no sense is refused before anything is opened.
func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-agents", "0"}, {"more"}, {"-brain", ""}} {
		o, err := parse(args)
		if err == nil {
			_, err = o.thinker()
		}
		if err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	for _, text := range []string{"0.0.0.0:2600", ":2600", "example.com:2600", "localhost"} {
		if _, err := address(text); err == nil {
			t.Errorf("it listens on %s", text)
		}
	}
}

// TestTail: of what processes say, whole lines at the end are kept.
func TestTail(t *testing.T) {
	var said tail
	fmt.Fprintln(&said, "first")
	if got := said.String(); got != "first\n" {
		t.Errorf("%q", got)
	}
	for i := range 5000 {
		fmt.Fprintln(&said, "line", i)
	}
	got := said.String()
	if len(got) > tailBytes || len(got) < tailBytes-20 || !strings.HasPrefix(got, "line ") || !strings.HasSuffix(got, "\nline 4999\n") {
		t.Errorf("%d bytes, from %.20q", len(got), got)
	}
}
