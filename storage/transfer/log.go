package transfer

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// log copies the events that are newer than what the target has.
func (m *Mover) log(ctx context.Context) error {
	if m.to == nil {
		return nil
	}
	_, from, err := m.cfg.To.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	oldest, newest, err := m.cfg.From.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	var l storage.LoadEvents
	size := int64(0)
	write := func() error {
		if err := m.pace(ctx, size); err != nil {
			return err
		}
		if err := m.to.LoadEvents(ctx, &l); err != nil {
			return err
		}
		m.count(func(p *Progress) { p.Events, p.Bytes = p.Events+int64(len(l.Events)), p.Bytes+size })
		l, size = storage.LoadEvents{}, 0
		return nil
	}
	for e, err := range m.cfg.From.Events.Since(ctx, from) {
		if err != nil {
			return err
		}
		l.Events = append(l.Events, e)
		if size += int64(len(e.Payload)); len(l.Events) >= pageItems || size >= pageBytes {
			if err := write(); err != nil {
				return err
			}
		}
	}
	// All events up to newest have been read.
	l.Oldest, l.Newest = oldest, newest
	return write()
}

// eventsGone removes the events of an account that have become unreadable at the source.
func (m *Mover) eventsGone(ctx context.Context, did syntax.DID) error {
	if m.to == nil {
		return nil
	}
	from, ok := m.cfg.From.Events.(storage.AccountEvents)
	to, has := m.cfg.To.Events.(storage.AccountEvents)
	if !ok || !has {
		_, err := m.compareLog(ctx, 0, math.MaxInt64, false)
		return err
	}
	keep, err := newCursor(from.OfAccount(ctx, did))
	if err != nil {
		return err
	}
	defer keep.close()
	var drop []int64
	for e, err := range to.OfAccount(ctx, did) {
		if err != nil {
			return err
		}
		for keep.ok && keep.value.Seq > e.Seq {
			if err := keep.advance(); err != nil {
				return err
			}
		}
		if !keep.ok || keep.value.Seq != e.Seq {
			drop = append(drop, e.Seq)
		}
	}
	return m.drop(ctx, drop)
}

