package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// Bounds of a request that names accounts.
const (
	maxBody = 4 << 20
	maxDIDs = 10_000
)

// handler serves the HTTP interface.
func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) { answer(w, map[string]any{"status": "ok"}) })
	mux.HandleFunc("GET /channel", a.channel)
	mux.Handle("GET /metrics", &a.meters.registry)
	mux.HandleFunc("POST /repos/add", a.repos(a.ix.Track))
	mux.HandleFunc("POST /repos/remove", a.repos(a.ix.Untrack))
	mux.HandleFunc("GET /resolve/{did}", a.resolve)
	mux.HandleFunc("GET /info/{did}", a.info)
	mux.HandleFunc("GET /stats/repo-count", a.count("repo_count", "SELECT count(*) FROM ix_account"))
	mux.HandleFunc("GET /stats/record-count", a.count("record_count", "SELECT count(*) FROM ix_record"))
	mux.HandleFunc("GET /stats/outbox-buffer", a.count("outbox_buffer", "SELECT count(*) FROM tap_outbox"))
	mux.HandleFunc("GET /stats/resync-buffer", func(w http.ResponseWriter, r *http.Request) {
		n := 0
		for _, s := range a.ix.Progress().Sources {
			n += s.Waiting
		}
		answer(w, map[string]any{"resync_buffer": n})
	})
	mux.HandleFunc("GET /stats/cursors", func(w http.ResponseWriter, r *http.Request) {
		out := make(map[string]any)
		for _, s := range a.ix.Progress().Sources {
			out["firehose"] = s.Done
		}
		answer(w, out)
	})
	return a.authenticated(mux)
}

// authenticated asks for the password, if there is one.
func (a *app) authenticated(next http.Handler) http.Handler {
	if a.set.password == "" {
		return next
	}
	want := sha256.Sum256([]byte(a.set.password))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		got := sha256.Sum256([]byte(password))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || name != "admin" {
			w.Header().Set("WWW-Authenticate", `Basic realm="admin", charset="UTF-8"`)
			fail(w, http.StatusUnauthorized, "the password is missing or wrong")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"message": message})
}

// broken answers a request that failed for no fault of the client.
func (a *app) broken(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		a.set.log.Error("a request failed", "path", r.URL.Path, "error", err)
	}
	fail(w, http.StatusInternalServerError, "internal error")
}

// parseDIDs reads the body of a request that names accounts.
func parseDIDs(b []byte) ([]syntax.DID, error) {
	var body struct {
		DIDs []string `json:"dids"`
	}
	if err := data.UnmarshalPlainJSON(b, &body); err != nil {
		return nil, errors.New(`the body must be {"dids": [...]}`)
	}
	if len(body.DIDs) > maxDIDs {
		return nil, errors.New("more than 10,000 DIDs")
	}
	dids := make([]syntax.DID, len(body.DIDs))
	for i, text := range body.DIDs {
		did, err := syntax.ParseDID(text)
		if err != nil {
			return nil, errors.New("improperly formatted DID")
		}
		dids[i] = did
	}
	return dids, nil
}

// repos serves POST /repos/add and /repos/remove. All DIDs are looked at before anything is done;
// what was done before a failure stays, and a request may be made again.
func (a *app) repos(do func(context.Context, syntax.DID) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// Pages of other sites cannot send this type without asking first.
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			fail(w, http.StatusUnsupportedMediaType, "the body must be application/json")
			return
		}
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			fail(w, http.StatusRequestEntityTooLarge, "the body is too large")
			return
		} else if err != nil {
			fail(w, http.StatusBadRequest, "the body broke off")
			return
		}
		dids, err := parseDIDs(b)
		if err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		for _, did := range dids {
			if err := do(r.Context(), did); err != nil {
				a.broken(w, r, err)
				return
			}
		}
		w.WriteHeader(http.StatusOK)
	}
}

// didOf is the DID in a path. A percent sign that belongs to a DID may be escaped or not.
func didOf(r *http.Request) (syntax.DID, error) {
	path := r.URL.EscapedPath()
	if did, err := syntax.ParseDID(path[strings.LastIndexByte(path, '/')+1:]); err == nil {
		return did, nil
	}
	return syntax.ParseDID(r.PathValue("did"))
}

func (a *app) resolve(w http.ResponseWriter, r *http.Request) {
	did, err := didOf(r)
	if err != nil {
		fail(w, http.StatusBadRequest, "improperly formatted DID")
		return
	}
	doc, err := a.set.identity.ResolveDID(r.Context(), did)
	switch {
	case errors.Is(err, identity.ErrNotFound), errors.Is(err, identity.ErrTombstoned):
		fail(w, http.StatusNotFound, "DID not found")
	case err != nil:
		fail(w, http.StatusInternalServerError, "failed to resolve DID")
	default:
		answer(w, doc)
	}
}

func (a *app) info(w http.ResponseWriter, r *http.Request) {
	did, err := didOf(r)
	if err != nil {
		fail(w, http.StatusNotFound, "repo not found")
		return
	}
	acct, err := a.ix.Account(r.Context(), did)
	if errors.Is(err, indexer.ErrUnknown) {
		fail(w, http.StatusNotFound, "repo not found")
		return
	}
	records := 0
	if err == nil {
		err = a.sink.DB.QueryRowContext(r.Context(), a.sink.sql("SELECT count(*) FROM ix_record WHERE did = ?"), string(did)).Scan(&records)
	}
	if err != nil {
		a.broken(w, r, err)
		return
	}
	answer(w, map[string]any{
		"did": did, "handle": acct.Handle, "state": stateOf(&acct), "rev": acct.Rev, "error": acct.Error, "retries": acct.Tries, "records": records,
	})
}

// stateOf names the state of a repository.
func stateOf(acct *indexer.Account) string {
	switch {
	case !acct.Active && acct.Status != "deleted":
		return identityOf(acct).Status
	case acct.Tries > 0:
		return "error"
	case acct.State == indexer.Synchronized:
		return "active"
	}
	return string(acct.State)
}

// count serves a number of rows.
func (a *app) count(name, query string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var n int64
		if err := a.sink.DB.QueryRowContext(r.Context(), query).Scan(&n); err != nil {
			a.broken(w, r, err)
			return
		}
		answer(w, map[string]any{name: n})
	}
}
