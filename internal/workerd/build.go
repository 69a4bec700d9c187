//go:build unix

package workerd

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/internal/slim"
)

// Exec returns the module wasm_exec.js of the Go release that runs the test.
func Exec(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(goroot(tb), "lib", "wasm", "wasm_exec.js"))
	must(tb, err)
	return b
}

func goroot(tb testing.TB) string {
	tb.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	must(tb, err)
	return strings.TrimSpace(string(root))
}

// Bucket is the module bucket.mjs: a bucket in the place of R2, in memory, with faults.
//
//go:embed bucket.mjs
var Bucket string

var builds struct {
	sync.Mutex
	done map[string][]byte
}

// Build builds a command, or with test the test program of a package, for GOOS=js, and returns its
// WebAssembly. A process builds each only once.
func Build(tb testing.TB, pkg string, test bool) []byte {
	tb.Helper()
	builds.Lock()
	defer builds.Unlock()
	key := pkg
	args := []string{"build"}
	if test {
		key += " test"
		args = []string{"test", "-c"}
	}
	if b := builds.done[key]; b != nil {
		return b
	}
	dir, err := os.MkdirTemp("", "pdskit-wasm-")
	must(tb, err)
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "main.wasm")
	overlay, missed, err := slim.Write(goroot(tb), dir)
	must(tb, err)
	for _, m := range missed {
		tb.Log(m)
	}
	cmd := exec.Command("go", append(args, "-trimpath", "-overlay", overlay, "-ldflags", "-s -w", "-o", out, pkg)...)
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	if text, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%s for js: %v\n%s", pkg, err, text)
	}
	b, err := os.ReadFile(out)
	must(tb, err)
	b, err = slim.Pack(b, overlay, true)
	must(tb, err)
	if builds.done == nil {
		builds.done = make(map[string][]byte)
	}
	builds.done[key] = b
	return b
}
