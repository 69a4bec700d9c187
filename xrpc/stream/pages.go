package stream

import (
	"context"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/platform"
)

const (
	// A page is about so many bytes, and at most so many events.
	pageBytes = 256 << 10
	pageItems = 512
	// pagesAge bounds for how long pages are kept.
	pagesAge = 30 * time.Second
	// pageReads bounds how many pages are read from the log at the same time.
	pageReads = 2
	// pageTimeout bounds the time for it.
	pageTimeout = time.Minute
)

// pagesBytes bounds the pages that are kept.
var pagesBytes = platform.Default(16<<20, 1<<20)

// pages shares what subscribers read of the log's past. Those that are at about the same position
// read the same page, and one that waits for its peer holds none: when it goes on, it reads the
// page again if that is no longer kept. So any number of subscribers that are far behind cost a
// fixed amount of memory.
//
// A page is kept only if there is more after it: then it has all events from its start to its end
// for good, as no smaller number appears later. The zero value is ready.
type pages struct {
	// mu guards all.
	mu     sync.Mutex
	kept   []*page // the least recently used first
	size   int
	reads  map[int64]*pageRead // under way, by start
	tokens chan struct{}
}

// page is the events after start, up to end. It does not change once others can see it.
type page struct {
	start, end int64
	items      []*item
	size       int
	more       bool // perhaps there are events after end
	read       time.Time
}

// pageRead is a page that is being read. page and err are set before done is closed.
type pageRead struct {
	done chan struct{}
	page *page
	err  error
}

// after returns the items of a page after a position. all reports whether there was nothing after
// them when it was called.
func (p *pages) after(ctx context.Context, at int64, load func(context.Context, int64) (*page, error)) (items []*item, all bool, err error) {
	p.mu.Lock()
	if kept := p.find(at); kept != nil {
		p.mu.Unlock()
		return kept.after(at), false, nil
	}
	r, joined := p.reads[at]
	if !joined {
		r = &pageRead{done: make(chan struct{})}
		if p.reads == nil {
			p.reads = make(map[int64]*pageRead)
		}
		if p.tokens == nil {
			p.tokens = make(chan struct{}, pageReads)
		}
		p.reads[at] = r
		go p.read(context.WithoutCancel(ctx), p.tokens, at, r, load)
	}
	p.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	if r.err != nil {
		return nil, false, r.err
	}
	// A read that others began may have missed what was there when this one was called.
	return r.page.items, !r.page.more && !joined, nil
}

// read reads a page for all who wait for it.
func (p *pages) read(ctx context.Context, tokens chan struct{}, at int64, r *pageRead, load func(context.Context, int64) (*page, error)) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	defer close(r.done)
	select {
	case tokens <- struct{}{}:
		r.page, r.err = load(ctx, at)
		<-tokens
	case <-ctx.Done():
		r.err = ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reads[at] != r { // it was cleared meanwhile
		return
	}
	delete(p.reads, at)
	if r.err != nil || !r.page.more {
		return
	}
	r.page.read = time.Now()
	p.kept = append(p.kept, r.page)
	for p.size += r.page.size; p.size > pagesBytes && len(p.kept) > 1; {
		p.forget(0)
	}
}

// find returns a page that is kept and has the events after a position. The caller holds the lock.
func (p *pages) find(at int64) *page {
	now := time.Now()
	for i := 0; i < len(p.kept); {
		k := p.kept[i]
		switch {
		case now.Sub(k.read) > pagesAge:
			p.forget(i)
			continue
		case k.start <= at && at < k.end:
			p.kept = append(append(p.kept[:i:i], p.kept[i+1:]...), k)
			return k
		}
		i++
	}
	return nil
}

// clear drops all pages. Those that are being read are for who waits for them already.
func (p *pages) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept, p.size, p.reads = nil, 0, nil
}

// forget drops a page. The caller holds the lock.
func (p *pages) forget(i int) {
	p.size -= p.kept[i].size
	p.kept = append(p.kept[:i:i], p.kept[i+1:]...)
}

// after returns the items after a position.
func (p *page) after(at int64) []*item {
	i := 0
	for i < len(p.items) && p.items[i].seq <= at {
		i++
	}
	return p.items[i:]
}
