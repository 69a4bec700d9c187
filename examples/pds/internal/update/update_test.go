package update

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// feed is a list of releases that a handler makes.
func feed(t *testing.T, h http.HandlerFunc) *Checker {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &Checker{Feed: srv.URL, Dir: t.TempDir(), Version: "1.2.3"}
}

// The question is the same for all: it says nothing of the server.
func TestAsk(t *testing.T) {
	var got *http.Request
	c := feed(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		fmt.Fprint(w, `{"tag_name":"v1.10.0","html_url":"https://example.com/releases/v1.10.0","body":"more"}`)
	})
	var log bytes.Buffer
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	n := c.Ask(t.Context())
	if n.Latest != "1.10.0" || n.URL != "https://example.com/releases/v1.10.0" || n.Problem != "" || !n.Newer(c.Version) {
		t.Errorf("%+v", n)
	}
	if kept, err := Read(c.Dir); err != nil || !kept.Asked.Equal(n.Asked) || kept.Latest != n.Latest {
		t.Errorf("%+v, %v", kept, err)
	}
	if !strings.Contains(log.String(), "there is a newer version") {
		t.Error(log.String())
	}
	for name, values := range got.Header {
		if want := map[string]string{"User-Agent": "pdskit", "Accept": "application/json", "Accept-Encoding": "gzip"}[name]; values[0] != want {
			t.Errorf("%s: %q", name, values)
		}
	}
	if got.URL.RawQuery != "" || got.ContentLength != 0 || got.Method != "GET" {
		t.Errorf("%+v", got)
	}
}

// A feed may be a stranger's: whatever it sends, the note is small and harmless, and the last good one is
// kept.
func TestHostileFeed(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.Write(bytes.Repeat([]byte(`{"tag_name":"v9.9.9"}`), 50_000))
		},
		"bomb": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"tag_name":"v9.9.9","x":"`+strings.Repeat("x", 2*maxFeed)+`"}`)
		},
		"status":   func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) },
		"HTML":     func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") },
		"text":     func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"tag_name":"<script>"}`) },
		"long": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"tag_name":"1.2.3-`+strings.Repeat("a", 100)+`"}`)
		},
		"lines":   func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"tag_name":"1.2.3\nlevel=ERROR"}`) },
		"number":  func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"tag_name":7}`) },
		"deep":    func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.Repeat("[", 100_000)) },
		"cut off": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	} {
		c := feed(t, h)
		if err := c.write(Note{Latest: "2.0.0"}); err != nil {
			t.Fatal(err)
		}
		n := c.Ask(t.Context())
		if n.Problem == "" || n.Latest != "2.0.0" || len(n.Problem) > maxURL {
			t.Errorf("%s: %+v", name, n)
		}
		if info, err := os.Stat(filepath.Join(c.Dir, File)); err != nil || info.Size() > maxNote {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	for _, link := range []string{"javascript:alert(1)", "http://example.com", "https://user:pw@example.com/", "https://example.com/\\u202e", "https://" + strings.Repeat("x", 400)} {
		c := feed(t, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"tag_name":"9.0.0","html_url":"%s"}`, link)
		})
		if n := c.Ask(t.Context()); n.Latest != "9.0.0" || n.URL != "" {
			t.Errorf("%s: %+v", link, n)
		}
	}
}

func TestNewer(t *testing.T) {
	for _, tt := range []struct {
		latest, this string
		want         bool
	}{
		{"1.2.4", "1.2.3", true}, {"1.10.0", "1.9.9", true}, {"2.0.0", "1.9.9", true}, {"1.2.3", "1.2.3", false}, {"1.2.2", "1.2.3", false},
		{"1.2.3", "1.2.3-rc.1", true}, {"1.2.3-rc.2", "1.2.3-rc.1", false}, {"1.2.3", "1.2.3+changed", false}, {"0.1.0", "0.1.0-dev+abc", true},
		{"", "1.2.3", false}, {"1.2.4", "unknown", false}, {"1.2.4", "0.0.0-20260101000000-abcdefabcdef", true},
	} {
		if got := (Note{Latest: tt.latest}).Newer(tt.this); got != tt.want {
			t.Errorf("%s newer than %s: %v", tt.latest, tt.this, got)
		}
	}
}

// The feed is asked once a day, however often the program starts, and whether it answers or not.
func TestOnceADay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		client := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			asked.Add(1)
			return nil, fmt.Errorf("no network")
		})}
		run := func(d time.Duration) {
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan bool)
			go func() {
				(&Checker{Feed: "https://feed.test/", Dir: dir, Version: "1.0.0", HTTP: client}).Run(ctx)
				close(done)
			}()
			time.Sleep(d)
			stop()
			<-done
		}
		for range 50 { // a loop of restarts
			run(time.Second)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%d questions in a minute", n)
		}
		run(3*24*time.Hour + time.Hour)
		if n := asked.Load(); n != 4 {
			t.Errorf("%d questions in three days", n)
		}
		// A note that is damaged, or from the future, asks no more often.
		os.WriteFile(filepath.Join(dir, File), []byte("{"), 0o600)
		if d := (&Checker{Dir: dir}).Due(); d != Interval {
			t.Error(d)
		}
		(&Checker{Dir: dir}).write(Note{Asked: time.Now().Add(1000 * time.Hour)})
		if d := (&Checker{Dir: dir}).Due(); d != Interval {
			t.Error(d)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func FuzzParse(f *testing.F) {
	f.Add(`{"tag_name":"v1.2.3","html_url":"https://example.com/"}`)
	f.Fuzz(func(t *testing.T, doc string) {
		version, link, err := parse([]byte(doc))
		if err == nil && (len(version) > maxVersion || len(link) > maxURL || strings.ContainsAny(version+link, " \n<>\"")) && !strings.ContainsAny(link, "<>\"") {
			t.Errorf("%q %q", version, link)
		}
	})
}
