package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// conn is a connection that is kept, with just enough of HTTP/1.1 for our own server.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func dial(ctx context.Context, base string) (*conn, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	return &conn{c, bufio.NewReaderSize(c, 64<<10)}, nil
}

// request prepares a request.
func request(method, path, token, body string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, path)
	if token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return []byte(b.String())
}

var errAnswer = errors.New("not an answer of HTTP/1.1")

// do sends a request and reads its answer to the end. It returns the length of the body.
func (c *conn) do(req []byte) (n int64, err error) {
	if _, err := c.Write(req); err != nil {
		return 0, err
	}
	return answer(c.r)
}

// answer reads an answer to its end. It returns the length of the body.
func answer(r *bufio.Reader) (n int64, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 {
		return 0, errAnswer
	}
	status := string(line[9:12])
	length, chunked := int64(-1), false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, found := strings.Cut(string(line), ":"); found {
			switch value = strings.TrimSpace(value); strings.ToLower(name) {
			case "content-length":
				if length, err = strconv.ParseInt(value, 10, 64); err != nil {
					return 0, err
				}
			case "transfer-encoding":
				chunked = value == "chunked"
			}
		}
	}
	var body io.Reader = io.LimitReader(r, length)
	if chunked {
		body = &chunks{r: r}
	} else if length < 0 {
		return 0, errAnswer
	}
	if status != "200" {
		text, _ := io.ReadAll(body)
		return 0, fmt.Errorf("status %s: %.300s", status, text)
	}
	n, err = io.Copy(io.Discard, body)
	if err == nil && !chunked && n != length {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// chunks reads a chunked body.
type chunks struct {
	r    *bufio.Reader
	left int64
	done bool
}

func (c *chunks) Read(p []byte) (int, error) {
	if c.done {
		return 0, io.EOF
	}
	if c.left == 0 {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, noEOF(err)
		}
		if c.left, err = strconv.ParseInt(strings.TrimSpace(string(line)), 16, 64); err != nil {
			return 0, err
		}
		if c.left == 0 {
			c.done = true
			_, err := c.r.Discard(2)
			if err == nil {
				err = io.EOF
			}
			return 0, err
		}
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	if c.left -= int64(n); c.left == 0 && err == nil {
		_, err = c.r.Discard(2)
	}
	return n, noEOF(err)
}

// noEOF: the answer must not end here.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// figures are what clients have seen.
type figures struct {
	calls int
	bytes int64
	took  time.Duration
	times []time.Duration // of each call, sorted
	busy  time.Duration   // of the server's processors
}

func (f figures) perSecond() float64 { return float64(f.calls) / f.took.Seconds() }

func (f figures) percentile(p float64) time.Duration {
	if len(f.times) == 0 {
		return 0
	}
	return f.times[min(int(float64(len(f.times))*p), len(f.times)-1)]
}

func (f figures) String() string {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("%s/s, p50 %.1f ms, p99 %.1f ms; %.0f µs of the server's processors each", thousands(f.perSecond()),
		ms(f.percentile(.5)), ms(f.percentile(.99)), float64(f.busy.Microseconds())/float64(max(f.calls, 1)))
}

// hammer lets clients call for a time; next returns the request that a client sends in its n-th
// call.
func hammer(ctx context.Context, base string, clients int, duration time.Duration, next func(client, n int) []byte) (figures, error) {
	all := make([]figures, clients)
	errs := make([]error, clients)
	var done sync.WaitGroup
	start := time.Now()
	end := start.Add(duration)
	for i := range clients {
		done.Go(func() {
			c, err := dial(ctx, base)
			if err != nil {
				errs[i] = err
				return
			}
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			f := &all[i]
			for n := 0; ; n++ {
				before := time.Now()
				if !before.Before(end) {
					return
				}
				size, err := c.do(next(i, n))
				if err != nil {
					errs[i] = err
					return
				}
				f.times = append(f.times, time.Since(before))
				f.bytes += size
			}
		})
	}
	done.Wait()
	return total(all, time.Since(start)), errors.Join(errs...)
}

// total is what several clients have seen together.
func total(all []figures, took time.Duration) figures {
	sum := figures{took: took}
	for _, f := range all {
		sum.calls += len(f.times)
		sum.bytes += f.bytes
		sum.times = append(sum.times, f.times...)
	}
	slices.Sort(sum.times)
	return sum
}