// drop removes events of the target.
func (m *Mover) drop(ctx context.Context, list []int64) error {
	for len(list) > 0 {
		n := min(len(list), pageItems)
		if err := m.to.LoadEvents(ctx, &storage.LoadEvents{Drop: list[:n]}); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// compareLog compares the log, number by number, after from and up to to. Events that only the
// target has were trimmed, or have become unreadable, and are removed; if strict, they are a
// problem too.
func (m *Mover) compareLog(ctx context.Context, from, to int64, strict bool) (problems []string, err error) {
	if m.to == nil {
		return nil, nil
	}
	old, err := newCursor(m.cfg.To.Events.Since(ctx, from))
	if err != nil {
		return nil, err
	}
	defer old.close()
	var drop []int64
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	extra := func() error {
		if strict {
			wrong("the log has an event %d that the source does not have", old.value.Seq)
		} else {
			drop = append(drop, old.value.Seq)
		}
		return old.advance()
	}
	for e, err := range m.cfg.From.Events.Since(ctx, from) {
		if err != nil {
			return nil, err
		}
		if e.Seq > to {
			break
		}
		for old.ok && old.value.Seq < e.Seq {
			if err := extra(); err != nil {
				return nil, err
			}
		}
		switch {
		case !old.ok || old.value.Seq != e.Seq:
			if gone, err := m.eventIsGone(ctx, e.Seq); err != nil {
				return nil, err
			} else if !gone {
				wrong("the log lacks event %d of %s", e.Seq, e.DID)
			}
			continue
		case !sameEvent(old.value, e):
			wrong("event %d of %s is another one", e.Seq, e.DID)
		}
		if err := old.advance(); err != nil {
			return nil, err
		}
	}
	for old.ok && old.value.Seq <= to {
		if err := extra(); err != nil {
			return nil, err
		}
	}
	return problems, m.drop(ctx, drop)
}

// eventIsGone reports whether the source has an event no more.
func (m *Mover) eventIsGone(ctx context.Context, seq int64) (bool, error) {
	for e, err := range m.cfg.From.Events.Since(ctx, seq-1) {
		return e.Seq != seq, err
	}
	return true, nil
}

func sameEvent(a, b storage.Event) bool {
	return a.DID == b.DID && a.Kind == b.Kind && a.Numbers() == b.Numbers() && a.Time.UnixMilli() == b.Time.UnixMilli() && bytes.Equal(a.Payload, b.Payload)
}

// hostKeys are keys of the host that were noted.
func (m *Mover) hostKeys(ctx context.Context, names []string) error {
	if m.to == nil {
		return nil
	}
	for len(names) > 0 {
		n := min(len(names), pageItems)
		page := names[:n]
		names = names[n:]
		var writes []storage.KVWrite
		err := m.cfg.From.KV.Read(ctx, func(r storage.KVReader) error {
			writes = writes[:0]
			for _, key := range page {
				w := storage.KVWrite{Key: key}
				// Get does not tell when a key expires.
				for p, err := range r.Keys(ctx, storage.Range{From: key, To: key + "\x00"}) {
					if err != nil {
						return err
					}
					w.Value, w.Expires = append([]byte{}, p.Value...), p.Expires
				}
				writes = append(writes, w)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := m.writeKeys(ctx, writes); err != nil {
			return err
		}
	}
	return nil
}

// allHostKeys makes all keys of the host at the target what they are at the source.
func (m *Mover) allHostKeys(ctx context.Context) error {
	if m.to == nil {
		return nil
	}
	from := ""
	for more := true; more; {
		writes, size := []storage.KVWrite(nil), 0
		err := m.cfg.From.KV.Read(ctx, func(r storage.KVReader) error {
			return m.cfg.To.KV.Read(ctx, func(t storage.KVReader) (err error) {
				more, err = compareKeys(ctx, r, t, &from, m.skips, func(w storage.KVWrite) bool {
					writes = append(writes, w)
					size += len(w.Key) + len(w.Value)
					return len(writes) >= pageItems || size >= pageBytes
				})
				return err
			})
		})
		if err != nil {
			return err
		}
		if err := m.pace(ctx, int64(size)); err != nil {
			return err
		}
		if err := m.writeKeys(ctx, writes); err != nil {
			return err
		}
	}
	return nil
}

// writeKeys writes keys of the host at the target.
func (m *Mover) writeKeys(ctx context.Context, writes []storage.KVWrite) error {
	if len(writes) == 0 {
		return nil
	}
	size := int64(0)
	err := m.cfg.To.KV.Write(ctx, func(tx storage.KVTx) error {
		size = 0
		for _, w := range writes {
			if m.skips(w.Key) {
				continue
			}
			size += int64(len(w.Key) + len(w.Value))
			var err error
			if w.Value == nil {
				err = tx.Delete(ctx, w.Key)
			} else {
				err = tx.Set(ctx, w.Key, w.Value, w.Expires)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		m.count(func(p *Progress) { p.Keys, p.Bytes = p.Keys+int64(len(writes)), p.Bytes+size })
	}
	return err
}

// repos lists accounts of both stores from after on, a number of the source's, and returns the one
// after which to go on; "" at the end.
func (m *Mover) repos(ctx context.Context, after syntax.DID, n int) (list []syntax.DID, next syntax.DID, err error) {
	seen := make(map[syntax.DID]bool, n)
	for info, err := range m.cfg.From.Repos.List(ctx, after) {
		if err != nil {
			return nil, "", err
		}
		list, seen[info.DID] = append(list, info.DID), true
		if len(list) == n {
			next = info.DID
			break
		}
	}
	if m.to == nil {
		return list, next, nil
	}
	for info, err := range m.cfg.To.Repos.List(ctx, after) {
		if err != nil {
			return nil, "", err
		}
		if next != "" && info.DID > next {
			break
		}
		if !seen[info.DID] {
			list = append(list, info.DID)
		}
	}
	return list, next, nil
}
