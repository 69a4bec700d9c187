package doctor

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func fixed(list ...Finding) func(context.Context) []Finding {
	return func(context.Context) []Finding { return list }
}

// What checks say is put together in their order, and one that fails harms no other.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		r := Run(t.Context(), []Check{
			{Name: "good", Run: fixed(Good("fine"))},
			{Name: "panics", Run: func(context.Context) []Finding { panic("oh") }},
			{Name: "hangs", Timeout: 3 * time.Second, Run: func(context.Context) []Finding { <-hang; return nil }},
			{Name: "late", Timeout: 2 * time.Second, Run: func(ctx context.Context) []Finding { <-ctx.Done(); return fixed(Warn("wait", "cut off"))(ctx) }},
			{Name: "empty", Run: fixed()},
			{Name: "odd", Run: fixed(Finding{Level: "??", Text: "a\nb\u202ec" + strings.Repeat("ä", 1000)})},
		})
		want := []Level{OK, Problem, Problem, Warning, Skipped, Problem}
		for i, f := range r.Findings {
			if f.Level != want[i] {
				t.Errorf("%+v, want %s", f, want[i])
			}
			if strings.ContainsAny(f.Text, "\n\u202e") || len(f.Text) > maxText+10 {
				t.Errorf("%q", f.Text)
			}
		}
		if len(r.Findings) != len(want) || r.Level != Problem || r.Took > 5*time.Second || r.Levels()["late"] != Warning {
			t.Errorf("%+v", r)
		}
	})
	if r := Run(t.Context(), []Check{{Name: "x", Run: fixed(Skip("no"), Good("yes"))}}); r.Level != OK || r.Levels()["x"] != Skipped {
		t.Errorf("%+v", r)
	}
}

func TestReportJSON(t *testing.T) {
	text, err := json.Marshal(Run(t.Context(), []Check{{Name: "x", Run: fixed(Warn("do", "it").About("a"))}}).Findings)
	if err != nil || string(text) != `[{"check":"x","subject":"a","level":"warning","text":"it","remedy":"do"}]` {
		t.Errorf("%s, %v", text, err)
	}
}

// Those who ask at the same time share a round, and one that goes away stops nobody else's.
func TestDoctor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		next := make(chan struct{})
		d := &Doctor{Checks: []Check{{Name: "x", Timeout: time.Hour * 24, Run: func(ctx context.Context) []Finding {
			runs.Add(1)
			<-next
			return fixed(Good("fine"))(ctx)
		}}}}
		if !d.Last().Time.IsZero() {
			t.Error("a report out of nothing")
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { _, err := d.Now(ctx); gone <- err }()
		got := make(chan Report)
		go func() { r, _ := d.Now(t.Context()); got <- r }()
		synctest.Wait()
		cancel()
		if err := <-gone; err == nil {
			t.Error("no error for who has gone")
		}
		close(next)
		if r := <-got; r.Level != OK || runs.Load() != 1 || d.Last().Time != r.Time {
			t.Errorf("%+v, %d runs", r, runs.Load())
		}
		ctx, cancel = context.WithTimeout(t.Context(), 2*time.Hour+90*time.Second)
		defer cancel()
		d.Run(ctx)
		if n := runs.Load(); n != 4 { // after a minute, and each hour
			t.Errorf("%d runs", n)
		}
	})
}
