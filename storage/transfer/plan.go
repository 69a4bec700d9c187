package transfer

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Plan is an estimate of a move.
type Plan struct {
	Accounts int64 `json:"accounts"`
	Events   int64 `json:"events"`
	// Estimates from the sampled accounts.
	Records int64 `json:"records"`
	Keys    int64 `json:"keys"`
	Blobs   int64 `json:"blobs"`
	Bytes   int64 `json:"bytes"`
	// Time is a rough estimate of the time for copying and verifying.
	Time time.Duration `json:"timeNanoseconds"`
}

// planned is how many accounts Plan reads.
const planned = 100

// verifyFactor is how many times longer a move takes than to read what is moved once: it is read,
// written, and read again on both sides.
const verifyFactor = 4

// Plan estimates the amount of data to move and the time, from a sample of some hundred accounts of
// the source. It writes nothing.
func (m *Mover) Plan(ctx context.Context) (p Plan, err error) {
	for _, err := range m.cfg.From.Repos.List(ctx, "") {
		if err != nil {
			return p, err
		}
		p.Accounts++
	}
	every := max(1, p.Accounts/planned)
	i, looked := int64(0), int64(0)
	began := time.Now()
	for info, err := range m.cfg.From.Repos.List(ctx, "") {
		if err == nil && i%every == 0 {
			looked++
			err = m.planAccount(ctx, info.DID, &p)
		}
		if err != nil {
			return p, err
		}
		i++
	}
	if looked > 0 {
		for _, n := range []*int64{&p.Records, &p.Keys, &p.Blobs, &p.Bytes} {
			*n = *n * p.Accounts / looked
		}
		p.Time = time.Since(began) * time.Duration(p.Accounts) / time.Duration(looked) * verifyFactor
	}
	if m.to != nil {
		began = time.Now()
		for e, err := range m.cfg.From.Events.Since(ctx, 0) {
			if err != nil {
				return p, err
			}
			p.Events++
			p.Bytes += int64(len(e.Payload))
		}
		p.Time += verifyFactor * time.Since(began)
	}
	if m.cfg.Rate > 0 {
		p.Time = max(p.Time, time.Duration(float64(p.Bytes)/float64(m.cfg.Rate)*float64(time.Second)))
	}
	return p, nil
}

// planAccount adds an account to a plan.
func (m *Mover) planAccount(ctx context.Context, did syntax.DID, p *Plan) error {
	if m.to != nil {
		err := m.cfg.From.Repos.View(ctx, did, func(r storage.Reader) error {
			for rec, err := range r.Records(ctx, storage.Range{}) {
				if err != nil {
					return err
				}
				p.Records++
				p.Bytes += int64(len(rec.Path) + len(rec.Data))
			}
			for pair, err := range r.Keys(ctx, storage.Range{}) {
				if err != nil {
					return err
				}
				p.Keys++
				p.Bytes += int64(len(pair.Key) + len(pair.Value))
			}
			return nil
		})
		if errors.Is(err, storage.ErrNotFound) {
			return nil // it was deleted meanwhile
		} else if err != nil {
			return err
		}
	}
	if m.cfg.SameBlobs {
		return nil
	}
	for b, err := range m.cfg.From.Blobs.List(ctx, did, cid.Undef) {
		if err != nil {
			return err
		}
		p.Blobs++
		p.Bytes += b.Size
	}
	return nil
}
