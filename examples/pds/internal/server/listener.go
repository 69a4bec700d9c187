package server

import (
	"net"
	"sync/atomic"
	"time"
)

// writeStall is how long a client may take nothing of what it is sent. An export waits in a
// temporary file meanwhile, so that clients who never read would fill the disk.
const writeStall = time.Minute

// stallListener gives its connections a time to write that starts anew with each write. Package
// http has one for the whole answer only, which is too short for large repositories or too long
// for everything else.
type stallListener struct {
	net.Listener
	limit time.Duration
}

func (l stallListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stallConn{Conn: c, limit: l.limit}, nil
}

type stallConn struct {
	net.Conn
	limit time.Duration
	own   atomic.Bool // somebody has set a deadline, which counts instead
}

func (c *stallConn) Write(p []byte) (int, error) {
	if !c.own.Load() {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

func (c *stallConn) SetWriteDeadline(t time.Time) error {
	c.own.Store(!t.IsZero())
	return c.Conn.SetWriteDeadline(t)
}

func (c *stallConn) SetDeadline(t time.Time) error {
	c.own.Store(!t.IsZero())
	return c.Conn.SetDeadline(t)
}

// CloseWrite is for package http, which says by it that an answer has ended.
func (c *stallConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
