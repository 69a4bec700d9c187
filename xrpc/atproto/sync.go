package atproto

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// carType is the media type of CAR files.
const carType = "application/vnd.ipld.car"

// available is an account whose repository may be read by the caller: an active
// one, or any that is the caller's own or an administrator's business.
func (s *Service) available(ctx context.Context, r *xrpc.Request, id syntax.AtIdentifier) (Account, error) {
	acct, err := s.Accounts.Account(ctx, id)
	if err != nil {
		if errors.Is(err, ErrNoAccount) {
			err = &xrpc.Error{Status: 400, Name: api.ErrorRepoNotFound, Message: fmt.Sprintf("Could not find repo for DID: %s", id)}
		}
		return acct, err
	}
	if p := r.Principal; p.Role == auth.Administrator || p.IsUser(acct.DID) {
		return acct, nil
	}
	switch acct.Status {
	case Active:
		return acct, nil
	case Deactivated:
		return acct, &xrpc.Error{Status: 400, Name: api.ErrorRepoDeactivated, Message: fmt.Sprintf("Repo has been deactivated: %s", id)}
	case Suspended:
		return acct, &xrpc.Error{Status: 400, Name: api.ErrorRepoSuspended, Message: fmt.Sprintf("Repo has been suspended: %s", id)}
	default:
		return acct, &xrpc.Error{Status: 400, Name: api.ErrorRepoTakendown, Message: fmt.Sprintf("Repo has been takendown: %s", id)}
	}
}

