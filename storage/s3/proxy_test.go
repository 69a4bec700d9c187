package s3_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy passes connections on, slowly or not at all.
type proxy struct {
	l     net.Listener
	to    string
	mu    sync.Mutex
	conns map[net.Conn]bool
	left  int64 // bytes until the connections are cut; 0: never
	cut   int
	delay time.Duration // before each chunk
	deaf  bool          // takes connections and closes them
	still chan struct{} // closed when bytes pass again; nil: they pass
}

func newProxy(tb testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{l: l, to: to, conns: map[net.Conn]bool{}}
	go p.serve()
	tb.Cleanup(func() {
		p.stall(false)
		l.Close()
		p.closeAll()
	})
	return p
}

func (p *proxy) endpoint() string { return "http://" + p.l.Addr().String() }

func (p *proxy) serve() {
	for {
		conn, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		deaf := p.deaf
		p.mu.Unlock()
		if deaf {
			conn.Close()
			continue
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			conn.Close()
			continue
		}
		p.mu.Lock()
		p.conns[conn], p.conns[server] = true, true
		p.mu.Unlock()
		for _, pair := range [][2]net.Conn{{conn, server}, {server, conn}} {
			go func() {
				p.pass(pair[0], pair[1])
				pair[0].Close()
				pair[1].Close()
			}()
		}
	}
}

func (p *proxy) pass(from, to net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		delay, still := p.delay, p.still
		if p.left > 0 {
			if p.left -= int64(n); p.left <= 0 {
				p.left = 0
				p.cut++
				p.mu.Unlock()
				p.closeAll()
				return
			}
		}
		p.mu.Unlock()
		if still != nil {
			<-still
		}
		time.Sleep(delay)
		if _, writeErr := to.Write(b[:n]); writeErr != nil || err != nil {
			if err != nil && err != io.EOF {
				return
			}
			return
		}
	}
}

func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}

// cutAfter cuts all connections once after so many bytes. 0: it does not.
func (p *proxy) cutAfter(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = n
}

func (p *proxy) cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// slow delays each chunk.
func (p *proxy) slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// refuse cuts all connections and takes no new ones.
func (p *proxy) refuse(yes bool) {
	p.mu.Lock()
	p.deaf = yes
	p.mu.Unlock()
	if yes {
		p.closeAll()
	}
}

// stall holds all bytes back.
func (p *proxy) stall(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if yes {
		p.still = make(chan struct{})
	} else if p.still != nil {
		close(p.still)
		p.still = nil
	}
}
