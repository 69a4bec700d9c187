package durable

import (
	"context"
	"iter"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

type soloRepos struct{ *Solo }

var _ storage.Repos = soloRepos{}

func (s soloRepos) Head(ctx context.Context, did syntax.DID) (head storage.Head, err error) {
	err = s.use(ctx, did, false, func(a *account) error {
		head, err = a.head()
		return err
	})
	return head, err
}

func (s soloRepos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	var v *snapshot
	err := s.use(ctx, did, false, func(a *account) error {
		if err := a.exists(); err != nil {
			return err
		}
		v = a.begin()
		return nil
	})
	if err != nil {
		return err
	}
	defer v.end()
	return fn(reader{v, s.cfg.Now()})
}

func (s soloRepos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return func(yield func(storage.RepoInfo, error) bool) {
		from := prefixState
		if after != "" {
			from += string(after) + "\x00"
		}
		for from != "" {
			// In the turn, so that no transaction runs.
			var page []pair
			err := s.turnOf(ctx, func() (err error) {
				page, from, err = s.pairs(Scan{From: from, To: end(prefixState), Rows: maxPage}, pageBytes)
				return err
			})
			if err != nil {
				yield(storage.RepoInfo{}, err)
				return
			}
			for _, p := range page {
				st, err := decodeState(p.value)
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					yield(storage.RepoInfo{}, err)
					return
				}
				if !yield(storage.RepoInfo{DID: st.did, Head: st.head}, nil) {
					return
				}
			}
			if from != "" {
				from += "\x00"
			}
		}
	}
}

func (s soloRepos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	return s.step(ctx, did, false, func(a *account) (*storage.Change, error) {
		return c, a.check(c, s.cfg.Now())
	}, func(a *account) error { return a.writeRecords(c) })
}

func (s soloRepos) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
	if err := s.acquire(); err != nil {
		return 0, err
	}
	defer s.release()
	if err := s.sweepAll(ctx); err != nil {
		return 0, err
	}
	staged := staged{host: s.Solo, did: did}
	defer func() {
		s.turn <- struct{}{}
		if b := s.busy[did]; b != nil {
			delete(b.staging, staged.set)
		}
		s.unlock()
		_ = s.sweepAll(ctx)
	}()
	if err := staged.stage(ctx, records); err != nil {
		return 0, err
	}
	c, err := final()
	if err == nil {
		err = c.ValidateReplacement()
	}
	if err != nil {
		return 0, err
	}
	return s.step(ctx, did, false, func(a *account) (*storage.Change, error) {
		return c, a.check(c, s.cfg.Now())
	}, func(a *account) error { return staged.exchange(a, c.Head.Rev) })
}

func (s soloRepos) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (seq int64, err error) {
	if err := storage.ValidateEvents(events); err != nil {
		return 0, err
	}
	if err := s.acquire(); err != nil {
		return 0, err
	}
	defer s.release()
	seq, err = s.step(ctx, did, true, func(a *account) (*storage.Change, error) {
		return &storage.Change{Prev: a.state.head, Events: events}, a.exists()
	}, func(a *account) error {
		if err := a.clear(); err != nil {
			return err
		}
		return s.setHidden(keyDead+string(did), encodeDead(s.newest()))
	})
	if err != nil {
		return 0, err
	}
	_ = s.sweepAll(ctx) // what is left is deleted by later changes
	return seq, nil
}

// step carries out a change, by one transaction; if gone, the account is not there after it. check
// says what it is, or that it cannot be made; write writes the records.
func (s *Solo) step(ctx context.Context, did syntax.DID, gone bool, check func(*account) (*storage.Change, error), write func(*account) error) (seq int64, err error) {
	err = s.use(ctx, did, true, func(a *account) error {
		c, err := check(a)
		if err != nil {
			return err
		}
		if err := s.schedule(c); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		now, log := s.cfg.Now(), s.position()
		news := a.isNews(c)
		err = s.transact(a, func() error {
			if err := write(a); err != nil {
				return err
			}
			if err := a.writeKeys(c.KV, now); err != nil {
				return err
			}
			switch {
			case gone:
				if err := s.deleteHidden(a.place.state, a.place.state+"\x00"); err != nil {
					return err
				}
			case news:
				if err := a.writeHead(c); err != nil {
					return err
				}
			}
			seq, err = s.append(&log, c.Events, now)
			return err
		})
		if err != nil {
			return err
		}
		if gone {
			s.logMu.Lock()
			s.deleted[did] = s.newest()
			s.logMu.Unlock()
		}
		s.publish(log)
		if alarms(c.KV) {
			s.alarms.poke()
		}
		s.busy[did] = a.sets // for tidy
		_, _ = s.tidy()
		return nil
	})
	if err != nil {
		return 0, err
	}
	return seq, nil
}

// schedule tells the host of an alarm that is about to be set.
func (s *Solo) schedule(c *storage.Change) error {
	at, err := alarmOf(c.KV)
	if err != nil || at.IsZero() || s.cfg.Schedule == nil {
		return err
	}
	return s.cfg.Schedule(at)
}

// sweepAll deletes all that nobody reads any more. Others can use the store in between.
func (s *Solo) sweepAll(ctx context.Context) error {
	for more := true; more; {
		if err := s.turnOf(ctx, func() (err error) {
			more, err = s.tidy()
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
