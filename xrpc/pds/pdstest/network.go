package pdstest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
)

// Network is a network of servers in this process. It is safe for concurrent use.
type Network struct {
	// Clock is the clock of all servers.
	Clock *Clock
	// Directory is the did:plc directory, at https://plc.test.
	Directory *plctest.Directory
	// Relay follows all PDSes.
	Relay *Relay
	// Mail has the messages to the accounts of all PDSes.
	Mail *Mailbox

	t testing.TB

	mu    sync.Mutex
	sites map[string]*site // by name
	all   []*PDS
	apps  int
	txt   map[string][]string // records of DNS
}

// directoryName is the host of the directory.
const directoryName = "plc.test"

// New returns a network without PDSes. It is shut down when the test ends.
func New(t testing.TB) *Network {
	t.Helper()
	n := &Network{t: t, Clock: new(Clock), Mail: new(Mailbox), sites: make(map[string]*site)}
	var err error
	if n.Directory, err = plctest.New(plctest.Config{NoRateLimits: true, Now: n.Clock.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Directory.Close() })
	n.Handle(directoryName, n.Directory)
	n.Relay = newRelay(n)
	return n
}

// Clock is a clock that a test can advance. Otherwise it runs like time.Now.
type Clock struct {
	ahead atomic.Int64
}

// Now returns the time.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Advance advances the clock.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// Handle adds a site to the network, such as an AppView, at https:// and http:// with the name. It
// panics if the name is taken.
func (n *Network) Handle(name string, h http.Handler) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sites[name] != nil {
		panic("pdstest: two sites with the name " + name)
	}
	s := newSite(h)
	n.sites[name] = s
	n.t.Cleanup(s.close)
}

// site returns the site of a host name. The handles below the name of a PDS lead to it.
func (n *Network) site(host string) *site {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if s := n.sites[host]; s != nil {
			return s
		}
		_, rest, ok := strings.Cut(host, ".")
		if !ok {
			return nil
		}
		host = rest
	}
}

// Client returns a client that reaches only the sites of the network.
func (n *Network) Client() *http.Client { return n.ClientFrom("192.0.2.1") }

// ClientFrom is [Network.Client] with a given client address, which servers see.
func (n *Network) ClientFrom(addr string) *http.Client {
	dial := n.DialFrom(addr)
	t := &http.Transport{DialContext: dial, DialTLSContext: dial, Proxy: nil}
	n.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// DialFrom returns a function that connects to the sites of the network from a given address, which
// servers see. The sites speak HTTP without TLS.
func (n *Network) DialFrom(addr string) func(ctx context.Context, network, hostport string) (net.Conn, error) {
	from := &net.TCPAddr{IP: net.ParseIP(addr), Port: 40000}
	if from.IP == nil {
		panic("pdstest: no IP address: " + addr)
	}
	return func(ctx context.Context, _, hostport string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(hostport)
		if err != nil {
			return nil, err
		}
		s := n.site(host)
		if s == nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("there is no site %s in the network of the test", host)}
		}
		return s.dial(ctx, from)
	}
}

// PLC returns a client of the directory.
func (n *Network) PLC() *identity.PLCClient {
	return &identity.PLCClient{URL: "https://" + directoryName, HTTP: n.Client()}
}

// Resolver returns a resolver of the network's identities.
func (n *Network) Resolver() *identity.Resolver {
	return &identity.Resolver{PLC: n.PLC(), HTTP: n.Client(), DNS: dns{n}, Development: true, Now: n.Clock.Now}
}

// TXT adds a record to the network's DNS, for example the one that names the publisher of a
// domain's schemas.
func (n *Network) TXT(name, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.txt == nil {
		n.txt = make(map[string][]string)
	}
	n.txt[name] = append(n.txt[name], text)
}

// dns is the DNS of a network.
type dns struct{ net *Network }

func (d dns) LookupTXT(_ context.Context, name string) ([]string, error) {
	d.net.mu.Lock()
	defer d.net.mu.Unlock()
	if list := d.net.txt[strings.TrimSuffix(name, ".")]; len(list) > 0 {
		return append([]string(nil), list...), nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// site serves a handler over pipes.
type site struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	http  *http.Server
	ended chan struct{} // when the server has
}

func newSite(h http.Handler) *site {
	s := &site{conns: make(chan net.Conn), done: make(chan struct{}), http: &http.Server{Handler: h}, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.http.Serve(s)
	}()
	return s
}

func (s *site) dial(ctx context.Context, from net.Addr) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case s.conns <- conn{there, from}:
		return here, nil
	case <-s.done:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *site) close() {
	s.http.Close()
	<-s.ended
}

// A site is the listener of its server.

func (s *site) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *site) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s *site) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 254), Port: 443} }

// conn is the server's end of a connection.
type conn struct {
	net.Conn
	from net.Addr
}

func (c conn) RemoteAddr() net.Addr { return c.from }
