package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
)

// directory answers package atproto's questions about accounts and the network.
type directory struct{ *Server }

var _ interface {
	atproto.Directory
	atproto.SnapshotAccounts
	atproto.Documents
	atproto.Handles
} = directory{}

// asSeen is what package atproto needs of an account.
func asSeen(a account.Account) atproto.Account {
	return atproto.Account{DID: a.DID, Handle: a.Handle, Created: a.Created, Status: atproto.Status(a.Status()), Moderated: a.Moderated}
}

// hosted is asSeen with the error that package atproto knows.
func hosted(a account.Account, err error) (atproto.Account, error) {
	if errors.Is(err, account.ErrNotFound) {
		err = fmt.Errorf("%w: %w", atproto.ErrNoAccount, err)
	}
	return asSeen(a), err
}

func (d directory) Account(ctx context.Context, id syntax.AtIdentifier) (atproto.Account, error) {
	return hosted(d.accounts.Account(ctx, id))
}

func (d directory) AccountIn(ctx context.Context, r storage.Reader) (atproto.Account, error) {
	return hosted(d.accounts.AccountIn(ctx, r))
}

func (d directory) ListAccounts(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) ([]atproto.Account, error) {
	page, err := d.accounts.ListAccounts(ctx, after, afterDID, limit)
	list := make([]atproto.Account, len(page))
	for i, a := range page {
		list[i] = asSeen(a)
	}
	return list, err
}

// Document returns an account's DID document and the handle that it claims.
func (d directory) Document(ctx context.Context, did syntax.DID) ([]byte, syntax.Handle, error) {
	doc, err := d.resolver.ResolveDID(ctx, did)
	if err != nil {
		return nil, "", err
	}
	text, err := json.Marshal(doc)
	handle, _ := doc.Handle()
	return text, handle, err
}

// ResolveHandle asks the network, but not about the server's own domains, where
// it knows all there is.
func (d directory) ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	if _, own := d.serviceLabel(h); own {
		return "", atproto.ErrNoAccount
	}
	return d.resolver.ResolveHandle(ctx, h)
}

// atprotoDID answers which account has the handle that is the host name of the
// request (Handle specification, HTTPS well-known Method).
func (s *Server) atprotoDID(w http.ResponseWriter, r *http.Request) {
	if xrpc.CORS(w, r) {
		return
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := s.accounts.Account(r.Context(), syntax.AtIdentifier(syntax.Handle(host).Normalize()))
	switch {
	case errors.Is(err, account.ErrNotFound) || err == nil && a.Status() != account.Active:
		http.Error(w, "User not found", http.StatusNotFound)
	case err != nil:
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, a.DID)
	}
}
