package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// Mount registers the public methods of com.atproto.sync: subscribeRepos, listRepos, listHosts,
// getHostStatus, getRepoStatus, getLatestCommit, getRepo (which redirects to the account's host),
// requestCrawl and, unless NoCollections is set, listReposByCollection. The server's Catalog
// validates their parameters.
func (r *Relay) Mount(s *xrpc.Server) {
	r.setUp()
	s.Handle(
		xrpc.Route{NSID: api.SyncSubscribeReposNSID, Handler: xrpc.Subscription(http.HandlerFunc(r.subscribe))},
		xrpc.Route{NSID: api.SyncListReposNSID, Handler: xrpc.Query(r.listRepos)},
		xrpc.Route{NSID: api.SyncListHostsNSID, Handler: xrpc.Query(r.listHosts)},
		xrpc.Route{NSID: api.SyncGetHostStatusNSID, Handler: xrpc.Query(r.getHostStatus)},
		xrpc.Route{NSID: api.SyncGetRepoStatusNSID, Handler: xrpc.Query(r.getRepoStatus)},
		xrpc.Route{NSID: api.SyncGetLatestCommitNSID, Handler: xrpc.Query(r.getLatestCommit)},
		xrpc.Route{NSID: api.SyncGetRepoNSID, Handler: xrpc.RawQuery(r.getRepo)},
		xrpc.Route{NSID: api.SyncRequestCrawlNSID, Handler: xrpc.Procedure(r.requestCrawl)},
	)
	if !r.NoCollections {
		s.Handle(xrpc.Route{NSID: api.SyncListReposByCollectionNSID, Handler: xrpc.Query(r.listReposByCollection)})
	}
}

// subscribe serves the stream, and says which relays it comes through.
func (r *Relay) subscribe(w http.ResponseWriter, req *http.Request) {
	if err := r.load(req.Context()); err != nil {
		xrpc.WriteError(w, err)
		return
	}
	w.Header().Set("Server", serverName)
	w.Header().Set(pathHeader, r.path())
	r.outbox.ServeHTTP(w, req)
}

// Account is the relay's state of an account.
type Account struct {
	DID syntax.DID
	// Head is the last commit; zero: none is known.
	Head storage.Head
	// Host is the server that has the account, as last known.
	Host string
	// Status is the reason why nothing of the account is passed on: "takendown", "suspended",
	// "deleted", "deactivated", "desynchronized", "throttled", or another word of its host. Empty:
	// it is active.
	Status string
	// Upstream is the status at its host; empty: active.
	Upstream string
	// TakenDown is set for an account that this relay has taken down.
	TakenDown bool
}

// Account returns the state of an account, or ErrNoAccount.
func (r *Relay) Account(ctx context.Context, did syntax.DID) (Account, error) {
	if err := r.load(ctx); err != nil {
		return Account{}, err
	}
	a, err := r.account(ctx, did)
	if err != nil {
		return Account{}, err
	}
	if !a.exists && a.tombstone == nil {
		return Account{}, fmt.Errorf("%w: %.300s", ErrNoAccount, did)
	}
	return a.public(), nil
}

func (a *account) public() Account {
	out := Account{DID: a.did, Head: a.head, Host: a.state.Host, Upstream: a.state.Upstream, Status: a.status()}
	out.TakenDown = a.tombstone != nil && a.tombstone.Local
	return out
}

// status is why nothing of an account is passed on.
func (a *account) status() string {
	switch {
	case a.tombstone != nil:
		return a.tombstone.Status
	case a.state.Upstream != "":
		return a.state.Upstream
	case a.state.Throttled:
		return "throttled"
	case a.state.Desync:
		return "desynchronized"
	}
	return ""
}

// accountMessage tells the status of an account.
func accountMessage(a *account, r *Relay) *commit.Account {
	status := a.status()
	if status == "desynchronized" { // for a moment
		status = ""
	}
	return &commit.Account{DID: a.did, Active: status == "", Status: status, Time: r.Now()}
}

