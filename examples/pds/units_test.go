package main_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/setup"
)

// The unit files are as systemd wants them, with the drop-in for another disk.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	var units []string
	for _, name := range []string{"pds.service", "pds-backup.service", "pds-backup.timer"} {
		text := regexp.MustCompile(`(?m)^ExecStart=\S+`).ReplaceAllString(readFile(t, filepath.Join("deploy", name)), "ExecStart=/bin/sh")
		units = append(units, filepath.Join(dir, name))
		if err := os.WriteFile(units[len(units)-1], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name) == ".service" {
			drop := filepath.Join(dir, name+".d")
			if err := os.Mkdir(drop, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(drop, "blobs.conf"), []byte(readFile(t, "deploy/pds.service.d/blobs.conf")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	out, err := exec.Command(analyze, append([]string{"verify"}, units...)...).CombinedOutput()
	if err != nil || len(strings.TrimSpace(string(out))) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	// So are those that pds init writes, for other folders.
	at := t.TempDir()
	answers := setup.Answers{Hostname: "pds.site.test", TLS: setup.ACME, Port: 2583, Data: "/srv/data", Backups: "/srv/backups", Config: at, User: "pds", Program: "/bin/sh"}
	files, err := answers.Files(at)
	if err != nil {
		t.Fatal(err)
	}
	units = nil
	for _, f := range files {
		if _, err := setup.Write(f, nil, nil); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(filepath.Base(f.Path), "pds") && filepath.Ext(f.Path) != ".env" {
			units = append(units, f.Path)
		}
	}
	out, err = exec.Command(analyze, append([]string{"verify"}, units...)...).CombinedOutput()
	if err != nil || len(strings.TrimSpace(string(out))) > 0 || len(units) != 3 {
		t.Errorf("%v, %v\n%s", units, err, out)
	}
	service := readFile(t, "deploy/pds.service")
	for _, line := range []string{"Type=notify", "RestartPreventExitStatus=2", "After=network-online.target time-sync.target", "WatchdogSec="} {
		if !strings.Contains(service, line) {
			t.Errorf("no %s", line)
		}
	}
}

// A server tells the service manager when it serves, feeds the watchdog, and says when it ends.
func TestServiceManager(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := start(t, t.TempDir(), "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=60000000")
	read := func() string {
		c.SetReadDeadline(time.Now().Add(30 * time.Second))
		buf := make([]byte, 1024)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	if got := read(); got != "READY=1\nSTATUS=Serving "+p.url {
		t.Errorf("%q", got)
	}
	if got := read(); got != "WATCHDOG=1" {
		t.Errorf("%q", got)
	}
	p.interrupt()
	if got := read(); got != "STOPPING=1" {
		t.Errorf("%q", got)
	}
}

// pds health -wait waits for a server that is not there yet, and not for ever.
func TestHealthWaits(t *testing.T) {
	o := newOperator(t, t.TempDir())
	o.env = append(o.env, "PDS_PORT=1")
	o.fails(1, "is the server running", "health")
	o.fails(1, "not well after 100ms", "health", "-wait", "100ms")
	dir := t.TempDir()
	p := start(t, dir)
	port := p.port()
	p.interrupt()
	waits := newOperator(t, dir, port)
	done := make(chan string)
	go func() {
		out, errs, _ := waits.run("health", "-wait", "60s")
		done <- out + errs
	}()
	start(t, dir, port)
	if got := <-done; !strings.Contains(got, "is well") {
		t.Error(got)
	}
}
