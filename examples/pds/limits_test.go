package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dialFrom opens a connection from an address of this machine.
func dialFrom(t *testing.T, p *process, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
	c, err := d.Dial("tcp", "127.0.0.1:"+p.port())
	if err != nil {
		t.Skip("only one loopback address: ", err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// Bodies that never come are waited for nowhere: not by pages, not by what there is not, not by
// health.
func TestBodiesThatNeverComeOutsideXRPC(t *testing.T) {
	p := start(t, t.TempDir())
	for _, path := range []string{"/", "/robots.txt", "/.well-known/did.json", "/tls-check", "/nowhere", "/xrpc/_health", "/xrpc/com.atproto.server.describeServer"} {
		for _, header := range []string{"Content-Length: 100", "Content-Length: 100000000", "Transfer-Encoding: chunked"} {
			for _, method := range []string{"POST", "GET"} {
				c := dialFrom(t, p, "127.0.0.2")
				fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", method, path, header)
				if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
					t.Errorf("%s %s, %s: %v", method, path, header, err)
				}
			}
		}
	}
}

// One address cannot take the subscriptions of all: it is refused with 429, and others are served.
func TestSubscriptionsOfOneAddress(t *testing.T) {
	p := start(t, t.TempDir())
	subscribe := func(from string) (status int, retry string) {
		c := dialFrom(t, p, from)
		io.WriteString(c, "GET /xrpc/com.atproto.sync.subscribeRepos HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusSwitchingProtocols {
			var envelope struct{ Error string }
			if err := json.NewDecoder(resp.Body).Decode(&envelope); err != nil || envelope.Error == "" {
				t.Error(err, envelope)
			}
		}
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	for i := range 120 {
		status, retry := subscribe("127.0.0.2")
		want := 101
		if i >= 100 {
			want = 429
		}
		if status != want || want == 429 && retry == "" {
			t.Fatalf("subscription %d: %d, Retry-After %q", i, status, retry)
		}
	}
	if status, _ := subscribe("127.0.0.3"); status != 101 {
		t.Errorf("another address: %d", status)
	}
}
