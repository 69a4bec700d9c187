package limit

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Listener bounds the connections of a listener. A connection beyond a bound is closed at once,
// without an answer: no request has arrived yet.
type Listener struct {
	net.Listener
	// Total bounds the connections. 0: 8,192.
	Total int
	// PerNetwork bounds those of one network. 0: a quarter of Total.
	PerNetwork int
	// Shared, if not nil, reports whether an address is that of many clients, such as a proxy in
	// front of the server. It may have three quarters of all connections.
	Shared func(a netip.Addr) bool

	once sync.Once
	gate Gate
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	l.once.Do(func() {
		l.gate.Name, l.gate.Total = "connections", l.Total
		if l.gate.Total == 0 {
			l.gate.Total = 8192
		}
		l.gate.Reserved = l.gate.Total / 8
	})
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		leave, ok := l.enter(c)
		if !ok {
			if t, ok := c.(*net.TCPConn); ok {
				t.SetLinger(0) // no memory of the system's either
			}
			c.Close()
			continue
		}
		return &conn{Conn: c, leave: leave}, nil
	}
}

// enter counts a connection.
func (l *Listener) enter(c net.Conn) (leave func(), ok bool) {
	var a netip.Addr
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		a = t.AddrPort().Addr().Unmap()
	}
	client := Client{Network: NetworkOf(a)}
	shared := l.Shared != nil && l.Shared(a)
	most := l.PerNetwork
	if most == 0 {
		most = l.gate.Total / 4
	}
	if shared {
		most = l.gate.Total - l.gate.Total/4
	}
	g := &l.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.share(client.Network)
	if !g.fits(s, client) || s.held >= most {
		g.drop(s)
		return nil, false
	}
	g.take(s)
	return g.leaver(s), true
}

// conn is a connection that is counted until it is closed.
type conn struct {
	net.Conn
	leave func()
}

func (c *conn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite is for package http, which says by it that an answer has ended.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Harden sets those fields of a server that bound clients and are zero: the times for a request's
// header and for idle connections, the size of headers, and, for HTTP/2, how many requests a
// connection has at a time, how much it may send that no handler has read, and for how long it may
// take nothing at all.
//
// An idle connection is closed after 3 minutes. A proxy in front of the server should close it
// first: otherwise it may send a request at the moment when the server closes, and a request that
// is not idempotent is then lost, as nobody may repeat it. Caddy keeps idle connections for 2
// minutes, nginx for 1.
func Harden(srv *http.Server) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	setInt := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	set(&srv.ReadHeaderTimeout, 10*time.Second)
	set(&srv.IdleTimeout, 3*time.Minute)
	setInt(&srv.MaxHeaderBytes, 64<<10)
	if srv.HTTP2 == nil {
		srv.HTTP2 = new(http.HTTP2Config)
	}
	h := srv.HTTP2
	setInt(&h.MaxConcurrentStreams, 100)
	setInt(&h.MaxReceiveBufferPerConnection, 256<<10)
	setInt(&h.MaxReceiveBufferPerStream, 256<<10)
	set(&h.WriteByteTimeout, 20*time.Second)
	set(&h.SendPingTimeout, 30*time.Second)
	set(&h.PingTimeout, 15*time.Second)
}