// Accounts returns up to limit accounts of a host with DIDs greater than after, in DID order.
func (r *Relay) Accounts(ctx context.Context, hostname string, after syntax.DID, limit int) (list []Account, err error) {
	h, err := r.known(ctx, hostname)
	if err != nil {
		return nil, err
	}
	page, err := r.ledger.page(ctx, keyMember+h.name+"/", string(after), limit)
	if err != nil {
		return nil, err
	}
	for _, pair := range page {
		a, err := r.account(ctx, syntax.DID(pair.Key))
		if err != nil {
			return nil, err
		}
		list = append(list, a.public())
	}
	return list, nil
}

// Repair fetches an account's head from its host and compares it, even if nothing seems wrong.
func (r *Relay) Repair(ctx context.Context, did syntax.DID) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	for {
		a, err := r.account(ctx, did)
		if err != nil {
			return err
		}
		if !a.exists || a.tombstone != nil {
			return fmt.Errorf("%w: %.300s", ErrNoAccount, did)
		}
		c := r.change(a)
		c.to.state.Desync = true
		if err := c.apply(ctx); changed(err) {
			continue
		} else if err != nil {
			return err
		}
		r.lookAt(did, a.state.Host)
		return nil
	}
}

// Pages of the methods.
const (
	reposPage, reposMost             = 500, 1000
	hostsPage, hostsMost             = 200, 1000
	collectionsPage, collectionsMost = 500, 2000
)

// looksPerPage is how many accounts are examined for one page, which may then be shorter than its
// limit. Some callers take an empty page for the end, so before an empty page more accounts are
// examined.
const (
	looksPerPage   = 10_000
	looksForNought = 5 * looksPerPage
)

// scannedEnough reports whether so many looks are enough for a page that has n accounts so far.
func scannedEnough(looks, n int) bool { return looks > looksForNought || n > 0 && looks > looksPerPage }

// pageLimit is the length of a page that a caller asked for (0: it did not).
func pageLimit(asked int64, fallback, most int) (int, error) {
	switch {
	case asked == 0:
		return fallback, nil
	case asked < 1 || asked > int64(most):
		return 0, xrpc.InvalidRequest("limit must be from 1 to %d", most)
	}
	return int(asked), nil
}

// didCursor reads a cursor that is a DID.
func didCursor(text string) (syntax.DID, error) {
	if text == "" {
		return "", nil
	}
	did, err := syntax.ParseDID(text)
	if err != nil {
		return "", xrpc.InvalidRequest("Malformed cursor")
	}
	return did, nil
}

func (r *Relay) listRepos(ctx context.Context, _ *xrpc.Request, p api.SyncListReposParams) (out api.SyncListReposOutput, err error) {
	limit, err := pageLimit(p.Limit, reposPage, reposMost)
	if err != nil {
		return out, err
	}
	after, err := didCursor(p.Cursor)
	if err != nil {
		return out, err
	}
	if err := r.load(ctx); err != nil {
		return out, err
	}
	out.Repos = make([]api.SyncListReposRepo, 0, limit)
	looked := 0
	var last syntax.DID
	for info, err := range r.Store.Repos.List(ctx, after) {
		if err != nil {
			return out, err
		}
		if looked++; scannedEnough(looked, len(out.Repos)) {
			out.Cursor = string(last)
			break
		}
		last = info.DID
		if info.Head.Rev == "" {
			continue // nothing of it was passed on, or it is gone
		}
		a, err := r.account(ctx, info.DID)
		if err != nil {
			return out, err
		}
		if a.tombstone != nil || a.head.Rev == "" {
			continue
		}
		status := a.status()
		active := status == ""
		out.Repos = append(out.Repos, api.SyncListReposRepo{DID: a.did, Head: syntax.CID(a.head.Commit.String()), Rev: a.head.Rev, Active: &active, Status: status})
		if len(out.Repos) == limit {
			out.Cursor = string(a.did)
			break
		}
	}
	return out, nil
}

