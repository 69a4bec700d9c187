package xrpc_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc"
)

func gzipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, s)
	z.Close()
	return b.String()
}

// unsized hides the length of a body, so that it is sent in chunks.
func unsized(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} }

func TestBodies(t *testing.T) {
	s := routes(&xrpc.Server{Catalog: builtin(), MaxBody: 1000}, map[string]xrpc.Handler{
		"com.example.echo": xrpc.Procedure(echo),
		// Schemas of these: an input of JSON; none; any; a CAR file.
		"com.atproto.sync.requestCrawl": xrpc.Procedure(func(_ ctx, _ *xrpc.Request, in struct {
			Hostname string `json:"hostname"`
		}) (name, error) {
			return name{in.Hostname}, nil
		}),
		"com.atproto.server.activateAccount": xrpc.Procedure(func(ctx, *xrpc.Request, xrpc.None) (xrpc.None, error) {
			return xrpc.None{}, nil
		}),
		"com.atproto.server.deactivateAccount": xrpc.Procedure(func(_ ctx, _ *xrpc.Request, in struct {
			DeleteAfter string `json:"deleteAfter"`
		}) (name, error) {
			return name{in.DeleteAfter}, nil
		}),
		"com.atproto.server.refreshSession": xrpc.RawProcedure(copyBody),
		"com.atproto.repo.uploadBlob":       xrpc.RawProcedure(copyBody),
		"com.atproto.repo.importRepo":       xrpc.RawProcedure(copyBody),
		"com.example.raw":                   xrpc.RawProcedure(copyBody),
	})
	url := serve(t, s)
	const (
		js    = "Content-Type: application/json"
		gz    = "Content-Encoding: gzip"
		echo  = "com.example.echo"
		crawl = "com.atproto.sync.requestCrawl"
		void  = "com.atproto.server.activateAccount"
		blob  = "com.atproto.repo.uploadBlob"
		car   = "com.atproto.repo.importRepo"
	)
	ok := func(body string) answer { return answer{Status: 200, Body: body} }
	bad := answer{Status: 400, Error: "InvalidRequest"}
	big := answer{Status: 413, Error: "PayloadTooLarge"}
	long := `{"name":"` + strings.Repeat("x", 1000) + `"}`
	for what, tc := range map[string]struct {
		method  string
		body    io.Reader
		headers []string
		want    answer
	}{
		"JSON":                         {echo, strings.NewReader(`{"name":"x"}`), []string{js}, ok(`{"name":"x"}`)},
		"with a charset":               {echo, strings.NewReader(`{"name":"x"}`), []string{js + "; charset=utf-8"}, ok(`{"name":"x"}`)},
		"in chunks":                    {echo, unsized(`{"name":"x"}`), []string{js}, ok(`{"name":"x"}`)},
		"compressed":                   {echo, strings.NewReader(gzipped(`{"name":"x"}`)), []string{js, gz}, ok(`{"name":"x"}`)},
		"not encoded, and says so":     {echo, strings.NewReader(`{"name":"x"}`), []string{js, "Content-Encoding: identity"}, ok(`{"name":"x"}`)},
		"nothing":                      {echo, nil, nil, bad},
		"nothing, of a type":           {echo, nil, []string{js}, ok(`{"name":""}`)},
		"nothing in chunks, of a type": {echo, unsized(""), []string{js}, ok(`{"name":""}`)},
		"no type":                      {echo, strings.NewReader(`{"name":"x"}`), nil, bad},
		"another type":                 {echo, strings.NewReader(`{"name":"x"}`), []string{"Content-Type: text/plain"}, bad},
		"a malformed type":             {echo, strings.NewReader(`{"name":"x"}`), []string{"Content-Type: application/json; charset"}, bad},
		"no JSON":                      {echo, strings.NewReader(`{"name":`), []string{js}, bad},
		"JSON and more":                {echo, strings.NewReader(`{"name":"x"} {}`), []string{js}, bad},
		"an array":                     {echo, strings.NewReader(`[]`), []string{js}, bad},
		"a wrong type of field":        {echo, strings.NewReader(`{"name":7}`), []string{js}, bad},
		"too long":                     {echo, strings.NewReader(long), []string{js}, big},
		"too long in chunks":           {echo, unsized(long), []string{js}, big},
		"a bomb":                       {echo, strings.NewReader(gzipped(long)), []string{js, gz}, big},
		"compression that breaks off":  {echo, strings.NewReader(gzipped(`{"name":"x"}`)[:20]), []string{js, gz}, bad},
		"no compression":               {echo, strings.NewReader(`{"name":"x"}`), []string{js, gz}, bad},
		"nothing compressed":           {echo, unsized(""), []string{js, gz}, bad},
		"unknown compression": {echo, strings.NewReader("x"), []string{js, "Content-Encoding: br"},
			answer{Status: 415, Error: "UnsupportedMediaType"}},

		"by the schema":                 {crawl, strings.NewReader(`{"hostname":"x"}`), []string{js}, ok(`{"name":"x"}`)},
		"a property missing":            {crawl, strings.NewReader(`{}`), []string{js}, bad},
		"a property of a wrong type":    {crawl, strings.NewReader(`{"hostname":null}`), []string{js}, bad},
		"a property twice":              {crawl, strings.NewReader(`{"hostname":"a","hostname":"b"}`), []string{js}, bad},
		"a number with a fraction":      {crawl, strings.NewReader(`{"hostname":"a","x":1.5}`), []string{js}, bad},
		"nested endlessly":              {crawl, strings.NewReader(`{"hostname":"a","x":` + strings.Repeat("[", 400) + strings.Repeat("]", 400) + `}`), []string{js}, bad},
		"a malformed value of a format": {"com.atproto.server.deactivateAccount", strings.NewReader(`{"deleteAfter":"soon"}`), []string{js}, bad},
		"no properties needed":          {"com.atproto.server.deactivateAccount", strings.NewReader(`{}`), []string{js}, ok(`{"name":""}`)},

		"none wanted, none given":           {void, nil, nil, ok("")},
		"none wanted, an empty one":         {void, unsized(""), nil, ok("")},
		"none wanted, one given":            {void, strings.NewReader("{}"), []string{js}, bad},
		"none wanted, one in chunks":        {void, unsized("{}"), []string{js}, bad},
		"none wanted by the schema":         {"com.atproto.server.refreshSession", nil, nil, ok("")},
		"none wanted by the schema, given":  {"com.atproto.server.refreshSession", strings.NewReader("{}"), []string{js}, bad},
		"any type":                          {blob, strings.NewReader("abc"), []string{"Content-Type: image/png"}, ok("abc")},
		"any type, and */* given":           {blob, strings.NewReader("abc"), []string{"Content-Type: */*"}, ok("abc")},
		"any type, none given":              {blob, strings.NewReader("abc"), nil, bad},
		"raw, compressed":                   {blob, strings.NewReader(gzipped("abc")), []string{"Content-Type: image/png", gz}, ok("abc")},
		"raw, a bomb":                       {blob, strings.NewReader(gzipped(long)), []string{"Content-Type: image/png", gz}, big},
		"raw, too long":                     {blob, strings.NewReader(long), []string{"Content-Type: image/png"}, big},
		"raw, too long in chunks":           {blob, unsized(long), []string{"Content-Type: image/png"}, big},
		"a CAR file":                        {car, strings.NewReader("abc"), []string{"Content-Type: application/vnd.ipld.car"}, ok("abc")},
		"something else than a CAR file":    {car, strings.NewReader("abc"), []string{js}, bad},
		"raw, without a schema, of no type": {"com.example.raw", strings.NewReader("abc"), nil, ok("abc")},
	} {
		got, _ := call(t, "POST", url+"/xrpc/"+tc.method, tc.body, tc.headers...)
		check(t, what, got, tc.want)
	}
}

