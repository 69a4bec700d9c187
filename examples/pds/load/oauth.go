package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/examples/internal/metrics"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// redirect is where people are sent back to. Nothing listens there: see back.
const redirect = "http://127.0.0.1:9/callback"

// back answers for the app what browsers that come back to it ask for.
type back struct{ server http.RoundTripper }

func (b back) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.String(), redirect) {
		return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	return b.server.RoundTrip(r)
}

// visitor is an account that lets an app in, in a browser that remembers it.
type visitor struct {
	server  string
	app     *pdstest.App
	browser *pdstest.Browser
	account *pdstest.Account
}

// letIn is a whole flow: the app's pushed request, the page with the question, the answer, and the
// exchange of the code.
func (v *visitor) letIn(ctx context.Context) (*pdstest.AppSession, error) {
	l, err := v.app.PushTo(ctx, v.server, url.Values{"login_hint": {string(v.account.DID)}})
	if err != nil {
		return nil, err
	}
	p, err := v.browser.Consent(l.URL, v.account, nil)
	if err != nil {
		return nil, err
	}
	return l.Finish(ctx, p.URL)
}

// oauth measures how apps are let in, and their calls beside those with tokens that are not bound
// to a key.
func (b *bench) oauth(ctx context.Context) (_ []result, err error) {
	p, err := b.server(ctx, "oauth", b.clients, same(seed.Seed{Records: 10}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	bearers, err := p.login(ctx, b.clients)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * b.clients}
	defer transport.CloseIdleConnections()
	visitors, sessions := make([]*visitor, b.clients), make([]*pdstest.AppSession, b.clients)
	for i := range visitors {
		v := &visitor{
			p.url, pdstest.LoopbackApp(&http.Client{Transport: transport}, "atproto repo:app.bsky.feed.post", redirect), pdstest.NewBrowser(back{transport}),
			&pdstest.Account{DID: bearers[i].DID, Handle: syntax.Handle(fmt.Sprintf("user%d.test", i)), Password: password},
		}
		if sessions[i], err = v.letIn(ctx); err != nil { // signs in
			return nil, err
		}
		visitors[i] = v
	}

	b.say("flows")
	flows, err := b.flows(ctx, p, visitors)
	if err != nil {
		return nil, err
	}
	bearer, err := b.hammer(ctx, p, "getSession by bearer", b.clients, func(client, _ int) []byte {
		return request("GET", "/xrpc/com.atproto.server.getSession", bearers[client].AccessJWT, "")
	})
	if err != nil {
		return nil, err
	}
	for i, s := range sessions { // with the nonce of now
		if err := s.Query(ctx, "com.atproto.server.getSession", nil, nil); err != nil {
			return nil, fmt.Errorf("user%d.test: %w", i, err)
		}
	}
	failed := make([]error, b.clients)
	bound, err := b.hammer(ctx, p, "getSession by DPoP", b.clients, func(client, _ int) []byte {
		r, err := http.NewRequest("GET", p.url+"/xrpc/com.atproto.server.getSession", nil)
		if err == nil {
			err = sessions[client].Prove(r)
		}
		if err != nil {
			failed[client] = err
		}
		return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nDPoP: %s\r\n\r\n", r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("DPoP"))
	})
	if err := errors.Join(append(failed, err)...); err != nil {
		return nil, err
	}
	each := func(f figures) float64 { return f.busy.Seconds() / float64(max(f.calls, 1)) }
	more := each(bound) - each(bearer)
	return []result{
		{"apps let in: request, page, consent, code", "≥ 100/s, ≤ 10 ms of the server's processors", flows.String(), flows.perSecond() >= 100 && each(flows) <= 0.010},
		{"getSession with a bearer token", "≥ 4,000/s", bearer.String(), bearer.perSecond() >= 4000},
		{"getSession with DPoP", "≤ 0.5 ms more of the server's processors", fmt.Sprintf("%s (%.0f µs more)", bound, more*1e6), more <= 0.0005},
	}, nil
}

// flows has all visitors let the app in, again and again, for the time that is given.
func (b *bench) flows(ctx context.Context, p *process, visitors []*visitor) (figures, error) {
	profiled := p.profile(b.profiles, "flows", b.duration)
	before, _ := metrics.CPUSeconds(p.cmd.Process.Pid)
	all, errs := make([]figures, len(visitors)), make([]error, len(visitors))
	start := time.Now()
	var done sync.WaitGroup
	for i, v := range visitors {
		done.Go(func() {
			for errs[i] == nil && time.Since(start) < b.duration {
				begin := time.Now()
				_, errs[i] = v.letIn(ctx)
				all[i].times = append(all[i].times, time.Since(begin))
			}
		})
	}
	done.Wait()
	after, _ := metrics.CPUSeconds(p.cmd.Process.Pid)
	sum := total(all, time.Since(start))
	sum.busy = time.Duration((after - before) * float64(time.Second))
	return sum, errors.Join(append(errs, <-profiled)...)
}
