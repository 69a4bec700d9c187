package main

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// TestDocument holds docs/scaling.md against the program: each table follows the command that
// prints it.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	const command = "\n    go run ./examples/scaling"
	sections := strings.Split(string(text), command)
	if len(sections) != 4 {
		t.Fatalf("%d tables, want 3", len(sections)-1)
	}
	for _, s := range sections[1:] {
		args, rest, _ := strings.Cut(s, "\n")
		var b bytes.Buffer
		if err := run(strings.Fields(args), &b); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(strings.TrimSpace(rest), strings.TrimSpace(b.String())) {
			t.Errorf("after %s%s the document has another table than\n%s", strings.TrimSpace(command), args, &b)
		}
	}
}

// TestSources holds the inputs against the documents they are from.
func TestSources(t *testing.T) {
	for _, f := range facts {
		if f.from == "" || f.says == "" {
			continue
		}
		text, err := os.ReadFile("../../" + f.from)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), f.says) {
			t.Errorf("-%s: %s does not say %q any more", f.name, f.from, f.says)
		}
	}
}

func TestWait(t *testing.T) {
	// One processor: M/M/1. Two, 80 % busy: C = 2·0.8²/(1+0.8) = 0.711.
	for _, c := range []struct {
		processors   int
		rate         float64
		likely, mean float64
	}{{1, 0.5, 0.5, 2}, {2, 1.6, 0.7111, 2.5}, {4, 0, 0, 0}, {2, 2, 1, math.Inf(1)}} {
		likely, mean := wait(c.processors, []class{{c.rate, 1}})
		if math.Abs(likely-c.likely) > 1e-3 || mean != c.mean && math.Abs(mean-c.mean) > 1e-3 {
			t.Errorf("%d processors, %v calls: %v, %v; want %v, %v", c.processors, c.rate, likely, mean, c.likely, c.mean)
		}
	}
}

// TestGroups holds the simulation against what is known: M/M/1 where each step has a flush of its
// own, one flush for all where many come, and what the stores were measured to do.
func TestGroups(t *testing.T) {
	mean := func(g groups) (sum float64) {
		took := g.latencies(50_000, rand.New(rand.NewPCG(3, 4)))
		for _, x := range took {
			sum += x
		}
		return sum / float64(len(took))
	}
	if got := mean(groups{nodes: 1, rate: 500, most: 1, flush: 1e-3}); math.Abs(got/2e-3-1) > 0.1 {
		t.Errorf("M/M/1, half busy: %v s, want 0.002", got)
	}
	if got := mean(groups{nodes: 1, rate: 1, most: 64, step: 1e-3}); math.Abs(got/1e-3-1) > 0.01 {
		t.Errorf("nobody else there: %v s, want 0.001", got)
	}
	alone := mean(groups{nodes: 1, rate: 100, most: 64, flush: 2e-3})
	if four := mean(groups{nodes: 4, rate: 100, most: 64, flush: 2e-3}); four < 1.5*alone {
		t.Errorf("four nodes that take turns: %v s, one: %v s", four, alone)
	}
	v := defaults()
	for _, c := range []struct {
		g    groups
		want float64
	}{
		{groups{step: v["serial"] * us, flush: v["flush"] * ms}, 7800},
		{groups{exchange: 2 * v["pg-exchange"] * ms, step: v["pg-serial"] * us, flush: v["pg-flush"] * ms}, 2050},
	} {
		if got := 64 / (c.g.exchange + 64*c.g.step + c.g.flush); math.Abs(got/c.want-1) > 0.02 {
			t.Errorf("64 steps at once: %.0f/s, measured %v/s", got, c.want)
		}
	}
}

// TestGrowth is what no inputs may change.
func TestGrowth(t *testing.T) {
	v := defaults()
	for _, p := range plans {
		top := most(p, v)
		if u := evaluate(top, v).fullest.part * 100; math.Abs(u-v["limit"]) > 0.1 {
			t.Errorf("%s, with %.0f accounts: %v %%", p.name, top.accounts, u)
		}
		low, high := evaluate(p, v), evaluate(top, v)
		low.times(v, 1)
		high.times(v, 1)
		if top.accounts > p.accounts && high.p50 < low.p50 || low.p99 < low.p50 {
			t.Errorf("%s: %v, %v with %v accounts, %v with %v", p.name, low.p50, low.p99, p.accounts, high.p50, top.accounts)
		}
		over := top
		over.accounts *= 1000
		o := evaluate(over, v)
		if o.times(v, 1); !math.IsInf(o.p50, 1) {
			t.Errorf("%s with a thousand times as many accounts as it carries: p50 %v s", p.name, o.p50)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, args := range []string{"-write -1", "-write NaN", "-group 0", "-cores 5000", "-disk -3", "-commits x", "more", "-limit 1e99"} {
		if err := run(append([]string{}, strings.Fields(args)...), io.Discard); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
	for _, args := range []string{"-commits 0.001 -limits", "-subscribers 0 -calls 0 -blobs 0 -keep 0 -record-bytes 0 -event-bytes 0", "-flush 0 -pg-flush 0 -peak 1000", "-cores 1 -disk 0.001", "-network 0.001 -uses", "-limit 1000 -limits"} {
		if err := run(strings.Fields(args), io.Discard); err != nil {
			t.Errorf("%s: %v", args, err)
		}
	}
}
