// Package nettest has servers of the network's lower layers for tests.
package nettest

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"testing"
)

// NameServer returns a resolver that asks a name server of the test. It answers each A query with
// the next address of a list, the last one again and again, and every other query with nothing.
func NameServer(t testing.TB, addrs ...string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for i := 0; ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			q := buf[:n]
			end := 12 + bytes.IndexByte(q[12:], 0) + 5 // of the question
			answer := append([]byte{}, q[:end]...)
			binary.BigEndian.PutUint16(answer[2:], 0x8180)
			clear(answer[6:12])
			if binary.BigEndian.Uint16(q[end-4:]) == 1 { // A
				answer[7] = 1
				ip := netip.MustParseAddr(addrs[min(i, len(addrs)-1)]).As4()
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				answer = append(answer, ip[:]...)
				i++
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// RoundTrip is a transport in the place of the public Internet, which tests do not reach.
type RoundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f RoundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