func (r *Relay) listHosts(ctx context.Context, _ *xrpc.Request, p api.SyncListHostsParams) (out api.SyncListHostsOutput, err error) {
	limit, err := pageLimit(p.Limit, hostsPage, hostsMost)
	if err != nil {
		return out, err
	}
	out.Hosts = make([]api.SyncListHostsHost, 0, limit)
	for after := p.Cursor; ; {
		list, err := r.Hosts(ctx, after, hostsMost)
		if err != nil {
			return out, err
		}
		for _, h := range list {
			after = h.Name
			if h.Seq == 0 {
				continue // never heard
			}
			out.Hosts = append(out.Hosts, api.SyncListHostsHost{Hostname: h.Name, AccountCount: &h.Accounts, Seq: &h.Seq, Status: string(h.Status)})
			if len(out.Hosts) == limit {
				out.Cursor = after
				return out, nil
			}
		}
		if len(list) < hostsMost {
			return out, nil
		}
	}
}

func (r *Relay) getHostStatus(ctx context.Context, _ *xrpc.Request, p api.SyncGetHostStatusParams) (out api.SyncGetHostStatusOutput, err error) {
	h, err := r.Host(ctx, p.Hostname)
	if errors.Is(err, ErrNoHost) {
		return out, &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorHostNotFound, Message: "Host not found"}
	} else if err != nil {
		return out, err
	}
	out = api.SyncGetHostStatusOutput{Hostname: h.Name, AccountCount: &h.Accounts, Status: string(h.Status)}
	if h.Seq > 0 {
		out.Seq = &h.Seq
	}
	return out, nil
}

// errNoRepo is the answer for an account that the relay knows nothing of.
func errNoRepo(did syntax.DID) error {
	return &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorRepoNotFound, Message: fmt.Sprintf("Could not find repo for DID: %s", did)}
}

func (r *Relay) getRepoStatus(ctx context.Context, _ *xrpc.Request, p api.SyncGetRepoStatusParams) (out api.SyncGetRepoStatusOutput, err error) {
	a, err := r.Account(ctx, p.DID)
	if errors.Is(err, ErrNoAccount) {
		return out, errNoRepo(p.DID)
	} else if err != nil {
		return out, err
	}
	out = api.SyncGetRepoStatusOutput{DID: a.DID, Active: a.Status == "", Status: a.Status}
	if out.Active {
		out.Rev = a.Head.Rev
	}
	return out, nil
}

// refusals are the errors of getLatestCommit, by status.
var refusals = map[string]string{
	"takendown": api.ErrorRepoTakendown, "suspended": api.ErrorRepoSuspended, "deactivated": api.ErrorRepoDeactivated, commit.Deleted: "RepoDeleted",
	"desynchronized": "RepoNotSynchronized",
}

func (r *Relay) getLatestCommit(ctx context.Context, _ *xrpc.Request, p api.SyncGetLatestCommitParams) (out api.SyncGetLatestCommitOutput, err error) {
	a, err := r.Account(ctx, p.DID)
	switch {
	case errors.Is(err, ErrNoAccount):
		return out, errNoRepo(p.DID)
	case err != nil:
		return out, err
	case a.Status != "":
		name := refusals[a.Status]
		if name == "" {
			name = "RepoInactive"
		}
		return out, &xrpc.Error{Status: http.StatusBadRequest, Name: name, Message: fmt.Sprintf("Repo is %s: %s", a.Status, p.DID)}
	case a.Head.Rev == "":
		return out, &xrpc.Error{Status: http.StatusBadRequest, Name: "RepoNotSynchronized", Message: fmt.Sprintf("No commit is known of: %s", p.DID)}
	}
	return api.SyncGetLatestCommitOutput{CID: syntax.CID(a.Head.Commit.String()), Rev: a.Head.Rev}, nil
}

