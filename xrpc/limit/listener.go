package limit

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Listener bounds the connections of a listener. A connection beyond a bound is closed at once
// without a response, since no request has arrived yet.
type Listener struct {
	net.Listener
	// Total bounds the connections. 0: 8,192.
	Total int
	// PerNetwork bounds the connections of one network. 0: a quarter of Total.
	PerNetwork int
	// Shared, if not nil, reports whether an address is shared by many clients, such as that of a
	// reverse proxy. It may have three quarters of all connections.
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
	return g.releaser(s), true
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

// CloseWrite is used by package http to mark the end of a response.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Harden sets the fields of a server that bound clients, if they are zero: the timeouts for request
// headers and idle connections, the size of headers, and, for HTTP/2, the concurrent requests of a
// connection, the data that no handler has read, and how long a connection may accept no data.
//
// An idle connection is closed after 3 minutes. A reverse proxy should close it earlier. Otherwise
// the proxy may send a request while the server closes the connection, and a request that is not
// idempotent is then lost, because it may not be repeated. Caddy closes idle connections after 2
// minutes, nginx after 1.
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
