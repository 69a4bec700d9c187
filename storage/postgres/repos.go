package postgres

import (
	"context"
	"fmt"
	"iter"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// repos reads from one pool, and writes to the primary.
type repos struct {
	*DB
	from *pool
}

var _ storage.Repos = repos{}

func missing(did syntax.DID) error {
	return fmt.Errorf("%w: repository %s", storage.ErrNotFound, did)
}

func (d repos) Head(ctx context.Context, did syntax.DID) (head storage.Head, err error) {
	from := d.from
	if from == d.reads {
		from = d.lookups
	}
	err = from.retry(ctx, func(c *conn) error {
		found := false
		var b batch
		b.each(func(r row) (err error) {
			found = true
			head, err = r.head(0)
			return err
		}, "SELECT commit_cid, data_cid, rev FROM repo WHERE did = $1", []byte(did))
		if err := c.send(ctx, &b); err != nil {
			return err
		}
		if !found || head == (storage.Head{}) {
			return missing(did)
		}
		return nil
	})
	return head, err
}

func (d repos) Apply(ctx context.Context, did syntax.DID, change *storage.Change) (seq int64, err error) {
	if err := change.Validate(); err != nil {
		return 0, err
	}
	return d.writer.do(&step{ctx: ctx, kind: apply, did: did, change: change})
}

func (d repos) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	if err := storage.ValidateEvents(events); err != nil {
		return 0, err
	}
	seq, err := d.writer.do(&step{ctx: ctx, kind: remove, did: did, change: &storage.Change{Events: events}})
	if err == nil {
		_ = d.sweep(ctx) // the next sweep does what is left
	}
	return seq, err
}

// listPage is how many repositories List reads at a time.
const listPage = 500

func (d repos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return func(yield func(storage.RepoInfo, error) bool) {
		for {
			var page []storage.RepoInfo
			err := d.from.retry(ctx, func(c *conn) error {
				page = page[:0]
				var b batch
				b.each(func(r row) error {
					head, err := r.head(1)
					page = append(page, storage.RepoInfo{DID: syntax.DID(r.string(0)), Head: head})
					return err
				}, "SELECT did, commit_cid, data_cid, rev FROM repo WHERE did > $1 ORDER BY did LIMIT $2", []byte(after), listPage)
				return c.send(ctx, &b)
			})
			if err != nil {
				yield(storage.RepoInfo{}, err)
				return
			}
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
			}
			if len(page) < listPage {
				return
			}
			after = page[len(page)-1].DID
		}
	}
}
