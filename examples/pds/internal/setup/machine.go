package setup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/examples/pds/internal/selfcheck"
	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// Machine is where a server is to run. The zero value is this machine.
type Machine struct {
	DNS doctor.Resolver
	// Time are servers whose clocks are right. Nil: the did:plc directory and a relay.
	Time []string
	// Memory returns the bytes of memory; ok is false where that is not known. Nil: that of this
	// machine.
	Memory func() (n int64, ok bool)
	// Running: a server runs here already, and has the ports.
	Running bool
	// Listen tries a port. Nil: it is listened on for a moment.
	Listen func(address string) error
}

// leastMemory is enough for a small server beside the system.
const leastMemory = 900 << 20

// Checks look whether the machine suits a server with these answers.
func (m Machine) Checks(a Answers) []doctor.Check {
	servers := m.Time
	if servers == nil {
		servers = selfcheck.TimeServers("https://plc.directory", []string{"https://bsky.network"})
	}
	target := doctor.Target{URL: "https://" + a.Hostname, DNS: m.DNS}
	return []doctor.Check{
		target.Names("." + a.Hostname), m.ports(a), doctor.Clock(&timecheck.Watch{Servers: servers}), disk(a), m.memory(),
	}
}

func (m Machine) ports(a Answers) doctor.Check {
	return doctor.Check{Name: "ports", Run: func(context.Context) (list []doctor.Finding) {
		if m.Running {
			return []doctor.Finding{doctor.Good("the server runs already")}
		}
		addresses := []string{":443", ":80"}
		if a.TLS != ACME {
			addresses = []string{fmt.Sprintf("127.0.0.1:%d", a.Port)}
		}
		for _, address := range append(addresses, "127.0.0.1:2590") {
			list = append(list, m.port(address))
		}
		return list
	}}
}

func (m Machine) port(address string) doctor.Finding {
	try := m.Listen
	if try == nil {
		try = func(address string) error {
			l, err := net.Listen("tcp", address)
			if err == nil {
				err = l.Close()
			}
			return err
		}
	}
	_, port, _ := net.SplitHostPort(address)
	var f doctor.Finding
	switch err := try(address); {
	case err == nil:
		f = doctor.Good("port %s is free", port)
	case errors.Is(err, syscall.EADDRINUSE):
		f = doctor.Bad("\"ss -ltnp sport = :"+port+"\" tells which, as root: stop it, or choose another way of TLS or port", "another program has port %s", port)
	case errors.Is(err, syscall.EACCES):
		f = doctor.Skip("only root may try port %s", port)
	default:
		f = doctor.Bad("choose another port", "port %s cannot be used: %v", port, err)
	}
	return f.About(address)
}

// Room that a new server should have, in bytes.
const leastRoom = 2 << 30

func disk(a Answers) doctor.Check {
	return doctor.Check{Name: "disk", Run: func(context.Context) []doctor.Finding {
		dir := a.Data
		for dir != filepath.Dir(dir) {
			if _, err := os.Stat(dir); err == nil {
				break
			}
			dir = filepath.Dir(dir)
		}
		free, _, ok := datadir.Space(dir)
		switch {
		case !ok:
			return []doctor.Finding{doctor.Skip("free room is not known on this system")}
		case free < leastRoom:
			return []doctor.Finding{doctor.Warn("make room, or choose another disk for the data", "only %d MiB are free for %s", free>>20, a.Data)}
		}
		return []doctor.Finding{doctor.Good("%d GiB are free for %s", free>>30, a.Data)}
	}}
}

func (m Machine) memory() doctor.Check {
	return doctor.Check{Name: "memory", Run: func(context.Context) []doctor.Finding {
		read := m.Memory
		if read == nil {
			read = totalMemory
		}
		n, ok := read()
		switch {
		case !ok:
			return []doctor.Finding{doctor.Skip("the size of the memory is not known on this system")}
		case n < leastMemory:
			return []doctor.Finding{doctor.Warn("lower GOMEMLIMIT and MemoryMax in pds.service to a half and three quarters of it, or take a larger machine", "the machine has only %d MiB of memory", n>>20)}
		}
		return []doctor.Finding{doctor.Good("the machine has %d MiB of memory", n>>20)}
	}}
}

// totalMemory is the size of the memory, where the system tells it as Linux does.
func totalMemory() (int64, bool) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}
