// Package notify reports the state of a service to systemd, as sd_notify(3) describes: by a
// datagram to the socket that the environment names. Without such a socket it does nothing.
package notify

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"
)

// States of a service.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	alive    = "WATCHDOG=1"
)

// Status is a line for people, which "systemctl status" shows.
func Status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", " ") }

// Notifier tells a service manager. The zero value tells nobody.
type Notifier struct {
	socket   string
	watchdog time.Duration // 0: there is none
}

// New returns the notifier of an environment, as os.Environ gives it.
func New(environ []string) Notifier {
	var n Notifier
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		switch name {
		case "NOTIFY_SOCKET":
			if strings.HasPrefix(value, "/") || strings.HasPrefix(value, "@") {
				n.socket = value
			}
		case "WATCHDOG_USEC":
			if us, err := strconv.ParseInt(value, 10, 64); err == nil && us > 0 {
				n.watchdog = time.Duration(us) * time.Microsecond
			}
		}
	}
	return n
}

// Send tells states. That nobody listens is no error for the caller.
func (n Notifier) Send(states ...string) error {
	if n.socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"}) // "@": an abstract one
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(strings.Join(states, "\n")))
	return err
}

// Watch feeds the watchdog, if the service has one, for as long as check returns in time: what
// check says does not matter, since a restart mends no disk. It returns when the context ends.
func (n Notifier) Watch(ctx context.Context, check func(context.Context)) {
	if n.watchdog == 0 || n.socket == "" {
		return
	}
	tick := time.NewTicker(n.watchdog / 3)
	defer tick.Stop()
	for {
		check(ctx)
		n.Send(alive)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
