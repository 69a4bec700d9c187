//go:build unix

package workerd

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
)

// Config describes a Worker.
type Config struct {
	// Modules are its modules by name, the one of Main included. Those that end in ".wasm" are
	// WebAssembly, all others are ES modules.
	Modules map[string][]byte
	// Main is the name of the module with the handlers. Empty: "worker.mjs".
	Main string
	// Classes are the classes of Durable Objects that it exports. The name of a class in capitals
	// is the binding of its namespace.
	Classes []string
	// Text are text bindings.
	Text map[string]string
	// Private lets the Worker's fetch reach private addresses too, those of this machine included.
	Private bool
	// Buckets are bindings of R2 buckets. With any, the Worker runs in miniflare, which starts
	// later and adds some milliseconds to every request.
	Buckets []string
	// Dir is where objects are kept. Empty: a folder that is deleted when the test ends.
	Dir string
}

// CompatibilityDate is the date of the behaviour of the runtime that tests ask for.
const CompatibilityDate = "2026-04-01"

// flags are what else is asked for: Node's fs, for tests that need temporary files.
var flags = []string{"nodejs_compat", "enable_nodejs_fs_module", "enable_request_signal", "request_signal_passthrough"}

// Server is a running workerd.
type Server struct {
	URL string // without a slash at the end

	args []string // of the command
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
	log  buffer
}

// Program returns the path of the program workerd. Where it is missing the test is skipped, or
// fails if the environment says CI=true.
func Program(tb testing.TB) string {
	tb.Helper()
	name := "@cloudflare/workerd-" + runtime.GOOS + "-" + map[string]string{"amd64": "64", "arm64": "arm64"}[runtime.GOARCH]
	return filepath.Join(testenv.NodeModules(tb, name), filepath.FromSlash(name), "bin", "workerd")
}

// Start runs a Worker until the test ends.
func Start(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	s := &Server{args: []string{Program(tb), "serve", "config.capnp", "--experimental", "--control-fd=3"}, dir: tb.TempDir()}
	if cfg.Main == "" {
		cfg.Main = "worker.mjs"
	}
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(s.dir, "objects")
	}
	must(tb, os.MkdirAll(cfg.Dir, 0o700))
	for name, content := range cfg.Modules {
		must(tb, os.WriteFile(filepath.Join(s.dir, name), content, 0o600))
	}
	if len(cfg.Buckets) > 0 {
		s.args = []string{"node", "miniflare.mjs", "config.json"}
		must(tb, os.WriteFile(filepath.Join(s.dir, "miniflare.mjs"), []byte(miniflare), 0o600))
		must(tb, os.WriteFile(filepath.Join(s.dir, "config.json"), cfg.json(tb, s.dir), 0o600))
	} else {
		must(tb, os.WriteFile(filepath.Join(s.dir, "config.capnp"), []byte(cfg.capnp()), 0o600))
	}
	tb.Cleanup(s.Kill)
	s.Restart(tb)
	return s
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// capnp is the configuration in the language of workerd.
func (c Config) capnp() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`using Workerd = import "/workerd/workerd.capnp";`)
	p(`const config :Workerd.Config = (`)
	reach := `"public"`
	if c.Private {
		reach += `, "private"`
	}
	p(`  services = [`)
	p(`    (name = "main", worker = .main), (name = "disk", disk = (path = %q, writable = true)),`, c.Dir)
	p(`    (name = "internet", network = (allow = [%s], tlsOptions = (trustBrowserCas = true))),`, reach)
	p(`  ],`)
	p(`  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],`)
	p(`  v8Flags = ["--single-threaded-gc"],`) // see Stuck
	p(`);`)
	p(`const main :Workerd.Worker = (`)
	p(`  compatibilityDate = %q,`, CompatibilityDate)
	p(`  compatibilityFlags = ["%s"],`, strings.Join(flags, `", "`))
	p(`  modules = [`)
	for _, name := range c.names() {
		kind := "esModule"
		if strings.HasSuffix(name, ".wasm") {
			kind = "wasm"
		}
		p(`    (name = %q, %s = embed %q),`, name, kind, name)
	}
	p(`  ],`)
	p(`  durableObjectNamespaces = [`)
	for _, class := range c.Classes {
		p(`    (className = %q, uniqueKey = %q, enableSql = true),`, class, class)
	}
	p(`  ],`)
	p(`  durableObjectStorage = (localDisk = "disk"),`)
	p(`  bindings = [`)
	for _, class := range c.Classes {
		p(`    (name = %q, durableObjectNamespace = %q),`, strings.ToUpper(class), class)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Text)) {
		p(`    (name = %q, text = %q),`, name, c.Text[name])
	}
	p(`  ],`)
	p(`);`)
	return b.String()
}

// names are the names of the modules, the main one first.
func (c Config) names() []string {
	names := []string{c.Main}
	for _, name := range slices.Sorted(maps.Keys(c.Modules)) {
		if name != c.Main {
			names = append(names, name)
		}
	}
	return names
}

//go:embed miniflare.mjs
var miniflare string

// json is the configuration for miniflare.mjs.
func (c Config) json(tb testing.TB, root string) []byte {
	type module struct {
		Type string `json:"type"`
		Path string `json:"path"`
	}
	var modules []module
	for _, name := range c.names() {
		kind := "ESModule"
		if strings.HasSuffix(name, ".wasm") {
			kind = "CompiledWasm"
		}
		modules = append(modules, module{kind, filepath.Join(root, name)})
	}
	npm := testenv.NodeModules(tb, "miniflare")
	b, err := json.Marshal(map[string]any{
		"require": npm + string(filepath.Separator), "root": root, "modules": modules, "date": CompatibilityDate, "flags": flags,
		"text": c.Text, "classes": c.Classes, "dir": c.Dir, "buckets": c.Buckets,
	})
	must(tb, err)
	return b
}

// listening is what workerd reports of a socket.
var listening = regexp.MustCompile(`"event":"listen".*"port":([0-9]+)`)

// Restart runs the server again over the same objects, on another port.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.Kill()
	control, events, err := os.Pipe()
	must(tb, err)
	defer control.Close()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Dir = s.dir
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with the processes that it starts
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.ExtraFiles = &s.log, &s.log, []*os.File{events}
	if s.args[0] == "node" {
		s.cmd.Stdout = events
	}
	err = s.cmd.Start()
	events.Close()
	must(tb, err)
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(s.cmd, s.done)
	for lines := bufio.NewScanner(control); lines.Scan(); {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			s.URL = "http://127.0.0.1:" + m[1]
			return
		}
	}
	s.Kill()
	tb.Fatalf("workerd does not start:\n%s", s.Log())
}

// Kill kills the server, if it runs, as a power failure would, but for what the system still
// writes.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.done
	s.cmd = nil
}

// PID is the number of the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Log is what the server has printed.
func (s *Server) Log() string { return s.log.String() }

// Stuck is after how long a request that should take a minute at most is taken for one that got stuck.
// Very rarely workerd runs in circles: it runs the tasks of V8 until there are none, and V8's incremental
// sweeping makes a new one of each, waiting for its concurrent part. Where miniflare configures workerd,
// which has no setting for that, a test may have to begin again.
const Stuck = 4 * time.Minute

// Client is for requests of tests.
var Client = &http.Client{Timeout: 10 * time.Minute}

// buffer is a bytes.Buffer for several goroutines, which keeps the last part.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b.Len() > 1<<20 {
		b.b.Reset()
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
