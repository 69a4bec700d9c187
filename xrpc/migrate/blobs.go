package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// blobs copies the blobs that the new server lacks. What it lacks it says itself, so that
// an interrupted copy goes on where it was.
func (m *mover) blobs(ctx context.Context) error {
	st, err := m.status(ctx)
	if err != nil {
		return err
	}
	p := &blobProgress{m: m, done: st.ImportedBlobs, total: st.ExpectedBlobs, copied: make(map[string]bool), lost: make(map[string]error)}
	m.st.LostBlobs = nil
	for {
		before := p.done
		if err := m.missingBlobs(ctx, p); err != nil {
			return err
		}
		if p.done == before {
			break
		}
	}
	if len(p.lost) == 0 {
		p.report(true)
		return nil
	}
	slices.Sort(m.st.LostBlobs)
	text := ""
	for i, c := range m.st.LostBlobs {
		if i == 20 {
			text += fmt.Sprintf("\n  and %d more", len(m.st.LostBlobs)-i)
			break
		}
		text += fmt.Sprintf("\n  %s: %v", c, p.lost[c])
	}
	err = fmt.Errorf("%w: %d of %d:%s", ErrMissingBlobs, len(m.st.LostBlobs), p.total, text)
	if !m.AllowMissingBlobs {
		return &Error{Err: err, Next: "Run the move again to try once more, or allow it to go on without them.", Field: "AllowMissingBlobs"}
	}
	m.report(Event{Step: Blobs, Status: "warning", Message: err.Error()})
	return nil
}

// missingBlobs copies, once, each blob that the new server says it lacks.
func (m *mover) missingBlobs(ctx context.Context, p *blobProgress) error {
	var all pages
	for cursor := ""; ; {
		params := url.Values{"limit": {"500"}}
		if cursor != "" {
			params.Set("cursor", cursor)
		}
		var page struct {
			Cursor string `json:"cursor"`
			Blobs  []struct {
				CID string `json:"cid"`
			} `json:"blobs"`
		}
		if err := m.new.query(ctx, "com.atproto.repo.listMissingBlobs", params, &page); err != nil {
			return err
		}
		if err := p.more(len(page.Blobs)); err != nil {
			return err
		}
		queue := make(chan string, len(page.Blobs))
		for _, b := range page.Blobs {
			queue <- b.CID
		}
		close(queue)
		inner, cancel := context.WithCancelCause(ctx)
		var workers sync.WaitGroup
		for range min(m.Concurrency, len(page.Blobs)) {
			workers.Go(func() {
				for name := range queue {
					if inner.Err() != nil {
						return
					}
					if err := m.tryBlob(inner, p, name); err != nil {
						cancel(err)
					}
				}
			})
		}
		workers.Wait()
		err := context.Cause(inner)
		cancel(nil)
		if err != nil {
			return err
		}
		if page.Cursor == "" || page.Cursor == cursor { // a page without blobs need not be the last
			return nil
		}
		cursor = page.Cursor
		if err := all.next(cursor); err != nil {
			return fmt.Errorf("%w: listMissingBlobs: %w", ErrDiffers, err)
		}
	}
}

// more reports an error if a server asks for more blobs than an account can have: those that the
// repository refers to, with some allowance for how servers count.
func (p *blobProgress) more(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := int64(10_000_000)
	if repo := &p.m.st.Repo; repo.Counted {
		most = 2*repo.Blobs + 1000
	}
	if int64(len(p.copied)+len(p.lost)+n) > most+1000 { // those of the last page may be known
		return fmt.Errorf("%w: the new server lacks more blobs than the repository refers to", ErrDiffers)
	}
	return nil
}

// tryBlob copies a blob unless that was tried before. An error is one that concerns all.
func (m *mover) tryBlob(ctx context.Context, p *blobProgress, name string) error {
	copied, lost := p.known(name)
	switch {
	case lost:
		return nil
	case copied: // or the loop would never end
		p.lose(name, fmt.Errorf("%w: the new server took it and still lacks it", ErrDiffers))
		return nil
	}
	err := m.copyBlob(ctx, name)
	switch {
	case err == nil:
		p.add(name)
	case errors.As(err, new(*blobError)):
		p.lose(name, err)
		err = nil
	}
	return err
}

