package source

import (
	"context"
	"errors"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// listWhenAsked lists the accounts of the host when that is asked for, until it succeeds.
func (f *firehose) listWhenAsked(ctx context.Context) {
	for {
		select {
		case <-f.list:
		case <-ctx.Done():
			return
		}
		for delay := time.Second; ctx.Err() == nil; delay = min(2*delay, time.Hour) {
			_, listed, _, err := f.Index.Cursor(ctx, f.host)
			if err == nil && !listed {
				if err = f.listAccounts(ctx); err == nil {
					err = f.Index.SetListed(ctx, f.host, true)
				}
			}
			if err == nil || ctx.Err() != nil {
				break
			}
			f.log().Warn("the accounts could not be listed", "source", f.host, "error", err)
			sleep(ctx, delay)
		}
	}
}

// listAccounts adds all accounts that have statuses. A relay knows which those are. A PDS may only
// know its accounts, so all of them are read.
func (f *firehose) listAccounts(ctx context.Context) error {
	c := &xrpc.Client{Host: f.host, HTTP: f.Operator}
	err := pages(ctx, func(ctx context.Context, cursor string) (string, int, error) {
		out, err := api.SyncListReposByCollection(ctx, c, api.SyncListReposByCollectionParams{Collection: status.Collection, Limit: 500, Cursor: cursor})
		revs := make(map[syntax.DID]syntax.TID)
		for _, r := range out.Repos {
			revs[r.DID] = ""
		}
		return out.Cursor, len(revs), errors.Join(err, f.Index.Listed(ctx, revs))
	})
	var xerr *xrpc.Error
	if !errors.As(err, &xerr) || xerr.Status == 429 || xerr.Status >= 500 && xerr.Status != 501 {
		return err
	}
	return pages(ctx, func(ctx context.Context, cursor string) (string, int, error) {
		out, err := api.SyncListRepos(ctx, c, api.SyncListReposParams{Limit: 500, Cursor: cursor})
		revs := make(map[syntax.DID]syntax.TID)
		for _, r := range out.Repos {
			if r.Active == nil || *r.Active {
				revs[r.DID] = r.Rev
			}
		}
		return out.Cursor, len(out.Repos), errors.Join(err, f.Index.Listed(ctx, revs))
	})
}

// pageTimeout bounds the time for one page of a list.
const pageTimeout = time.Minute

// maxEmptyPages is how many pages without an account may follow one another: a relay that has many
// accounts that it does not show sends some.
const maxEmptyPages = 100

// pages reads page after page, until one has no cursor.
func pages(ctx context.Context, read func(ctx context.Context, cursor string) (next string, n int, err error)) error {
	empty := 0
	for cursor := ""; ; {
		limited, done := context.WithTimeout(ctx, pageTimeout)
		next, n, err := read(limited, cursor)
		done()
		if empty++; n > 0 {
			empty = 0
		}
		if err != nil || next == "" || next == cursor || empty == maxEmptyPages {
			return err
		}
		cursor = next
	}
}
