package brain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/lexicon/data"
)

// TestMain is the program of a Command, if the environment says which.
func TestMain(m *testing.M) {
	switch os.Getenv("AGENTS_BRAIN") {
	case "":
		os.Exit(m.Run())
	case "good":
		fmt.Print(`{"output":"from outside","tell":"done"}`)
	case "long":
		for {
			fmt.Print(strings.Repeat("x", 1<<16))
		}
	case "slow":
		time.Sleep(time.Hour)
	case "fails":
		fmt.Fprint(os.Stderr, "no model")
		os.Exit(3)
	case "garbage":
		fmt.Print(`{"output":"a","output":"b"}`)
	}
}

func request(kind, text string) Request {
	return Request{Agent: Agent{DID: "did:plc:a", Name: "Ada"}, Occasion: OnTask, Task: &Task{URI: "at://did:plc:a/x/1", Kind: kind, Text: text, Attempt: 1}}
}

// TestScripted: the same request has the same answer, within the bounds, and each kind is somebody's.
func TestScripted(t *testing.T) {
	can := make(map[string]bool)
	for _, role := range Kinds() {
		for _, kind := range role {
			can[kind] = true
		}
	}
	for n := range int64(200) {
		tick, err := Scripted{}.Think(t.Context(), Request{Occasion: OnTick, Tick: n})
		if err != nil || len(tick.Tasks) != 1 || tick.Check() != nil {
			t.Fatalf("tick %d: %v, %v", n, tick, err)
		}
		task := tick.Tasks[0]
		if !can[task.Kind] {
			t.Errorf("nobody does %q", task.Kind)
		}
		one, err := Scripted{}.Think(t.Context(), request(task.Kind, task.Text))
		two, _ := Scripted{}.Think(t.Context(), request(task.Kind, task.Text))
		if d := cmp.Diff(one, two); d != "" {
			t.Error(d)
		}
		if failing := task.Kind == "fragile" || task.Kind == "impossible"; (err != nil) != failing {
			t.Errorf("%s: %v", task.Kind, err)
		} else if err == nil && (one.Check() != nil || one.Output == "") {
			t.Errorf("%s: %v", task.Kind, one.Check())
		}
		for _, part := range one.Tasks {
			if !can[part.Kind] {
				t.Errorf("nobody does %q", part.Kind)
			}
		}
	}
}

func TestCommand(t *testing.T) {
	for name, want := range map[string]string{
		"good": "", "long": "more than", "slow": "deadline", "fails": "no model", "garbage": "not an answer",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AGENTS_BRAIN", name)
			c := Command{Path: os.Args[0], Timeout: time.Minute}
			if name == "slow" {
				c.Timeout = 50 * time.Millisecond
			}
			r, err := c.Think(t.Context(), request("count", "a"))
			if want == "" && (err != nil || r.Output != "from outside") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%v, %v", r, err)
			}
		})
	}
}

func TestEndpoint(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			if r.Header.Get("Authorization") != "Bearer secret" {
				t.Error("no token")
			}
			fmt.Fprint(w, `{"output":"from afar","artifact":{"type":"text/plain","data":"aGk="}}`)
		case "/long":
			for range MaxAnswer/1024 + 2 {
				fmt.Fprint(w, strings.Repeat(" ", 1024))
			}
		case "/slow":
			io.Copy(io.Discard, r.Body) // only then does the server see that the client has gone
			<-r.Context().Done()
		case "/moved":
			http.Redirect(w, r, "/good", http.StatusTemporaryRedirect)
		}
	}))
	defer s.Close()
	for path, want := range map[string]string{"/good": "", "/long": "more than", "/slow": "deadline", "/moved": "307"} {
		timeout := time.Minute
		if path == "/slow" {
			timeout = 50 * time.Millisecond
		}
		r, err := Endpoint{URL: s.URL + path, Token: "secret", Timeout: timeout}.Think(t.Context(), request("count", "a"))
		if want == "" && (err != nil || r.Output != "from afar" || string(r.Artifact.Data) != "hi") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, %v", path, r, err)
		}
	}
}

// TestBounds: what is over a bound is refused.
func TestBounds(t *testing.T) {
	long := strings.Repeat("x", MaxText+1)
	for name, r := range map[string]Response{
		"output":      {Output: long},
		"not text":    {Output: "\xff"},
		"tell":        {Tell: long},
		"observation": {Observe: []Observation{{Text: " "}}},
		"tag":         {Observe: []Observation{{Text: "a", Tags: []string{""}}}},
		"task":        {Tasks: []NewTask{{Kind: "", Text: "a"}}},
		"tasks":       {Tasks: make([]NewTask, MaxList+1)},
		"note":        {Remember: map[string]string{"": "a"}},
		"type":        {Artifact: &Artifact{Type: "text/html", Data: []byte("a")}},
		"artifact":    {Artifact: &Artifact{Type: "text/plain", Data: make([]byte, MaxArtifact+1)}},
	} {
		if err := r.Check(); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzAnswer: nothing that a brain answers breaks the bounds.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"output":"a","observe":[{"text":"b","tags":["c"]}],"tasks":[{"kind":"count","text":"d"}],"remember":{"e":"f"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		again, err := data.MarshalJSON(r)
		if err != nil || r.Check() != nil {
			t.Fatalf("%v, %v", err, r.Check())
		}
		if _, err := parse(again); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCancelled(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := (Scripted{Pace: time.Hour}).Think(ctx, request("count", "a")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
