package main

import (
	"cmp"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// runnerSocket is where "systemctl" and "journalctl" of a machine reach its runner.
const runnerSocket = "/run/guide.sock"

// Runner stands in for systemd on a machine: it starts what unit files say, as the user that they
// name, with their environment, capabilities, folders and umask; waits for READY=1 of a
// Type=notify; and starts again what ends by itself. It bounds no memory, hides no files, and its
// timers do not go off.
type Runner struct {
	mu       sync.Mutex
	services map[string]*service
	journal  []entry
}

type entry struct{ unit, text string }

type service struct {
	unit    *Unit
	cmd     *exec.Cmd // nil: it does not run
	done    chan struct{}
	ready   chan struct{}
	stopped bool // by us
	timer   bool
}

// call is what a program of the machine asks of the runner, and answer what it is told.
type call struct{ Args []string }

type answer struct {
	Text string
	Code int
}

// ask is the whole of "systemctl" and "journalctl".
func ask(args []string) int {
	c, err := net.Dial("unix", runnerSocket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	var a answer
	if err = gob.NewEncoder(c).Encode(call{args}); err == nil {
		err = gob.NewDecoder(c).Decode(&a)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	to := os.Stdout
	if a.Code != 0 {
		to = os.Stderr
	}
	io.WriteString(to, a.Text)
	return a.Code
}

// serve answers until the machine ends.
func (r *Runner) serve() error {
	l, err := net.Listen("unix", runnerSocket)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var in call
				if gob.NewDecoder(c).Decode(&in) != nil || len(in.Args) == 0 {
					return
				}
				text, err := r.do(filepath.Base(in.Args[0]), in.Args[1:])
				a := answer{Text: text}
				if err != nil {
					a = answer{text + err.Error() + "\n", 1}
				}
				gob.NewEncoder(c).Encode(a)
			}()
		}
	}()
	return nil
}

func (r *Runner) do(program string, args []string) (string, error) {
	if program == "journalctl" {
		return r.log(args)
	}
	var names []string
	now := false
	for _, a := range args {
		if a == "--now" {
			now = true
		} else if !strings.HasPrefix(a, "-") {
			names = append(names, a)
		}
	}
	if len(names) == 0 {
		return "", errors.New("no command")
	}
	verb, names := names[0], names[1:]
	var each func(string) (string, error)
	switch verb {
	case "daemon-reload", "list-timers":
		return "", nil
	case "enable":
		each = func(name string) (string, error) {
			if !now {
				return "", nil
			}
			return "", r.start(name)
		}
	case "disable", "stop":
		each = func(name string) (string, error) { return "", r.stop(name) }
	case "start":
		each = func(name string) (string, error) { return "", r.start(name) }
	case "restart":
		each = func(name string) (string, error) {
			if err := r.stop(name); err != nil {
				return "", err
			}
			return "", r.start(name)
		}
	case "try-restart":
		each = func(name string) (string, error) {
			if !r.running(name) {
				return "", nil
			}
			if err := r.stop(name); err != nil {
				return "", err
			}
			return "", r.start(name)
		}
	case "reload":
		each = func(name string) (string, error) { return "", r.reload(name) }
	case "status", "is-active":
		each = func(name string) (string, error) {
			if !r.running(name) {
				return "inactive\n", errors.New("not active")
			}
			return "active\n", nil
		}
	default:
		return "", fmt.Errorf("systemctl %s is not simulated", verb)
	}
	var all string
	for _, name := range names {
		text, err := each(name)
		if all += text; err != nil {
			return all, err
		}
	}
	return all, nil
}