// decodeCID reads a CID that a server has told. Long ones are refused unread: some encodings take
// quadratic time.
func decodeCID(text string) (cid.Cid, error) {
	if _, err := syntax.ParseCID(text); err != nil {
		return cid.Undef, err
	}
	return cid.Decode(text)
}

// copyBlob copies one blob, by way of a temporary file. Its bytes must be those of its CID.
func (m *mover) copyBlob(ctx context.Context, name string) error {
	want, err := decodeCID(name)
	_, digest, ok := dag.SplitBytes(want.Bytes())
	if err != nil || !ok {
		return &blobError{fmt.Errorf("%w: CID %q", ErrDiffers, name)}
	}
	f, err := os.CreateTemp(filepath.Dir(m.State), filepath.Base(m.State)+".blob-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var size int64
	contentType := "application/octet-stream"
	err = m.old.do(ctx, func(c *xrpc.Client) error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		params := url.Values{"did": {string(m.st.DID)}, "cid": {name}}
		return fetch(ctx, c, "com.atproto.sync.getBlob", params, nil, func(resp *http.Response, body io.Reader) (err error) {
			if t, ok := xrpc.MediaType(resp.Header.Get("Content-Type")); ok {
				contentType = t
			}
			hash := sha256.New()
			size, err = copyAtMost(io.MultiWriter(f, hash), body, m.MaxBlob)
			if errors.Is(err, errTooLarge) {
				return &blobError{fmt.Errorf("%w: more than %d bytes", err, m.MaxBlob)}
			} else if err != nil {
				return err
			}
			if string(hash.Sum(nil)) != string(digest[:]) {
				return &blobError{fmt.Errorf("%w: the old server's bytes are not those of the blob", ErrDiffers)}
			}
			return nil
		})
	})
	if isLasting(err) {
		return &blobError{fmt.Errorf("old server: %w", err)}
	} else if err != nil {
		return err
	}
	var up struct {
		Blob struct {
			Ref struct {
				Link string `json:"$link"`
			} `json:"ref"`
		} `json:"blob"`
	}
	err = m.new.do(ctx, func(c *xrpc.Client) error {
		var raw json.RawMessage
		if err := c.Upload(ctx, "com.atproto.repo.uploadBlob", contentType, io.NewSectionReader(f, 0, size), &raw); err != nil {
			return err
		}
		return data.UnmarshalJSON(raw, &up)
	})
	switch {
	case isLasting(err):
		return &blobError{fmt.Errorf("new server (%d bytes): %w", size, err)}
	case err == nil && up.Blob.Ref.Link != name:
		return &blobError{fmt.Errorf("%w: the new server stored blob %q", ErrDiffers, up.Blob.Ref.Link)}
	}
	return err
}

// blobError is one that concerns a single blob, and will not pass.
type blobError struct{ err error }

func (e *blobError) Error() string { return e.err.Error() }
func (e *blobError) Unwrap() error { return e.err }

// isLasting reports whether a server's refusal concerns the blob rather than the session.
func isLasting(err error) bool {
	if errors.As(err, new(*blobError)) {
		return true
	}
	for _, status := range []int{http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType} {
		if isStatus(err, status) && !expired(err) {
			return true
		}
	}
	return false
}

// blobProgress counts. It is safe for concurrent use.
type blobProgress struct {
	m           *mover
	mu          sync.Mutex
	done, total int64
	copied      map[string]bool
	lost        map[string]error
	reported    time.Time
}

func (p *blobProgress) add(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	p.copied[name] = true
	p.report(false)
}

// report tells how far it is, now and then; the caller holds the lock.
func (p *blobProgress) report(now bool) {
	if now || time.Since(p.reported) > progressEvery {
		p.reported = time.Now()
		p.m.report(Event{Step: Blobs, Status: "progress", Done: p.done, Total: max(p.total, p.done), Unit: "blobs"})
	}
}

// known reports whether a blob was copied or given up.
func (p *blobProgress) known(name string) (copied, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.copied[name], p.lost[name] != nil
}

// lose gives a blob up.
func (p *blobProgress) lose(name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost[name] = err
	p.m.st.LostBlobs = append(p.m.st.LostBlobs, name)
}
