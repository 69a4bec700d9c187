package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

const pebble = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.3"

// Follow runs the commands of the guide of a checkout. If something is missing on this machine, it
// says what, and does nothing. built is a folder for what is built first, which is used again if it
// is there; empty: a temporary one.
func Follow(root, built string, verbose bool) (missing string, err error) {
	if missing := lacks(); missing != "" {
		return missing, nil
	}
	root, err = filepath.Abs(root)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "guide-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if built == "" {
		built = filepath.Join(dir, "build")
	}
	if built, err = filepath.Abs(built); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(built, "release", "SHA256SUMS")); err != nil {
		if err := build(root, built); err != nil {
			return "", err
		}
	}
	cmd := exec.Command("/proc/self/exe", root, dir, built, fmt.Sprint(verbose))
	cmd.Env = append(os.Environ(), stageVariable+"=world")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	return "", cmd.Run()
}

// lacks says what this machine does not have.
func lacks() string {
	if os.Geteuid() != 0 {
		return "this needs root"
	}
	var list []string
	for _, name := range []string{"ip", "bash", "curl", "dig", "caddy", "nginx", "dpkg", "apt-get", "git", "go"} {
		if _, err := exec.LookPath(name); err != nil {
			list = append(list, name)
		}
	}
	if len(list) > 0 {
		return "not installed: " + strings.Join(list, ", ")
	}
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	if err := cmd.Run(); err != nil {
		return "namespaces: " + err.Error()
	}
	return ""
}

// build makes what the guide starts from: a release, in dir/release; and the programs of the
// network, in dir/tools.
func build(root, dir string) error {
	tools := filepath.Join(dir, "tools")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return err
	}
	step := func(what string, env []string, args ...string) error {
		fmt.Println("building", what)
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), append(env, "CGO_ENABLED=0")...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", what, err, out)
		}
		return nil
	}
	if err := step("the relay", nil, "go", "build", "-o", filepath.Join(tools, "relay"), "./examples/relay"); err != nil {
		return err
	}
	install := []string{"GOBIN=" + tools, "GOFLAGS="}
	if err := step("Pebble", install, "go", "install", pebble); err != nil {
		return err
	}
	if err := step("age", install, "go", "install", "filippo.io/age/cmd/...@"+versionOf("filippo.io/age")); err != nil {
		return err
	}
	// A release is made of a commit: what is not committed is not in it.
	source := filepath.Join(dir, "source")
	if err := step("a clone", nil, "git", "clone", "-q", root, source); err != nil {
		return err
	}
	return step("the release", nil, filepath.Join(source, "examples/pds/deploy/release/build"), filepath.Join(dir, "release"), "linux/"+runtime.GOARCH)
}

// versionOf is the version of a module that this program is built with.
func versionOf(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == module {
				return m.Version
			}
		}
	}
	return "latest"
}

// runStage is the whole of a copy of this program.
func runStage(stage string, args []string) error {
	switch stage {
	case "init":
		return initStage(args)
	case "machine":
		return machineStage(args)
	}
	root, dir, built, verbose := args[0], args[1], args[2], args[3] == "true"
	blocks, err := readGuide(os.DirFS(guideOf(root)))
	if err != nil {
		return err
	}
	w, err := newWorld(dir, filepath.Join(built, "tools"))
	if err != nil {
		return err
	}
	defer w.Close()
	g := &Guide{World: w, blocks: map[string]Block{}, ran: map[string]bool{}, verbose: verbose, built: built}
	for _, b := range blocks {
		if b.Why == "" {
			g.blocks[b.Key()] = b
		}
	}
	if err := plan(g); err != nil {
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace([]byte(w.logs())))
	}
	return g.summary()
}