// log prints the last lines of a unit.
func (r *Runner) log(args []string) (string, error) {
	unit, n := "", 10
	for i := 0; i+1 < len(args); i++ {
		switch args[i] {
		case "-u":
			unit = args[i+1]
		case "-n":
			n, _ = strconv.Atoi(args[i+1])
		}
	}
	if !strings.Contains(unit, ".") {
		unit += ".service"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, e := range r.journal {
		if e.unit == unit {
			lines = append(lines, e.text)
		}
	}
	if len(lines) == 0 {
		return "-- No entries --\n", nil
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n") + "\n", nil
}

func (r *Runner) get(name string) (*service, error) {
	u, err := loadUnit(name)
	if err != nil {
		return nil, err
	}
	if r.services == nil {
		r.services = map[string]*service{}
	}
	s := r.services[u.Name]
	if s == nil {
		s = &service{}
		r.services[u.Name] = s
	}
	if s.cmd == nil {
		s.unit = u
	}
	return s, nil
}

func (r *Runner) running(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.get(name)
	return err == nil && (s.timer || s.cmd != nil)
}

// start starts a unit, and waits until it is ready.
func (r *Runner) start(name string) error {
	r.mu.Lock()
	s, err := r.get(name)
	if err != nil || s.cmd != nil {
		r.mu.Unlock()
		return err
	}
	if strings.HasSuffix(s.unit.Name, ".timer") {
		s.timer = true
		r.mu.Unlock()
		return nil
	}
	r.mu.Unlock()
	for _, line := range s.unit.values["Service.ExecStartPre"] {
		if err := r.helper(s.unit, line); err != nil {
			return err
		}
	}
	return r.launch(s)
}

// helper runs a command of a unit to its end.
func (r *Runner) helper(u *Unit, line string) error {
	line, ignored := strings.CutPrefix(line, "-")
	cmd, err := r.command(u, line)
	if err == nil {
		err = cmd.Run()
	}
	if err != nil && !ignored {
		return fmt.Errorf("%s: %s: %w", u.Name, line, err)
	}
	return nil
}

// launch starts the program of a service.
func (r *Runner) launch(s *service) error {
	u := s.unit
	cmd, err := r.command(u, u.get("ExecStart", ""))
	if err != nil {
		return err
	}
	kind := u.get("Type", "simple")
	ready := make(chan struct{})
	if kind == "notify" {
		socket := filepath.Join("/run", u.Name+".notify")
		os.Remove(socket)
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err != nil {
			return err
		}
		os.Chmod(socket, 0o777)
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+socket)
		if sec := u.get("WatchdogSec", ""); sec != "" {
			cmd.Env = append(cmd.Env, "WATCHDOG_USEC="+sec+"000000")
		}
		go waitReady(l, ready)
	} else {
		close(ready)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", u.Name, err)
	}
	done := make(chan struct{})
	r.mu.Lock()
	s.cmd, s.done, s.ready, s.stopped = cmd, done, ready, false
	r.mu.Unlock()
	go r.watch(s, cmd, done)
	if kind == "oneshot" || kind == "forking" {
		<-done
		if !cmd.ProcessState.Success() {
			return fmt.Errorf("job for %s failed: %v", u.Name, cmd.ProcessState)
		}
		if kind == "forking" {
			r.mu.Lock()
			s.timer = true // its children run
			r.mu.Unlock()
		}
		return nil
	}
	select {
	case <-ready:
		return nil
	case <-done:
		return fmt.Errorf("job for %s failed: %v", u.Name, cmd.ProcessState)
	case <-time.After(5 * time.Minute):
		return fmt.Errorf("%s does not get ready", u.Name)
	}
}

func waitReady(l *net.UnixConn, ready chan<- struct{}) {
	defer l.Close()
	buf, told := make([]byte, 4096), false
	for {
		n, err := l.Read(buf)
		if err != nil {
			return
		}
		if !told && slices.Contains(strings.Split(string(buf[:n]), "\n"), "READY=1") {
			told = true
			close(ready)
		}
	}
}

// watch waits for the end of a program, and starts it again if its unit says so.
func (r *Runner) watch(s *service, cmd *exec.Cmd, done chan<- struct{}) {
	cmd.Wait()
	u := s.unit
	r.mu.Lock()
	again := !s.stopped && u.get("Restart", "no") == "always" &&
		!slices.Contains(strings.Fields(u.get("RestartPreventExitStatus", "")), strconv.Itoa(cmd.ProcessState.ExitCode()))
	s.cmd = nil
	r.mu.Unlock()
	close(done)
	if again {
		time.Sleep(time.Second)
		r.launch(s)
	}
}

// stop ends a unit as systemd does: by ExecStop, else by SIGTERM, and in the end by SIGKILL.
func (r *Runner) stop(name string) error {
	r.mu.Lock()
	s, err := r.get(name)
	if err != nil {
		r.mu.Unlock()
		return err
	}
	cmd, done, forked := s.cmd, s.done, s.timer
	s.stopped, s.timer = true, false
	r.mu.Unlock()
	if forked {
		for _, line := range s.unit.values["Service.ExecStop"] {
			if err := r.helper(s.unit, line); err != nil {
				return err
			}
		}
	}
	if cmd == nil {
		return nil
	}
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		cmd.Process.Kill()
		<-done
	}
	return nil
}

