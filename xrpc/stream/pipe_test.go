//go:build !js

package stream_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// pipeServer serves HTTP over pipes in memory, which hold nothing: a peer that does not read stops the
// server's write at once. It works with virtual time.
type pipeServer struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func servePipes(t testing.TB, h http.Handler) *pipeServer {
	p := &pipeServer{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: h}
	go srv.Serve(p)
	t.Cleanup(func() { srv.Close() })
	return p
}

// Accept implements net.Listener.
func (p *pipeServer) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipeServer) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr implements net.Listener.
func (p *pipeServer) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipeServer) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// raw opens a WebSocket connection and returns it after the handshake. Header lines end with CRLF.
func (p *pipeServer) raw(t testing.TB, path, header string) net.Conn {
	t.Helper()
	c, err := p.dial()
	if err != nil {
		t.Fatal(err)
	}
	go fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n", path, header)
	var answer strings.Builder
	for one := make([]byte, 1); !strings.HasSuffix(answer.String(), "\r\n\r\n"); {
		if _, err := c.Read(one); err != nil {
			t.Fatal(err)
		}
		answer.Write(one)
	}
	if !strings.HasPrefix(answer.String(), "HTTP/1.1 101") {
		t.Fatal(answer.String())
	}
	return c
}

// client returns a client of the server, whatever the host of a URL is.
func (p *pipeServer) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return p.dial() }}}
}

// websocket opens a WebSocket connection.
func (p *pipeServer) websocket(t testing.TB, path string) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), "ws://x"+path, &websocket.DialOptions{HTTPClient: p.client()})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(64 << 20)
	return c
}

// frames returns a subscriber that counts what it reads.
func (p *pipeServer) frames(t testing.TB, path string) *rawSubscriber {
	c := p.raw(t, path, "")
	return &rawSubscriber{c, bufio.NewReaderSize(c, 16<<10)}
}