// copyBody answers with the body. It reads all of it first, as the answer ends the request.
func copyBody(w http.ResponseWriter, r *xrpc.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("wrapped: %w", err)
	}
	_, err = w.Write(body)
	return err
}

// Bodies that stall or break off are answered in time, and are no errors of the server.
func TestBodiesThatStall(t *testing.T) {
	var log lockedBuffer
	s := routes(&xrpc.Server{BodyTimeout: 50 * time.Millisecond, Logger: logger(&log)}, map[string]xrpc.Handler{
		"com.example.echo": xrpc.Procedure(echo),
		"com.example.raw":  xrpc.RawProcedure(copyBody),
	})
	addr := strings.TrimPrefix(serve(t, s), "http://")
	for method, status := range map[string]int{"echo": 400, "raw": 400, "unknown": 501} {
		for _, half := range []bool{false, true} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "POST /xrpc/com.example.%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", method)
			if half {
				conn.(*net.TCPConn).CloseWrite()
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("%s: %v", method, err)
			}
			check(t, method, resp.StatusCode, status)
			conn.Close()
		}
	}
	check(t, "log", log.String(), "")
}

// A slow upload may go on, as long as it does.
func TestSlowUpload(t *testing.T) {
	t.Parallel()
	url := serve(t, routes(&xrpc.Server{BodyTimeout: 2 * time.Second}, map[string]xrpc.Handler{"com.example.raw": xrpc.RawProcedure(copyBody)}))
	r, w := io.Pipe()
	part := strings.Repeat("x", 1<<10)
	go func() {
		for range 10 {
			io.WriteString(w, part)
			time.Sleep(250 * time.Millisecond)
		}
		w.Close()
	}()
	got, _ := call(t, "POST", url+"/xrpc/com.example.raw", r, "Content-Type: text/plain")
	check(t, "answer", got, answer{Status: 200, Body: strings.Repeat(part, 10)})
	// And the connection's deadline is not that of the body.
	time.Sleep(2200 * time.Millisecond)
	got, _ = call(t, "POST", url+"/xrpc/com.example.raw", strings.NewReader("y"), "Content-Type: text/plain")
	check(t, "answer", got, answer{Status: 200, Body: "y"})
}

// One that brings a byte now and then may not.
func TestTricklingUpload(t *testing.T) {
	t.Parallel()
	url := serve(t, routes(&xrpc.Server{BodyTimeout: 300 * time.Millisecond}, map[string]xrpc.Handler{"com.example.raw": xrpc.RawProcedure(copyBody)}))
	r, w := io.Pipe()
	go func() {
		for range 100 {
			if _, err := io.WriteString(w, "x"); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		w.Close()
	}()
	got, _ := call(t, "POST", url+"/xrpc/com.example.raw", r, "Content-Type: text/plain")
	check(t, "status", got.Status, 400)
	r.Close()
}

// The handler of a long request sees the connection's end, not the deadline of
// the body that it has read.
func TestDeadlineEndsWithBody(t *testing.T) {
	t.Parallel()
	url := serve(t, routes(&xrpc.Server{BodyTimeout: time.Second}, map[string]xrpc.Handler{
		"com.example.think": xrpc.Procedure(func(c ctx, _ *xrpc.Request, in name) (name, error) {
			select {
			case <-c.Done():
				return in, errors.New("disturbed")
			case <-time.After(1500 * time.Millisecond):
				return in, nil
			}
		}),
	}))
	got, _ := call(t, "POST", url+"/xrpc/com.example.think", strings.NewReader(`{"name":"x"}`), "Content-Type: application/json")
	check(t, "answer", got, answer{Status: 200, Body: `{"name":"x"}`})
}
