package limit

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// One address cannot take all connections, and all together not those that are reserved.
func TestConnectionsOfOneAddress(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Listener{Listener: inner, Total: 8, PerNetwork: 3}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})}
	go srv.Serve(l)
	defer srv.Close()
	dial := func(from string) (net.Conn, bool) {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Skip("only one loopback address: ", err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		return c, err == nil
	}
	var first net.Conn
	for i := range 6 {
		c, ok := dial("127.0.0.2")
		if ok != (i < 3) {
			t.Errorf("connection %d: %v", i, ok)
		}
		if i == 0 {
			first = c
		}
	}
	for i := range 4 {
		if _, ok := dial(fmt.Sprintf("127.0.0.%d", 3+i)); !ok {
			t.Errorf("address %d is refused", 3+i)
		}
	}
	if _, ok := dial("127.0.0.3"); ok {
		t.Error("who has a connection takes a reserved one")
	}
	if _, ok := dial("127.0.0.8"); !ok {
		t.Error("no reserved connection")
	}
	if _, ok := dial("127.0.0.9"); ok {
		t.Error("more connections than there may be")
	}
	first.Close()
	for { // until the server has noticed
		if _, ok := dial("127.0.0.9"); ok {
			break
		}
	}
}

func TestHarden(t *testing.T) {
	srv := &http.Server{IdleTimeout: time.Second, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 7}}
	Harden(srv)
	if srv.IdleTimeout != time.Second || srv.HTTP2.MaxConcurrentStreams != 7 || srv.ReadHeaderTimeout == 0 || srv.HTTP2.WriteByteTimeout == 0 {
		t.Errorf("%+v %+v", srv, srv.HTTP2)
	}
	// Proxies close idle connections first: Caddy after 2 minutes.
	srv = new(http.Server)
	if Harden(srv); srv.IdleTimeout <= 2*time.Minute {
		t.Errorf("idle connections end after %s", srv.IdleTimeout)
	}
}
