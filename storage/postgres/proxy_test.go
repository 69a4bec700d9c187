//go:build unix

package postgres_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// fate is what becomes of a message to the server.
type fate int

const (
	pass   fate = iota
	cut         // the connection is closed instead
	freeze      // it and all after it, both ways, are held back until the thaw
	mute        // it is passed on, and then the connection is closed without an answer
)

// proxy stands between a node and its server, and knows where messages of the protocol begin.
type proxy struct {
	tb            testing.TB
	network, addr string // of the server
	l             net.Listener

	mu     sync.Mutex
	decide func(l *link, typ byte) fate // nil: all pass
	delay  time.Duration                // of each chunk, both ways
	frozen chan struct{}                // closed by the thaw
	links  map[*link]bool
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	lane           bool // it has locked a ticket once
	held           bool
	messages       int // since the test began to count
}

// newProxy starts a proxy for the server of a connection string.
func newProxy(tb testing.TB, server string) *proxy {
	tb.Helper()
	p := &proxy{tb: tb, frozen: make(chan struct{}), links: map[*link]bool{}}
	p.lead(server)
	var err error
	if p.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		p.l.Close()
		p.thaw()
		p.cutAll()
	})
	go p.serve()
	return p
}

// lead makes new connections lead to a server.
func (p *proxy) lead(server string) {
	cfg, err := pgx.ParseConfig(server)
	if err != nil {
		p.tb.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network, p.addr = "tcp", fmt.Sprintf("%s:%d", cfg.Host, cfg.Port)
	if strings.HasPrefix(cfg.Host, "/") {
		p.network, p.addr = "unix", filepath.Join(cfg.Host, fmt.Sprintf(".s.PGSQL.%d", cfg.Port))
	}
}

// url is the connection string that leads through the proxy.
func (p *proxy) url(server string) string {
	cfg, err := pgx.ParseConfig(server)
	if err != nil {
		p.tb.Fatal(err)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(cfg.User, cfg.Password), Host: p.l.Addr().String(), Path: "/" + cfg.Database, RawQuery: "sslmode=disable"}
	return u.String()
}

func (p *proxy) serve() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		network, addr := p.network, p.addr
		p.mu.Unlock()
		server, err := net.Dial(network, addr)
		if err != nil {
			client.Close()
			continue
		}
		l := &link{client: client, server: server}
		p.mu.Lock()
		p.links[l] = true
		p.mu.Unlock()
		go p.forth(l)
		go p.back(l)
	}
}

func (p *proxy) close(l *link) {
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
	l.client.Close()
	l.server.Close()
}

// forth passes on what the client sends, a message at a time.
func (p *proxy) forth(l *link) {
	defer p.close(l)
	for first := true; ; first = false {
		head := make([]byte, 5)
		if first { // the startup message has no type
			head = head[:4]
		}
		if _, err := io.ReadFull(l.client, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
		if _, err := io.ReadFull(l.client, body); err != nil {
			return
		}
		switch p.ask(l, head[0], body) {
		case cut:
			return
		case freeze:
			<-p.frozen
		case mute:
			_, _ = l.server.Write(append(head, body...))
			time.Sleep(20 * time.Millisecond) // it has arrived
			return
		}
		if _, err := l.server.Write(append(head, body...)); err != nil {
			return
		}
	}
}

func (p *proxy) ask(l *link, typ byte, body []byte) fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if typ == 'P' && strings.Contains(string(body), "FROM ticket") {
		l.lane = true
	}
	if p.delay > 0 && typ == 'S' {
		p.mu.Unlock()
		time.Sleep(p.delay)
		p.mu.Lock()
	}
	if p.decide == nil || !l.lane {
		return pass
	}
	l.messages++
	f := p.decide(l, typ)
	l.held = f == freeze
	return f
}

// back passes on what the server sends.
func (p *proxy) back(l *link) {
	defer p.close(l)
	buf := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		held, delay := l.held, p.delay
		p.mu.Unlock()
		if held {
			<-p.frozen
		}
		time.Sleep(delay)
		if _, err := l.client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// rule sets what becomes of messages on connections that carry steps.
func (p *proxy) rule(decide func(l *link, typ byte) fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decide = decide
	for l := range p.links {
		l.messages = 0
	}
}

// thaw lets go what is frozen.
func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.frozen:
	default:
		close(p.frozen)
	}
	for l := range p.links {
		l.held = false
	}
}

// cutAll closes all connections.
func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.client.Close()
		l.server.Close()
	}
}
