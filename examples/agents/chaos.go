package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/examples/agents/internal/check"
	"github.com/pdskit/pdskit/internal/sleep"
)

// chaos starts the program again and again, kills it and single agents at random moments, lets it
// finish at last, and checks what it has left.
func chaos(ctx context.Context, o options, out io.Writer) (err error) {
	if o.seed == 0 {
		o.seed = rand.Uint64()
	}
	fmt.Fprintf(out, "seed %d\n", o.seed)
	random := rand.New(rand.NewPCG(o.seed, 0))
	dir, err := os.MkdirTemp("", "agents-chaos-")
	if err != nil {
		return err
	}
	o.data = dir
	o.every, o.pace, o.lease = o.every/10, o.pace/10, max(o.lease/5, time.Second)
	if o.listen, err = address("127.0.0.1:0"); err != nil {
		return err
	}
	said := new(tail)
	defer func() {
		if text := said.String(); err != nil && text != "" {
			err = fmt.Errorf("%w\nThe processes said at last:\n%s", err, text)
		}
	}()
	kills, agents, err := killing(ctx, o, random, said)
	if err != nil {
		return fmt.Errorf("%w (seed %d, data in %s)", err, o.seed, dir)
	}
	fmt.Fprintf(out, "killed the process %d times and agents %d times; now it finishes\n", kills, agents)
	o.finish = true
	c, err := start(o, said)
	if err != nil {
		return err
	}
	select {
	case <-c.ended:
	case <-time.After(2 * time.Minute):
		c.kill()
		return fmt.Errorf("it does not finish (seed %d, data in %s)", o.seed, dir)
	}
	if c.err != nil {
		return fmt.Errorf("%w (seed %d, data in %s)", c.err, o.seed, dir)
	}
	r, err := check.Dir(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d tasks: %d done, %d failed; %d observations, %d messages, %d dead letters\n", r.Tasks, r.Done, r.Failed, r.Observations, r.Messages, r.Dead)
	if wrong := append(r.Problems, r.Pending...); len(wrong) > 0 {
		return fmt.Errorf("%s\n(seed %d, data in %s)", strings.Join(wrong, "\n"), o.seed, dir)
	}
	fmt.Fprintln(out, "No task is lost, and none is done twice.")
	return os.RemoveAll(dir)
}

// killing kills, until the time is over or there were enough kills. What the processes write to
// their standard error goes to said.
func killing(ctx context.Context, o options, random *rand.Rand, said io.Writer) (kills, agents int, err error) {
	between := func(from, to time.Duration) time.Duration {
		return from + time.Duration(random.Int64N(int64(to-from)))
	}
	for end := time.Now().Add(o.chaos); time.Now().Before(end) && (o.kills == 0 || kills < o.kills); kills++ {
		c, err := start(o, said)
		if err != nil {
			return kills, agents, err
		}
		if random.IntN(8) > 0 { // else it may die while it starts
			select {
			case <-c.ready:
			case <-c.ended:
				return kills, agents, fmt.Errorf("it ended by itself: %w", c.err)
			case <-ctx.Done():
				c.kill()
				return kills, agents, ctx.Err()
			}
			for range random.IntN(4) {
				sleep.For(ctx, between(50*time.Millisecond, 500*time.Millisecond))
				if killAgent(ctx, o.listen, random.IntN(o.agents)) == nil {
					agents++
				}
			}
		}
		sleep.For(ctx, between(10*time.Millisecond, 1200*time.Millisecond))
		c.kill()
		if err := ctx.Err(); err != nil {
			return kills, agents, err
		}
	}
	return kills, agents, nil
}

// killAgent does what the button on the page does.
func killAgent(ctx context.Context, address string, n int) error {
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/kill-agent", strings.NewReader(url.Values{"agent": {fmt.Sprint(n)}}.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s", res.Status)
	}
	return nil
}

// tail is a writer that keeps the end of what is written.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if extra := len(t.buf) - tailBytes; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(b), nil
}

// String returns the end, from the first whole line on.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := string(t.buf)
	if len(t.buf) == tailBytes {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}
