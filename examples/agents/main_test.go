package main

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

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
