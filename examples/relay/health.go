package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// healthPath is where load balancers look.
const healthPath = "/xrpc/_health"

// How the store is probed: by a write, as seldom as will do.
const (
	probeEvery    = 10 * time.Second
	probePatience = 5 * time.Second
	probeKey      = "program/probe"
)

// health knows whether the store can be written.
type health struct {
	store storage.Store

	mu  sync.Mutex
	at  time.Time
	err error
}

// check returns why the store cannot be written, or nil. What was found a moment ago counts.
func (h *health) check(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) < probeEvery {
		return h.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probePatience)
	defer cancel()
	h.err = h.store.KV.Write(ctx, func(tx storage.KVTx) error {
		return tx.Set(ctx, probeKey, []byte(time.Now().Format(time.RFC3339)), time.Time{})
	})
	h.at = time.Now()
	return h.err
}

// ServeHTTP answers 200, or 503 if nothing can be written. Strangers are not told why.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	answer := map[string]string{"version": version()}
	if h.check(r.Context()) != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		answer["error"] = "The store cannot be written"
	}
	json.NewEncoder(w).Encode(answer)
}
