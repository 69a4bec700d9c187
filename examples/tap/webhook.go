package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// webhook posts events to a URL.
type webhook struct {
	*app
	client *http.Client

	mu    sync.Mutex
	tries map[int64]int // of events that were refused
}

const (
	hookTime    = 30 * time.Second // for an answer
	hookBackoff = 10 * time.Second // the longest pause before an event is posted again
)

// run posts events until the context ends.
func (h *webhook) run(ctx context.Context) {
	h.tries = make(map[int64]int)
	h.client = &http.Client{
		Timeout: hookTime, Transport: h.set.hook,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c := h.out.join(window)
	defer h.out.remove(c)
	context.AfterFunc(ctx, func() { h.out.remove(c) })
	var posts sync.WaitGroup
	for range h.set.posts {
		posts.Go(func() {
			for {
				list := h.out.take(c, 1)
				if len(list) == 0 {
					return
				}
				h.deliver(ctx, list[0])
			}
		})
	}
	posts.Wait()
}

// deliver posts an event once.
func (h *webhook) deliver(ctx context.Context, e *event) {
	bodies, err := h.out.load(ctx, []*event{e})
	if err == nil && bodies[0] == nil {
		return // it was delivered meanwhile
	}
	if err == nil {
		err = h.post(ctx, bodies[0])
	}
	if err == nil {
		h.mu.Lock()
		delete(h.tries, e.id)
		h.mu.Unlock()
		h.out.ack(e.id)
		return
	}
	if ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	tries := h.tries[e.id]
	h.tries[e.id] = tries + 1
	h.mu.Unlock()
	wait := h.backoff(tries)
	h.set.log.Warn("the webhook has not taken an event", "error", err, "id", e.id, "tries", tries+1, "again", wait)
	h.out.refused(e, wait)
}

// backoff is the pause after a number of failures.
func (h *webhook) backoff(tries int) time.Duration {
	wait := min(h.set.hookPause<<min(tries, 10), hookBackoff)
	return wait + rand.N(wait/4+1)
}

func (h *webhook) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.set.webhook, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "tap (pdskit)")
	if h.set.password != "" {
		req.SetBasicAuth("admin", h.set.password)
	}
	res, err := h.client.Do(req)
	if err != nil {
		h.meters.posted(0)
		return err
	}
	h.meters.posted(res.StatusCode)
	defer res.Body.Close()
	io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}
