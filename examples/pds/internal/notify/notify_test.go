package notify

import (
	"context"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// socket is where a service manager listens.
func socket(t *testing.T) (*net.UnixConn, string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there are no such sockets")
	}
	path := filepath.Join(t.TempDir(), "s")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, path
}

func read(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 1024)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestSend(t *testing.T) {
	c, path := socket(t)
	n := New([]string{"HOME=/", "NOTIFY_SOCKET=" + path})
	if err := n.Send(Ready, Status("Serving\nall")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c); got != "READY=1\nSTATUS=Serving all" {
		t.Errorf("%q", got)
	}
	for _, environ := range [][]string{nil, {"NOTIFY_SOCKET="}, {"NOTIFY_SOCKET=relative"}} {
		if err := New(environ).Send(Ready); err != nil {
			t.Errorf("%q: %v", environ, err)
		}
	}
	if err := New([]string{"NOTIFY_SOCKET=" + path + ".gone"}).Send(Ready); err == nil {
		t.Error("no error where nobody listens")
	}
}

// The watchdog is fed while the check returns, and not while it hangs.
func TestWatch(t *testing.T) {
	c, path := socket(t)
	n := New([]string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=30000"})
	ctx, cancel := context.WithCancel(t.Context())
	hang := make(chan struct{})
	calls, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		n.Watch(ctx, func(context.Context) {
			if calls++; calls == 3 {
				close(hang)
				<-ctx.Done()
			}
		})
	}()
	for range 2 {
		if got := read(t, c); got != "WATCHDOG=1" {
			t.Errorf("%q", got)
		}
	}
	<-hang
	c.SetReadDeadline(time.Now())
	if _, err := c.Read(make([]byte, 64)); err == nil {
		t.Error("the watchdog is fed by a service that hangs")
	}
	cancel()
	<-done
	New(nil).Watch(t.Context(), nil) // returns at once
}
