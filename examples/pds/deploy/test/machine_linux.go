package main

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Machine is one whose commands run in a network, a mount and a process namespace of its own, below
// an overlay of this machine's files: what is written there is gone in the end.
type Machine struct {
	Name, Address string
	cmd           *exec.Cmd
	in            *gob.Encoder
	out           *gob.Decoder
	link          string
}

// order is something that a machine does: it writes a file, or runs a script with bash.
type order struct {
	Path   string
	Mode   os.FileMode
	Text   []byte
	Script string
	Stdin  string
	Env    []string
}

// startMachine starts one and connects it to the bridge.
func (w *World) startMachine(name, address string) (*Machine, error) {
	dir := filepath.Join(w.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe", dir, address)
	cmd.Env = append(os.Environ(), stageVariable+"=init")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w.links++
	m := &Machine{Name: name, Address: address, cmd: cmd, in: gob.NewEncoder(in), out: gob.NewDecoder(out), link: fmt.Sprintf("guide%d", w.links)}
	for _, args := range [][]string{
		{"link", "add", m.link, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(cmd.Process.Pid)},
		{"link", "set", m.link, "master", "br0", "up"},
	} {
		if err := ip(args...); err != nil {
			m.Kill()
			return nil, err
		}
	}
	// The machine goes on now that it has a link.
	if _, err := m.do(order{Text: w.trusted, Path: "/etc/ssl/certs/ca-certificates.crt", Mode: 0o644}); err != nil {
		m.Kill()
		return nil, err
	}
	return m, nil
}

// Kill ends a machine as a power failure does. What it had written is lost too.
func (m *Machine) Kill() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
	ip("link", "del", m.link) // it is gone already, or goes with the namespace
}

func (m *Machine) do(o order) (string, error) {
	if err := m.in.Encode(o); err != nil {
		return "", fmt.Errorf("%s: %w", m.Name, err)
	}
	var a answer
	if err := m.out.Decode(&a); err != nil {
		return "", fmt.Errorf("%s: the machine has ended: %w", m.Name, err)
	}
	if a.Code != 0 {
		return a.Text, &exitError{a.Code}
	}
	return a.Text, nil
}

type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// Write writes a file.
func (m *Machine) Write(path string, mode os.FileMode, text []byte) error {
	_, err := m.do(order{Path: path, Mode: mode, Text: text})
	return err
}

// Script runs a script with bash, which ends at the first command that fails.
func (m *Machine) Script(text, stdin string, env ...string) (string, error) {
	return m.do(order{Script: text, Stdin: stdin, Env: env})
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// initStage is the first process of a machine: it starts the one that does the work, and buries the
// others.
func initStage(args []string) error {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), stageVariable+"=machine")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid == cmd.Process.Pid {
			return err
		}
	}
}

// machineStage makes the machine, and does what it is ordered.
func machineStage(args []string) error {
	dir, address := args[0], args[1]
	in := gob.NewDecoder(os.Stdin)
	var first order
	if err := in.Decode(&first); err != nil { // it comes when the link is there
		return err
	}
	if err := root(dir); err != nil {
		return err
	}
	syscall.Sethostname([]byte(filepath.Base(dir)))
	for _, a := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", address + "/24", "dev", "eth0"}, {"link", "set", "eth0", "up"}} {
		if err := ip(a...); err != nil {
			return err
		}
	}
	r := &Runner{}
	if err := r.serve(); err != nil {
		return err
	}
	out := gob.NewEncoder(os.Stdout)
	for o := first; ; o = (order{}) {
		if o.Path == "" && o.Script == "" {
			if err := in.Decode(&o); err != nil {
				return nil // the world has ended
			}
		}
		if err := out.Encode(obey(o)); err != nil {
			return nil
		}
	}
}

// root makes the overlay the root of this process, with folders of its own for what is not to be
// kept.
func root(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	upper, work, merged := filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "root")
	for _, d := range []string{upper, work, merged} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := syscall.Mount("overlay", merged, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("an overlay: %w", err)
	}
	for _, m := range []struct {
		from, at, kind string
		flags          uintptr
	}{
		{"proc", "proc", "proc", 0}, {"/sys", "sys", "", syscall.MS_BIND | syscall.MS_REC}, {"/dev", "dev", "", syscall.MS_BIND | syscall.MS_REC},
		{"tmpfs", "run", "tmpfs", 0},
	} {
		if err := syscall.Mount(m.from, filepath.Join(merged, m.at), m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("%s: %w", m.at, err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := syscall.Chroot(merged); err != nil {
		return err
	}
	if err := os.Chdir("/root"); err != nil {
		return err
	}
	for _, d := range []string{"/run/systemd/system", "/run/lock", "/mnt/elsewhere"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// A name server of the network's, and nothing that this machine may have been used for before.
	os.Remove("/etc/resolv.conf")
	for path, text := range map[string]string{
		"/etc/resolv.conf": "nameserver " + worldAddress + "\n", "/etc/hosts": "127.0.0.1 localhost\n",
		"/usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			return err
		}
	}
	for _, path := range []string{"/etc/pds", "/var/lib/pds", "/var/backups/pds", "/usr/local/bin/pds", "/etc/nginx/sites-enabled/default", "/var/lib/apt/lists"} {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	for _, name := range []string{"systemctl", "journalctl"} {
		if err := os.WriteFile("/usr/local/sbin/"+name, self, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// obey does one order.
func obey(o order) answer {
	failed := func(err error) answer { return answer{err.Error(), 1} }
	if o.Path != "" {
		if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
			return failed(err)
		}
		if err := os.WriteFile(o.Path, o.Text, o.Mode); err != nil {
			return failed(err)
		}
		return answer{}
	}
	cmd := exec.Command("bash", "-eo", "pipefail", "-c", o.Script)
	cmd.Dir = "/root"
	cmd.Env = append([]string{"HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, o.Env...)
	cmd.Stdin = strings.NewReader(o.Stdin)
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return answer{Text: b.String()}
	case errors.As(err, &exit):
		return answer{b.String(), max(1, exit.ExitCode())}
	}
	return failed(err)
}
