package browser

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// proxy is an HTTP proxy that ends TLS for all hosts, and passes on what is in it to dial.
type proxy struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	ctx  context.Context
	key  *ecdsa.PrivateKey

	mu           sync.Mutex
	certificates map[string]*tls.Certificate // by host
}

// serveProxy starts a proxy for the test, and returns its address.
func serveProxy(t testing.TB, dial func(ctx context.Context, network, address string) (net.Conn, error)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{dial: dial, ctx: ctx, key: key, certificates: make(map[string]*tls.Certificate)}
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		l.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(conn) })
		}
	})
	return l.Addr().String()
}

// serve answers a CONNECT request and passes the tunnel on.
func (p *proxy) serve(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(p.ctx, func() { conn.Close() })()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	if r.Method != http.MethodConnect {
		io.WriteString(conn, "HTTP/1.1 502 Only https\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	there, err := p.dial(p.ctx, "tcp", r.Host)
	if err != nil {
		io.WriteString(conn, "HTTP/1.1 502 No such site\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	defer there.Close()
	defer context.AfterFunc(p.ctx, func() { there.Close() })()
	io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	here := tls.Server(conn, &tls.Config{GetCertificate: p.certificate})
	var up sync.WaitGroup
	up.Go(func() {
		io.Copy(there, here)
		there.Close()
	})
	io.Copy(here, there)
	conn.Close()
	up.Wait()
}

// certificate makes one for a host.
func (p *proxy) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.certificates[hello.ServerName]; c != nil {
		return c, nil
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{hello.ServerName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.key.Public(), p.key)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: p.key}
	p.certificates[hello.ServerName] = c
	return c, nil
}
