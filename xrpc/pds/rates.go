package pds

import (
	"crypto/hkdf"
	"crypto/sha256"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/limit/rate"
)

// SharedLimits returns limits for Shared of [rate.Config], which servers over the same store count
// together. Errors of the store are logged, at most once a minute.
func SharedLimits(kv storage.KV, secrets Secrets, log *slog.Logger) (*rate.Shared, error) {
	if err := secrets.check(); err != nil {
		return nil, err
	}
	secret, err := hkdf.Key(sha256.New, secrets.MasterKeys[len(secrets.MasterKeys)-1], nil, "pdskit rate limits", 32)
	if err != nil {
		return nil, err
	}
	var last atomic.Int64
	return &rate.Shared{KV: kv, Secret: secret, Failed: func(err error) {
		now := time.Now().Unix()
		if before := last.Load(); log != nil && now-before >= 60 && last.CompareAndSwap(before, now) {
			log.Warn("limits are not counted together with other nodes", "err", err)
		}
	}}, nil
}

// openRates makes the limits, unless the configuration has some.
func (s *Server) openRates() error {
	cfg := &s.cfg
	if cfg.Rates != nil {
		return nil
	}
	limits := rate.Config{Now: cfg.Now, Moving: s.Moving}
	if cfg.Node.Shared {
		shared, err := SharedLimits(cfg.Store.KV, cfg.Secrets, s.log)
		if err != nil {
			return err
		}
		limits.Shared = shared
	}
	cfg.Rates = rate.New(limits)
	return nil
}