// reload runs ExecReload, with $MAINPID.
func (r *Runner) reload(name string) error {
	r.mu.Lock()
	s, err := r.get(name)
	if err != nil {
		r.mu.Unlock()
		return err
	}
	pid := "0"
	if s.cmd != nil {
		pid = strconv.Itoa(s.cmd.Process.Pid)
	}
	r.mu.Unlock()
	for _, line := range s.unit.values["Service.ExecReload"] {
		if err := r.helper(s.unit, strings.ReplaceAll(line, "$MAINPID", pid)); err != nil {
			return err
		}
	}
	return nil
}

// capabilities that units of the guide and of proxies ask for.
var capabilities = map[string]uintptr{"CAP_NET_BIND_SERVICE": 10, "CAP_NET_ADMIN": 12}

// command makes the process of a line of a unit: as its user, in its environment.
func (r *Runner) command(u *Unit, line string) (*exec.Cmd, error) {
	args := words(strings.TrimLeft(line, "!+@:"))
	if len(args) == 0 {
		return nil, fmt.Errorf("%s has no command", u.Name)
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", "umask " + u.get("UMask", "0022") + `; exec "$@"`, "sh"}, args...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	for _, e := range u.values["Service.Environment"] {
		cmd.Env = append(cmd.Env, words(e)...)
	}
	attr := &syscall.SysProcAttr{Setsid: true}
	if name := u.get("User", ""); name != "" {
		cred, home, err := credential(name)
		if err != nil {
			return nil, err
		}
		attr.Credential = cred
		cmd.Env = append(cmd.Env, "HOME="+home, "USER="+name)
		for _, kept := range strings.Fields(u.get("AmbientCapabilities", "")) {
			if n, ok := capabilities[kept]; ok {
				attr.AmbientCaps = append(attr.AmbientCaps, n)
			}
		}
		if err := stateFolder(u, cred); err != nil {
			return nil, err
		}
	}
	cmd.SysProcAttr = attr
	out := &journal{r: r, unit: u.Name}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, nil
}

func credential(name string) (*syscall.Credential, string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, "", err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, "", err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, u.HomeDir, err
}

// stateFolder makes the StateDirectory, with its mode and owner.
func stateFolder(u *Unit, cred *syscall.Credential) error {
	name := u.get("StateDirectory", "")
	if name == "" {
		return nil
	}
	mode, err := strconv.ParseUint(u.get("StateDirectoryMode", "0755"), 8, 32)
	if err != nil {
		return err
	}
	path := filepath.Join("/var/lib", name)
	return cmp.Or(os.MkdirAll(path, os.FileMode(mode)), os.Chmod(path, os.FileMode(mode)), os.Chown(path, int(cred.Uid), int(cred.Gid)))
}

// journal takes what a unit prints.
type journal struct {
	r    *Runner
	unit string
	rest string
}

func (j *journal) Write(p []byte) (int, error) {
	j.r.mu.Lock()
	defer j.r.mu.Unlock()
	lines := strings.Split(j.rest+string(p), "\n")
	j.rest = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		j.r.journal = append(j.r.journal, entry{j.unit, line})
	}
	return len(p), nil
}
