//go:build unix

package command

import (
	"archive/zip"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module puts a release of a Go module into a folder that is a module proxy.
func module(t *testing.T, proxy, path, version string, files map[string]string) {
	t.Helper()
	dir := filepath.Join(proxy, path, "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"list": version + "\n", version + ".info": `{"Version":"` + version + `"}`, version + ".mod": files["go.mod"]})
	f, err := os.Create(filepath.Join(dir, version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	for name, text := range files {
		w, err := z.Create(path + "@" + version + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fakeSlim is in the place of the command slim: it writes an empty overlay, and what packs a program
// leaves a mark.
const fakeSlim = `package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	if os.Args[1] != "-pack" {
		name := os.Args[2] + ".json"
		if os.WriteFile(name, []byte("{}"), 0o644) == nil {
			fmt.Println(name)
		}
		return
	}
	name := os.Args[len(os.Args)-1]
	b, err := os.ReadFile(name)
	if text, err2 := os.ReadFile(os.Args[2]); err != nil || err2 != nil || string(text) != "{}" {
		os.Exit(1)
	}
	os.WriteFile(name, append(b, "packed " + strings.Join(os.Args[3:len(os.Args)-1], " ")...), 0o644)
}
`

// The build script of a new folder, with a small program in the place of pdskit's: it needs a module that
// only programs for js need. A call that failed, as without a network, does not spoil the next one; and
// after an upgrade all is of the new release.
func TestBuildScript(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles")
	}
	release := func(version string) map[string]string {
		return map[string]string{
			"go.mod":                          "module github.com/pdskit/pdskit\n\ngo 1.24\n\nrequire example.com/onlyjs v0.1.0\n",
			"examples/worker/main_js.go":      "package main\n\nimport \"example.com/onlyjs\"\n\nfunc main() { println(onlyjs.Text + \" of " + version + "\") }\n",
			"examples/worker/main.go":         "//go:build !js\n\npackage main\n\nfunc main() {}\n",
			"examples/worker/edge/worker.mjs": "// worker of " + version,
			"examples/worker/edge/routes.mjs": "// routes of " + version,
			"storage/cloudflare/slim/main.go": fakeSlim,
			"storage/cloudflare/shim.mjs":     "// shim of " + version,
		}
	}
	proxy, dir := t.TempDir(), filepath.Join(t.TempDir(), "a folder")
	if _, err := run(t, "init", "-host", "alice.example.com", dir); err != nil {
		t.Fatal(err)
	}
	sh := func(env ...string) (string, error) {
		cmd := exec.Command(filepath.Join(dir, "build"))
		cmd.Env = append(os.Environ(), append([]string{
			"GOPROXY=file://" + proxy, "GOSUMDB=off", "GOMODCACHE=" + t.TempDir(), "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOWORK=off",
			"GOENV=off", "GONOPROXY=", "GOPRIVATE=",
		}, env...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := sh(); err == nil {
		t.Fatalf("built from nothing: %s", out)
	}
	module(t, proxy, "example.com/onlyjs", "v0.1.0", map[string]string{"go.mod": "module example.com/onlyjs\n", "a.go": "package onlyjs\n\nvar Text = \"a program\"\n"})
	built := func(version string, env ...string) {
		t.Helper()
		out, err := sh(env...)
		if err != nil || !strings.Contains(out, "main.wasm: ") || !strings.Contains(out, " after gzip\n") {
			t.Fatalf("%s: %v\n%s", version, err, out)
		}
		for name, want := range map[string]string{"main.wasm": " of " + version, "shim.mjs": "// shim of " + version, "worker.mjs": "// worker of " + version, "routes.mjs": "// routes of " + version, "wasm_exec.js": "globalThis.Go"} {
			if b, err := os.ReadFile(filepath.Join(dir, "dist", name)); err != nil || !strings.Contains(string(b), want) {
				t.Errorf("%s: %s is not: %v", version, name, err)
			}
		}
	}
	module(t, proxy, "github.com/pdskit/pdskit", "v0.1.0", release("v0.1.0"))
	built("v0.1.0")
	wrangler := filepath.Join(dir, "wrangler.jsonc")
	text, err := os.ReadFile(wrangler)
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := sh(); strings.Contains(out, "names a secret") {
		t.Errorf("a false alarm: %s", out)
	}
	write(t, dir, map[string]string{"wrangler.jsonc": strings.Replace(string(text), `"PDS_HOSTNAMES"`, `"PDS_MASTER_KEY": "0a", "PDS_HOSTNAMES"`, 1)})
	if out, err := sh(); err != nil || !strings.Contains(out, "wrangler.jsonc names a secret") {
		t.Errorf("no warning of a secret among variables: %v %s", err, out)
	}
	write(t, dir, map[string]string{"wrangler.jsonc": string(text)})
	module(t, proxy, "github.com/pdskit/pdskit", "v0.2.0", release("v0.2.0"))
	built("v0.1.0") // what is built changes only when it is asked for
	mod := filepath.Join(dir, "go.mod")
	if text, err = os.ReadFile(mod); err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"go.mod": strings.ReplaceAll(string(text), "pdskit v0.1.0", "pdskit v0.2.0")})
	built("v0.2.0")

	source := release("source")
	maps.DeleteFunc(source, func(name, _ string) bool { return name == "examples/worker/main_js.go" })
	source["go.mod"] = "module github.com/pdskit/pdskit\n"
	source["examples/worker/main_js.go"] = "package main\n\nfunc main() { println(\"this is of source\") }\n"
	at := t.TempDir()
	write(t, at, source)
	built("source", "PDSKIT_SOURCE="+at)
	for env, end := range map[string]string{"PDSKIT_LINES=": "packed ", "PDSKIT_LINES=no": "packed -nolines"} {
		built("source", "PDSKIT_SOURCE="+at, env)
		if b, err := os.ReadFile(filepath.Join(dir, "dist", "main.wasm")); err != nil || !strings.HasSuffix(string(b), end) {
			t.Errorf("%s: the program is not packed so: %v", env, err)
		}
	}
}
