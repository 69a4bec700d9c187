package readafter

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

const (
	postCollection = "app.bsky.feed.post"
	profilePath    = "app.bsky.actor.profile/self"
)

// Limits on what is read of a repository, however far an AppView is behind.
const (
	maxPosts   = 50        // newest by record key
	maxBytes   = 256 << 10 // of their records together; a post that does not fit, and older ones, are not shown
	maxProfile = 32 << 10  // of the profile's record, which views repeat; a longer one is not shown
	maxKeys    = 1000      // to find a record that the AppView knows
)

// local is what an account has that an AppView has not seen.
type local struct {
	DID    syntax.DID
	Handle syntax.Handle
	// Profile is the account's profile, changed or not; nil if there is none.
	Profile *profile
	// ProfileChanged is when it was changed since; zero: it was not changed.
	ProfileChanged time.Time
	// Posts are those written since, oldest first.
	Posts []*post
}

// profile is what views show of a profile record.
type profile struct {
	DisplayName string     `json:"displayName"`
	Description string     `json:"description"`
	Pronouns    string     `json:"pronouns"`
	Website     string     `json:"website"`
	Avatar      *data.Blob `json:"avatar"`
	Banner      *data.Blob `json:"banner"`
	PinnedPost  *ref       `json:"pinnedPost"`
}

// ref is a strong reference to a record.
type ref struct {
	URI string `json:"uri"`
	CID string `json:"cid"`
}

// post is a post with what is needed to show it.
type post struct {
	URI, CID string
	Time     time.Time
	JSON     json.RawMessage // the record
	Fields   postFields
}

// postFields are the fields of a post record that decide where and how it is shown.
type postFields struct {
	Reply *struct {
		Root   ref `json:"root"`
		Parent ref `json:"parent"`
	} `json:"reply"`
	Embed data.Object `json:"embed"`
}

// parent is the URI of the post that a post replies to, or "".
func (p *post) parent() string {
	if p.Fields.Reply == nil {
		return ""
	}
	return p.Fields.Reply.Parent.URI
}

// load reads what an account has written after a revision: its profile, and those
// posts that are among the newest by record key, which, since clients make keys from
// the clock, are those that are new. So it costs the same in a repository of any
// size. It returns nil if there is nothing, or if the AppView knows no record that is
// here: then it has not seen that the account has moved, and how far it is behind means nothing.
func load(ctx context.Context, r storage.Reader, did syntax.DID, rev syntax.TID) (*local, error) {
	l := &local{DID: did}
	seen := false // a record that the AppView knows
	switch rec, err := r.Record(ctx, profilePath); {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return nil, err
	default:
		var p profile
		if len(rec.Data) <= maxProfile && data.Unmarshal(rec.Data, &p) == nil {
			l.Profile = &p
			if rec.Rev > rev {
				l.ProfileChanged = rec.Rev.Time()
			}
		}
		seen = rec.Rev <= rev
	}
	n, size := 0, 0
	posts := storage.Prefix(postCollection + "/")
	posts.Reverse = true
	for rec, err := range r.Records(ctx, posts) {
		if err != nil {
			return nil, err
		}
		size += len(rec.Data)
		if rec.Rev <= rev {
			seen = true
		} else if size > maxBytes {
			break
		} else if p, ok := newPost(did, rec); ok {
			l.Posts = append(l.Posts, p)
		}
		if n++; n == maxPosts {
			break
		}
	}
	if l.Posts == nil && l.ProfileChanged.IsZero() {
		return nil, nil
	}
	if !seen {
		if known, err := knows(ctx, r, rev); err != nil || !known {
			return nil, err
		}
	}
	slices.SortFunc(l.Posts, func(a, b *post) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.URI, b.URI)
	})
	return l, nil
}

// knows reports whether one of the first records was there at a revision.
func knows(ctx context.Context, r storage.Reader, rev syntax.TID) (bool, error) {
	n := 0
	for rec, err := range r.Records(ctx, storage.Range{KeysOnly: true}) {
		if err != nil {
			return false, err
		}
		if rec.Rev <= rev {
			return true, nil
		}
		if n++; n == maxKeys {
			break
		}
	}
	return false, nil
}

// newPost reads a record. One that is no post, which is possible without validation, is never shown
// by an AppView, nor here.
func newPost(did syntax.DID, rec storage.Record) (*post, bool) {
	p := &post{URI: "at://" + string(did) + "/" + rec.Path, CID: rec.CID.String(), Time: rec.Rev.Time()}
	if err := data.Unmarshal(rec.Data, &p.Fields); err != nil {
		return nil, false
	}
	var err error
	p.JSON, err = data.AppendJSON(nil, rec.Data)
	return p, err == nil
}

// lag is how long ago the oldest change was made.
func (l *local) lag(now time.Time) time.Duration {
	oldest := l.ProfileChanged
	if len(l.Posts) > 0 && (oldest.IsZero() || l.Posts[0].Time.Before(oldest)) {
		oldest = l.Posts[0].Time
	}
	return max(now.Sub(oldest), 0)
}