// getRepo leads to the account's host: the relay has no records.
func (r *Relay) getRepo(w http.ResponseWriter, req *xrpc.Request, p api.SyncGetRepoParams) error {
	a, err := r.Account(req.Context(), p.DID)
	switch {
	case errors.Is(err, ErrNoAccount):
		return errNoRepo(p.DID)
	case err != nil:
		return err
	case a.TakenDown:
		return &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorRepoTakendown, Message: fmt.Sprintf("Repo has been takendown: %s", p.DID)}
	}
	w2, err := r.resolve(req.Context(), p.DID, nil)
	if err != nil {
		if a.Host == "" {
			return errNoRepo(p.DID)
		}
		w2 = &accountIdentity{host: a.Host}
	}
	u, err := url.Parse(r.url(w2.host) + api.SyncGetRepoNSID)
	if err != nil || w2.host == "" {
		return errNoRepo(p.DID)
	}
	u.RawQuery = req.URL.RawQuery
	http.Redirect(w, req.Request, u.String(), http.StatusFound)
	return nil
}

func (r *Relay) requestCrawl(ctx context.Context, req *xrpc.Request, in api.SyncRequestCrawlInput) (xrpc.None, error) {
	if r.Closed {
		return xrpc.None{}, &xrpc.Error{Status: http.StatusForbidden, Name: "Forbidden", Message: "This relay takes no requests"}
	}
	err := r.RequestCrawl(limit.WithClient(ctx, limit.From(req.Request)), in.Hostname)
	switch {
	case err == nil:
		r.forward(req.Request.Header, in.Hostname)
	case errors.Is(err, ErrBanned), errors.Is(err, ErrLoop):
		err = &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorHostBanned, Message: "The host is banned"}
	case errors.Is(err, ErrHostname):
		err = xrpc.InvalidRequest("The hostname is not a public DNS name. (For hosts on this machine and in private networks, the relay must be one for development.)")
	case errors.Is(err, ErrNoServer):
		err = &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorHostNotFound, Message: "The host does not answer as a PDS"}
	case errors.Is(err, ErrTooMany):
		err = &xrpc.Error{Status: http.StatusTooManyRequests, Name: "RateLimitExceeded", Message: "Too many new hosts today"}
	}
	return xrpc.None{}, err
}

func (r *Relay) listReposByCollection(ctx context.Context, _ *xrpc.Request, p api.SyncListReposByCollectionParams) (out api.SyncListReposByCollectionOutput, err error) {
	limit, err := pageLimit(p.Limit, collectionsPage, collectionsMost)
	if err != nil {
		return out, err
	}
	after, err := didCursor(p.Cursor)
	if err != nil {
		return out, err
	}
	if _, err := syntax.ParseNSID(string(p.Collection)); err != nil {
		return out, xrpc.InvalidRequest("The collection is not valid")
	}
	if err := r.load(ctx); err != nil {
		return out, err
	}
	out.Repos = make([]api.SyncListReposByCollectionRepo, 0, limit)
	for looked := 0; ; {
		if scannedEnough(looked, len(out.Repos)) {
			out.Cursor = string(after)
			return out, nil
		}
		page, err := r.ledger.page(ctx, keyCollection+string(p.Collection)+"/", string(after), limit)
		if err != nil {
			return out, err
		}
		for _, pair := range page {
			looked++
			after = syntax.DID(pair.Key)
			a, err := r.account(ctx, after)
			if err != nil {
				return out, err
			}
			if !a.collections[p.Collection] || a.tombstone != nil || a.state.Upstream != "" || a.state.Throttled {
				continue
			}
			if out.Repos = append(out.Repos, api.SyncListReposByCollectionRepo{DID: after}); len(out.Repos) == limit {
				out.Cursor = string(after)
				return out, nil
			}
		}
		if len(page) < limit {
			return out, nil
		}
	}
}
