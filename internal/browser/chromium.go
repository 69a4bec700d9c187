package browser

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/pdskit/pdskit/internal/testenv"
)

// Chromium is a browser without a window. The zero value starts one when it is first used. It is
// safe for concurrent use.
type Chromium struct {
	mu     sync.Mutex
	ctx    context.Context // of the browser; nil: it isn't started
	cancel context.CancelFunc
	dir    string // for what it leaves in the folder of temporary files
	err    error  // of the start
}

// Main runs the tests, ends the browser and then the process. It is the body of TestMain.
func (c *Chromium) Main(m *testing.M) {
	code := m.Run()
	c.Close()
	os.Exit(code)
}

// Close ends the browser with all its processes, and removes its files. Should the test end without
// it, the system ends the browser.
func (c *Chromium) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx != nil {
		chromedp.Cancel(c.ctx)
		c.cancel()
		os.RemoveAll(c.dir)
		c.ctx = nil
	}
}

// Find returns the path of the Chromium of this machine, empty if there is none, or if tests run with
// -short.
func Find() string {
	if testing.Short() {
		return ""
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// started returns the context of the browser, and starts it if it isn't there. It skips the test
// with -short: a browser takes seconds for each test.
func (c *Chromium) started(t testing.TB) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("with -short no browser is started")
	}
	path := Find()
	if path == "" {
		testenv.Missing(t, "a browser: none of chromium, chromium-browser and google-chrome is in PATH")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil && c.err == nil {
		dir, err := os.MkdirTemp("", "chromium")
		if err != nil {
			t.Fatal(err)
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.IgnoreCertErrors,
			chromedp.Env("TMPDIR="+dir), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
			chromedp.Flag("lang", "en-US"), chromedp.Flag("hide-scrollbars", true),
			// Names of a test's network must never be asked of the machine's DNS by guesses of the
			// browser.
			chromedp.Flag("dns-prefetch-disable", true), chromedp.Flag("no-pings", true))
		outer, cancel := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, _ := chromedp.NewContext(outer, chromedp.WithErrorf(func(string, ...any) {}))
		if err := chromedp.Do(ctx); err != nil {
			cancel()
			os.RemoveAll(dir)
			c.err = err
		} else {
			c.ctx, c.cancel, c.dir = ctx, cancel, dir
		}
	}
	if c.err != nil {
		t.Fatalf("browser: %s does not start: %v", path, c.err)
	}
	return c.ctx
}
