package account

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Search is a query for accounts.
type Search struct {
	// Text is a DID, the beginning of an e-mail address (at least up to the "@"), or the beginning
	// of a handle, with or without a leading "@". Empty means all accounts, newest first.
	Text string
	// Moderated finds accounts that are taken down, or that have or had a record or blob taken
	// down, in DID order. Text is then ignored.
	Moderated bool
	// Cursor is the cursor that the previous page returned. Empty means the first page.
	Cursor string
	// Limit is the maximum number of accounts on a page. 0 means 50; values above 100 mean 100.
	Limit int
}

const (
	searchLimit    = 50
	maxSearchLimit = 100
	// maxSearch is the length in bytes of the longest text and cursor: DIDs may have 2,048.
	maxSearch = 2100
)

// ErrSearch: the text or the cursor of a Search is too long.
var ErrSearch = errors.New("account: the text to search for is too long")

// Search returns a page of accounts and the cursor of the next page, which is empty at the end. It
// reads only the accounts of the page. A page may be shorter than the limit, or empty, although
// another page follows.
func (s *Store) Search(ctx context.Context, q Search) (list []Account, next string, err error) {
	if len(q.Text) > maxSearch || len(q.Cursor) > maxSearch {
		return nil, "", ErrSearch
	}
	if q.Limit <= 0 {
		q.Limit = searchLimit
	}
	q.Limit = min(q.Limit, maxSearchLimit)
	text := strings.TrimSpace(q.Text)
	if strings.HasPrefix(text, "did:") && !q.Moderated {
		a, err := s.ByDID(ctx, syntax.DID(text))
		if errors.Is(err, ErrNotFound) {
			return nil, "", nil
		} else if err != nil {
			return nil, "", err
		}
		return []Account{a}, "", nil
	}
	text = strings.TrimPrefix(strings.ToLower(text), "@")
	index := handlePrefix
	switch {
	case q.Moderated:
		index, text = moderatedPrefix, ""
	case text == "":
		index = createdPrefix
	case strings.Contains(text, "@"):
		index = emailPrefix
	}
	rng := storage.Prefix(index + text)
	switch at := index + q.Cursor; {
	case q.Cursor == "":
	case index == createdPrefix:
		rng.To = min(rng.To, at)
	default:
		rng.From = max(rng.From, at+"\x00")
	}
	rng.Reverse = index == createdPrefix
	list, last, n, err := s.pageOf(ctx, rng, q.Limit)
	if err != nil {
		return nil, "", err
	}
	if n == q.Limit {
		next = strings.TrimPrefix(last, index)
	}
	// The index may be ahead of an account, or behind.
	list = slices.DeleteFunc(list, func(a Account) bool {
		return !slices.ContainsFunc(a.indexKeys(), func(key string) bool { return strings.HasPrefix(key, index+text) })
	})
	return list, next, nil
}

// TakenDownPart is a record or a blob that is taken down.
type TakenDownPart struct {
	Path string  // of a record; empty: it is a blob
	Blob cid.Cid // undefined: it is a record
	Ref  string  // the moderator's reference
}

// Takedowns returns up to limit records and blobs of an account that are taken down, blobs first,
// and the cursor of the next page, which is empty at the end. An empty cursor means the first page.
// If there is no such account, the error is [ErrNotFound].
func (s *Store) Takedowns(ctx context.Context, did syntax.DID, cursor string, limit int) (list []TakenDownPart, next string, err error) {
	rng := storage.Prefix(takedownPrefix)
	if cursor != "" {
		rng.From = max(rng.From, takedownPrefix+cursor+"\x00")
	}
	err = s.View(ctx, Trusted(did), func(_ Account, r storage.KVReader) error {
		last := ""
		for pair, err := range r.Keys(ctx, rng) {
			if err != nil {
				return err
			}
			if len(list) == limit {
				next = last
				break
			}
			last = strings.TrimPrefix(pair.Key, takedownPrefix)
			part := TakenDownPart{Ref: string(pair.Value)}
			kind, name, _ := strings.Cut(last, "/")
			if kind == "record" {
				part.Path = name
			} else if part.Blob, err = cid.Decode(name); err != nil {
				return err
			}
			list = append(list, part)
		}
		return nil
	})
	return list, next, err
}

// Statuses has the number of accounts of each status.
type Statuses map[Status]int

// CountStatuses counts up to limit accounts whose DIDs are greater than after, and adds them to
// into. It returns the last DID that it counted, or "" at the end. It reads each of these accounts.
func (s *Store) CountStatuses(ctx context.Context, into Statuses, after syntax.DID, limit int) (last syntax.DID, err error) {
	n := 0
	for a, err := range s.after(ctx, after) {
		if err != nil {
			return "", err
		}
		into[a.Status()]++
		if n++; n == limit {
			return a.DID, nil
		}
	}
	return "", nil
}
