package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// writeTimeout bounds the time for a write at somebody's server.
const writeTimeout = 30 * time.Second

// post writes a status into the repository of the account that is signed in.
func (s *Server) post(c *call) error {
	text := strings.TrimSpace(c.form.Get("status"))
	if other := strings.TrimSpace(c.form.Get("other")); text == "" {
		text = other
	}
	now := s.cfg.Now()
	record, err := s.cfg.Type.Record(text, now)
	if err != nil {
		return &refusal{http.StatusUnprocessableEntity, "A status is one emoji, or one other character."}
	}
	raw, err := data.MarshalJSON(record)
	if err != nil {
		return err
	}
	return s.write(c, func(ctx context.Context, did syntax.DID, pds *xrpc.Client) error {
		out, err := api.RepoCreateRecord(ctx, pds, api.RepoCreateRecordInput{Repo: syntax.AtIdentifier(did), Collection: status.Collection, Record: raw})
		if err != nil {
			return err
		}
		_, rkey, err := path(did, string(out.URI))
		if err != nil {
			return err
		}
		// The page that comes next has it already; when the stream says it, it is there.
		written := status.Status{Text: text, Created: now}
		return s.cfg.Index.Wrote(ctx, did, revision(out.Commit, now), index.Op{RKey: rkey, CID: string(out.CID), Status: &written})
	})
}

// remove deletes a status of the account that is signed in.
func (s *Server) remove(c *call) error {
	return s.write(c, func(ctx context.Context, did syntax.DID, pds *xrpc.Client) error {
		_, rkey, err := path(did, c.form.Get("uri"))
		if err != nil {
			return &refusal{http.StatusForbidden, "That status is not yours."}
		}
		out, err := api.RepoDeleteRecord(ctx, pds, api.RepoDeleteRecordInput{Repo: syntax.AtIdentifier(did), Collection: status.Collection, RKey: rkey})
		if err != nil {
			return err
		}
		return s.cfg.Index.Wrote(ctx, did, revision(out.Commit, s.cfg.Now()), index.Op{RKey: rkey})
	})
}

// revision is that of a write. Of servers that do not tell it, or tell one of the future, which
// would keep the row from ever being changed, it is now.
func revision(m *api.RepoCommitMeta, now time.Time) syntax.TID {
	if m == nil || commit.Ahead(m.Rev, now, 0) > 0 {
		return syntax.NewTID(now, 0)
	}
	return m.Rev
}

// path takes the AT-URI of a status apart, which must be an account's.
func path(did syntax.DID, uri string) (syntax.NSID, syntax.RecordKey, error) {
	rest, ok := strings.CutPrefix(uri, "at://"+string(did)+"/")
	if !ok {
		return "", "", errors.New("not an address in the account's repository")
	}
	collection, rkey, err := syntax.ParsePath(rest)
	if err == nil && collection != status.Collection {
		err = errors.New("not the address of a status")
	}
	return collection, rkey, err
}

// write does something as the account that is signed in.
func (s *Server) write(c *call, do func(ctx context.Context, did syntax.DID, pds *xrpc.Client) error) error {
	id := c.visitor.session()
	if id == "" {
		return &refusal{http.StatusForbidden, "Sign in first."}
	}
	// Somebody who closes the page in this moment has pressed the button all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), writeTimeout)
	defer cancel()
	session, err := s.cfg.OAuth.Resume(ctx, id)
	if err == nil {
		err = do(ctx, id.DID(), session.Client())
	}
	var xerr *xrpc.Error
	var refused *refusal
	switch {
	case err == nil:
		return s.toHome(c)
	case errors.As(err, &refused):
		return err
	case errors.Is(err, client.ErrSessionEnded), errors.Is(err, client.ErrKey):
		c.visitor = c.visitor.without(id)
		s.setVisitor(c.w, c.visitor)
		return &refusal{http.StatusForbidden, "Your sign-in has ended. Please sign in again."}
	case errors.As(err, &xerr):
		s.cfg.Log.Info("a server refused to write", "did", id.DID(), "error", err)
		return &refusal{http.StatusBadGateway, "Your server did not accept this."}
	}
	s.cfg.Log.Info("a server could not be asked to write", "did", id.DID(), "error", err)
	return &refusal{http.StatusBadGateway, "Your server does not answer. Look whether it is there before you try again."}
}
