//go:build linux

package cloudflare_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// A client that sends a part of a body and then nothing must not keep the object active: it gets an
// answer, for bodies that are small, that are large, and of unknown length.
func TestBodyThatNeverEnds(t *testing.T) {
	t.Parallel()
	s := startWorker(t, map[string]string{"BODY_TIMEOUT": "200", "IDLE_BODY": "200ms"})
	for name, c := range map[string]struct{ path, header, want string }{
		"small":          {"/test/late", "Content-Length: 1000", `"RequestTimeout"`},
		"nothing at all": {"/test/late", "Content-Length: 5", `"RequestTimeout"`},
		"large":          {"/test/late", "Content-Length: 10000000", "4 true true"},
		"chunked":        {"/test/late", "Transfer-Encoding: chunked", "4 true true"},
		"of a deadline":  {"/test/late?ms=100", "Content-Length: 10000000", "4 true true"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			part := "part"
			if strings.HasPrefix(c.header, "Transfer") {
				part = "4\r\npart\r\n"
			}
			if name == "nothing at all" {
				part = ""
			}
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n%s\r\n\r\n%s", c.path, c.header, part)
			answer := make([]byte, 0, 4096)
			for !strings.Contains(string(answer), c.want) { // until the test is stopped
				b := make([]byte, 1024)
				n, err := conn.Read(b)
				if answer = append(answer, b[:n]...); err == io.EOF || err != nil {
					break
				}
			}
			if !strings.Contains(string(answer), c.want) {
				t.Errorf("%s", answer)
			}
		})
	}
	if got := get(t, s, "/test/head"); !strings.Contains(got, "GET") {
		t.Error(got)
	}
}
