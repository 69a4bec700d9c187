package admin

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Pages of lists.
const (
	pageUsual = 100
	pageMost  = 1000
	maxBody   = 64 << 10
)

// question answers a GET request.
type question func(ctx context.Context, q url.Values) (any, error)

// mountAPI adds the addresses for programs.
func (a *Admin) mountAPI() {
	for name, f := range map[string]question{
		"status": a.askStatus, "hosts": a.askHosts, "host": a.askHost, "accounts": a.askAccounts, "account": a.askAccount,
		"bans": a.askBans, "takedowns": a.askTakedowns, "consumers": a.askConsumers,
	} {
		a.mux.HandleFunc("GET "+Root+"/api/"+name, func(w http.ResponseWriter, r *http.Request) {
			out, err := f(r.Context(), r.URL.Query())
			answer(w, out, err)
		})
	}
	a.mux.HandleFunc("POST "+Root+"/api/{act}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var in input
		if err == nil {
			err = data.UnmarshalJSON(body, &in)
		}
		if err != nil {
			err = problem("the body is no JSON object of an act: " + err.Error())
		} else {
			_, err = a.run(r.Context(), r.RemoteAddr, r.PathValue("act"), in)
		}
		answer(w, map[string]bool{"done": true}, err)
	})
	a.mux.HandleFunc(Root+"/api/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "there is nothing here"})
	})
}

func answer(w http.ResponseWriter, out any, err error) {
	if err != nil {
		status, text := explain(err)
		writeJSON(w, status, map[string]string{"error": text})
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := data.MarshalJSON(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}

// limitOf reads how many items are wanted.
func limitOf(q url.Values) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return pageUsual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > pageMost {
		return 0, problem("limit is from 1 to " + strconv.Itoa(pageMost))
	}
	return n, nil
}

func (a *Admin) askStatus(ctx context.Context, _ url.Values) (any, error) {
	_, total, err := a.hosts(ctx, "", "", "", 0)
	if err != nil {
		return nil, err
	}
	return a.status(ctx, total)
}

func (a *Admin) status(ctx context.Context, total totals) (v statusView, err error) {
	if a.cfg.Status != nil {
		v.Status = a.cfg.Status(ctx)
	}
	v.Totals = total
	if v.Oldest, v.Newest, err = a.cfg.Relay.Store.Events.Bounds(ctx); err != nil {
		return v, err
	}
	if v.Newest > 0 {
		v.NewestAt = time.UnixMicro(v.Newest).UTC()
	}
	v.Consumers = len(a.cfg.Relay.Outbox().Subscriptions())
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	v.Memory = m.Sys - m.HeapReleased
	return v, nil
}

func (a *Admin) askHosts(ctx context.Context, q url.Values) (any, error) {
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	list, total, err := a.hosts(ctx, q.Get("after"), q.Get("q"), q.Get("status"), limit)
	out := struct {
		Hosts []hostView `json:"hosts"`
		After string     `json:"after,omitempty"` // for the next page
	}{Hosts: list}
	if total.More {
		out.After = list[len(list)-1].Host
	}
	return out, err
}

func (a *Admin) askHost(ctx context.Context, q url.Values) (any, error) {
	h, err := a.cfg.Relay.Host(ctx, q.Get("host"))
	if err != nil {
		return nil, err
	}
	return a.hostView(h), nil
}

type accountsPage struct {
	Accounts []accountView `json:"accounts"`
	After    syntax.DID    `json:"after,omitempty"`
}

func (a *Admin) askAccounts(ctx context.Context, q url.Values) (any, error) {
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	return a.accounts(ctx, q.Get("host"), q.Get("after"), limit)
}

func (a *Admin) accounts(ctx context.Context, host, after string, limit int) (out accountsPage, err error) {
	list, err := a.cfg.Relay.Accounts(ctx, host, syntax.DID(after), limit)
	for _, x := range list {
		out.Accounts = append(out.Accounts, accountOf(x))
	}
	if len(list) == limit {
		out.After = list[limit-1].DID
	}
	return out, err
}

func (a *Admin) askAccount(ctx context.Context, q url.Values) (any, error) {
	return a.account(ctx, q.Get("did"))
}

func (a *Admin) account(ctx context.Context, text string) (accountView, error) {
	did, err := syntax.ParseDID(text)
	if err != nil {
		return accountView{}, problem("that is no DID: " + err.Error())
	}
	x, err := a.cfg.Relay.Account(ctx, did)
	return accountOf(x), err
}

func (a *Admin) askBans(ctx context.Context, _ url.Values) (any, error) {
	list, err := a.cfg.Relay.Bans(ctx)
	return map[string]any{"bans": list}, err
}

func (a *Admin) askTakedowns(ctx context.Context, q url.Values) (any, error) {
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Relay.Takedowns(ctx, syntax.DID(q.Get("after")), limit)
	return map[string]any{"takedowns": list}, err
}

func (a *Admin) askConsumers(context.Context, url.Values) (any, error) {
	return map[string]any{"consumers": a.consumers()}, nil
}