func (s *Service) getRepo(w http.ResponseWriter, r *xrpc.Request, p api.SyncGetRepoParams) error {
	acct, err := s.available(r.Context(), r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", carType)
	err = s.Host.Export(r.Context(), acct.DID, p.Since, w)
	if errors.Is(err, repo.ErrRepoNotFound) {
		return xrpc.InvalidRequest("Could not find repo for DID: %s", p.DID)
	}
	return err
}

func (s *Service) getRecordProof(w http.ResponseWriter, r *xrpc.Request, p api.SyncGetRecordParams) error {
	acct, err := s.available(r.Context(), r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return err
	}
	root, blocks, err := s.Host.Proof(r.Context(), acct.DID, p.Collection, p.RKey)
	if errors.Is(err, repo.ErrRepoNotFound) {
		return xrpc.InvalidRequest("Could not find repo for DID: %s", p.DID)
	} else if err != nil {
		return err
	}
	return writeCAR(w, blocks, root)
}

// maxBlocks is how many blocks one call of getBlocks may ask for.
const maxBlocks = 1000

// getBlocks answers with each block once, as it is read.
func (s *Service) getBlocks(w http.ResponseWriter, r *xrpc.Request, p api.SyncGetBlocksParams) error {
	acct, err := s.available(r.Context(), r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return err
	}
	if len(p.CIDs) > maxBlocks {
		return xrpc.InvalidRequest("Too many cids. Max: %d", maxBlocks)
	}
	wanted := make([]cid.Cid, len(p.CIDs))
	for i, c := range p.CIDs {
		if wanted[i], err = parseCID(c); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", carType)
	missing, err := s.Host.ExportBlocks(r.Context(), acct.DID, wanted, w)
	if errors.Is(err, repo.ErrRepoNotFound) { // deleted meanwhile
		return xrpc.InvalidRequest("Could not find repo for DID: %s", p.DID)
	} else if err != nil {
		return err
	}
	if len(missing) > 0 {
		names := make([]string, len(missing))
		for i, c := range missing {
			names[i] = c.String()
		}
		return xrpc.InvalidRequest("Could not find cids: %s", strings.Join(names, ","))
	}
	return nil
}

// writeCAR answers with a CAR file of a few blocks.
func writeCAR(w http.ResponseWriter, blocks []car.Block, roots ...cid.Cid) error {
	w.Header().Set("Content-Type", carType)
	out, err := car.NewWriter(w, roots...)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		if err := out.Write(b); err != nil {
			return err
		}
	}
	return out.Flush()
}

func (s *Service) getBlob(w http.ResponseWriter, r *xrpc.Request, p api.SyncGetBlobParams) error {
	acct, err := s.available(r.Context(), r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return err
	}
	c, err := parseCID(p.CID)
	if err != nil {
		return err
	}
	if acct.Moderated && s.Takedowns != nil && r.Principal.Role != auth.Administrator {
		if hidden, err := s.Takedowns.HiddenBlob(r.Context(), acct.DID, c); err != nil {
			return err
		} else if hidden {
			return xrpc.InvalidRequest("Blob not found")
		}
	}
	blob, info, err := s.Host.OpenBlob(r.Context(), acct.DID, c)
	if errors.Is(err, repo.ErrBlobNotFound) {
		return xrpc.InvalidRequest("Blob not found")
	} else if err != nil {
		return err
	}
	defer blob.Close()
	if s.BlobURL != nil {
		url, err := s.BlobURL(r.Context(), acct.DID, c)
		if err != nil {
			return err
		}
		if url != "" {
			w.Header().Set("Cache-Control", "no-store") // the address is good for a short time
			http.Redirect(w, r.Request, url, http.StatusFound)
			return nil
		}
	}
	// Nothing that a user uploaded may run, or be rendered, in the host's origin.
	h := w.Header()
	h.Set("Content-Type", info.MIME)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s"`, info.CID))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("ETag", `"`+info.CID.String()+`"`)
	http.ServeContent(w, r.Request, "", time.Time{}, readSeeker{blob})
	return nil
}

// readSeeker hides all other methods of a blob from http.ServeContent.
type readSeeker struct{ io.ReadSeeker }

func (s *Service) listBlobs(ctx context.Context, r *xrpc.Request, p api.SyncListBlobsParams) (out api.SyncListBlobsOutput, err error) {
	acct, err := s.available(ctx, r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return out, err
	}
	after, err := parseCID(p.Cursor)
	if err != nil {
		return out, xrpc.InvalidRequest("Malformed cursor")
	}
	limit, err := pageLimit(p.Limit, 500, 1000)
	if err != nil {
		return out, err
	}
	refs, next, err := s.Host.Blobs(ctx, acct.DID, after, p.Since, limit)
	if err != nil {
		return out, err
	}
	out.CIDs = make([]syntax.CID, len(refs))
	for i, c := range refs {
		out.Cursor = c.String()
		out.CIDs[i] = syntax.CID(out.Cursor)
	}
	if next.Defined() {
		out.Cursor = next.String()
	}
	return out, nil
}

func (s *Service) getLatestCommit(ctx context.Context, r *xrpc.Request, p api.SyncGetLatestCommitParams) (out api.SyncGetLatestCommitOutput, err error) {
	acct, err := s.available(ctx, r, syntax.AtIdentifier(p.DID))
	if err != nil {
		return out, err
	}
	head, err := s.Host.Head(ctx, acct.DID)
	if errors.Is(err, repo.ErrRepoNotFound) {
		return out, &xrpc.Error{Status: 400, Name: api.ErrorRepoNotFound, Message: fmt.Sprintf("Could not find root for DID: %s", p.DID)}
	}
	return api.SyncGetLatestCommitOutput{CID: syntax.CID(head.Commit.String()), Rev: head.Rev}, err
}

// getHead is the deprecated form of getLatestCommit.
func (s *Service) getHead(ctx context.Context, r *xrpc.Request, p api.SyncGetHeadParams) (out api.SyncGetHeadOutput, err error) {
	latest, err := s.getLatestCommit(ctx, r, api.SyncGetLatestCommitParams(p))
	if errors.Is(err, &xrpc.Error{Name: api.ErrorRepoNotFound}) {
		err = &xrpc.Error{Status: 400, Name: api.ErrorHeadNotFound, Message: fmt.Sprintf("Could not find root for DID: %s", p.DID)}
	}
	return api.SyncGetHeadOutput{Root: latest.CID}, err
}

// getCheckout is the deprecated form of getRepo.
func (s *Service) getCheckout(w http.ResponseWriter, r *xrpc.Request, p api.SyncGetCheckoutParams) error {
	return s.getRepo(w, r, api.SyncGetRepoParams{DID: p.DID})
}

func (s *Service) getRepoStatus(ctx context.Context, r *xrpc.Request, p api.SyncGetRepoStatusParams) (out api.SyncGetRepoStatusOutput, err error) {
	acct, err := s.Accounts.Account(ctx, syntax.AtIdentifier(p.DID))
	if errors.Is(err, ErrNoAccount) {
		return out, &xrpc.Error{Status: 400, Name: api.ErrorRepoNotFound, Message: fmt.Sprintf("Could not find repo for DID: %s", p.DID)}
	} else if err != nil {
		return out, err
	}
	out = api.SyncGetRepoStatusOutput{DID: acct.DID, Active: acct.Status == Active, Status: string(acct.Status)}
	if out.Active {
		head, err := s.Host.Head(ctx, acct.DID)
		if err != nil {
			return out, err
		}
		out.Rev = head.Rev
	}
	return out, nil
}

func (s *Service) listRepos(ctx context.Context, r *xrpc.Request, p api.SyncListReposParams) (out api.SyncListReposOutput, err error) {
	after, afterDID, err := parseRepoCursor(p.Cursor)
	if err != nil {
		return out, err
	}
	limit, err := pageLimit(p.Limit, 500, 1000)
	if err != nil {
		return out, err
	}
	accounts, err := s.accountsAfter(ctx, after, afterDID, limit)
	if err != nil {
		return out, err
	}
	out.Repos = make([]api.SyncListReposRepo, 0, len(accounts))
	for _, acct := range accounts {
		out.Cursor = repoCursor(acct)
		head, err := s.Host.Head(ctx, acct.DID)
		if errors.Is(err, repo.ErrRepoNotFound) {
			continue // deleted meanwhile
		} else if err != nil {
			return out, err
		}
		out.Repos = append(out.Repos, api.SyncListReposRepo{
			DID: acct.DID, Head: syntax.CID(head.Commit.String()), Rev: head.Rev, Active: new(acct.Status == Active), Status: string(acct.Status),
		})
	}
	return out, nil
}

// maxSkip bounds how many accounts are read because Accounts returns those before a position again.
const maxSkip = 1 << 16

// accountsAfter returns a page of accounts. Whatever Accounts makes of a position, the page has
// only accounts after it, so that each account is listed once and a list comes to its end. One that
// starts again from the first account, as it may where it takes a zero time for the start, is read
// past the position.
func (s *Service) accountsAfter(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) ([]Account, error) {
	for n := limit; ; n *= 2 {
		list, err := s.Accounts.ListAccounts(ctx, after, afterDID, n)
		if err != nil || afterDID == "" {
			return list, err
		}
		ended := len(list) < n
		list = slices.DeleteFunc(list, func(a Account) bool {
			// A directory may tell times apart by the millisecond only.
			did := strings.Compare(string(a.DID), string(afterDID))
			return cmp.Or(a.Created.Compare(after), did) <= 0 && cmp.Or(cmp.Compare(a.Created.UnixMilli(), after.UnixMilli()), did) <= 0
		})
		switch {
		case len(list) > 0 || ended:
			return list[:min(len(list), limit)], nil
		case n > maxSkip:
			return nil, fmt.Errorf("atproto: ListAccounts does not get past the account %s, created %s", afterDID, after)
		}
	}
}

// repoCursor is the position of an account in the list of repositories: "<milliseconds>::<did>",
// with a fraction where the time has one.
func repoCursor(a Account) string {
	ms := a.Created.UnixMilli()
	fraction := ""
	if ns := a.Created.Sub(time.UnixMilli(ms)).Nanoseconds(); ns != 0 {
		fraction = fmt.Sprintf(".%06d", ns)
	}
	return fmt.Sprintf("%d%s::%s", ms, fraction, a.DID)
}

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

// parseRepoCursor reads what repoCursor writes.
func parseRepoCursor(cursor string) (after time.Time, did syntax.DID, err error) {
	if cursor == "" {
		return after, "", nil
	}
	number, id, ok := strings.Cut(cursor, "::")
	ms, fraction, has := strings.Cut(number, ".")
	n, numErr := strconv.ParseInt(ms, 10, 64)
	did, didErr := syntax.ParseDID(id)
	var ns uint64
	if has && numErr == nil {
		ns, numErr = strconv.ParseUint(fraction, 10, 32)
		ok = ok && len(fraction) == 6
	}
	if !ok || numErr != nil || didErr != nil {
		return after, "", xrpc.InvalidRequest("Malformed cursor")
	}
	return time.UnixMilli(n).Add(time.Duration(ns)).UTC(), did, nil
}
