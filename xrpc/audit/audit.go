// Package audit records the actions of administrators and moderators: who, when, what, on what,
// from where, and whether it succeeded.
//
// An entry is written before the action, and completed after it. So there is no action without an
// entry, and an entry that is not completed shows an action whose process died. If the entry cannot
// be written, the action must not be done:
//
//	end, err := log.Begin(ctx, audit.Entry{Actor: who, Action: "com.atproto.admin.deleteAccount", Subject: did})
//	if err != nil {
//		return err
//	}
//	err = act()
//	end(err)
//
// The trail is bounded in the number, size and age of entries. It is in the host's key-value store,
// so all nodes share it. Whoever can write to the store can change it. It lets several
// administrators see each other's actions. It is not evidence against somebody who controls the
// machine.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/storage"
)

// Actor is the person or service that acts.
type Actor struct {
	// By is "administrator", or the DID of a moderation service.
	By string `json:"by"`
	// Through is the interface that was used: "xrpc", "pages".
	Through string `json:"through,omitempty"`
	// Address is the network address of the actor, if known.
	Address string `json:"address,omitempty"`
}

// Outcome is the result of an action.
type Outcome string

// Begun means that the action has not ended, or that its process has died.
const (
	Begun  Outcome = "begun"
	Done   Outcome = "done"
	Failed Outcome = "failed"
)

// Entry is one action of an administrator or moderator.
type Entry struct {
	// Seq is the number of the entry. Log sets Seq, At, Outcome and Failure.
	Seq int64     `json:"-"`
	At  time.Time `json:"at"`
	Actor
	// Action is the name of a method, or of another action of pages.
	Action string `json:"action"`
	// Subject is what the action was applied to: a DID, an at:// URI, an invite code.
	Subject string `json:"subject,omitempty"`
	// Detail has more information: "takedown, ref 2026-01-15", a new handle. It must not contain
	// e-mail addresses or secrets.
	Detail  string  `json:"detail,omitempty"`
	Outcome Outcome `json:"outcome"`
	// Failure is the reason of a failure.
	Failure string `json:"failure,omitempty"`
}

// Log is the trail of a store. KV is required. It is safe for concurrent use, also by several
// processes. Do not change its fields after the first use.
type Log struct {
	KV storage.KV
	// Entries bounds the number of entries. An entry takes up to two kilobytes. 0: 5,000.
	Entries int
	// Age is how long entries are kept. 0: a year.
	Age time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger logs entries that could not be completed. Nil: nothing is logged.
	Logger *slog.Logger
}

// Keys in the host's namespace: audit/last has the number of the last entry, audit/entry/NUMBER an
// entry.
const (
	lastKey     = "audit/last"
	entryPrefix = "audit/entry/"
)

func entryKey(seq int64) string { return fmt.Sprintf("%s%016d", entryPrefix, seq) }

// Limits on stored texts, in bytes.
const (
	maxSubject = 600
	maxText    = 300
	maxName    = 120
	// maxEntry is the length of the longest entry that is read, in bytes of JSON.
	maxEntry = 16 << 10
)

// Begin writes an entry for an action that is about to be tried. Call end with the action's error
// when it has ended. It completes the entry, even if the context of Begin has ended.
func (l *Log) Begin(ctx context.Context, e Entry) (end func(err error), err error) {
	e.Outcome, e.Failure = Begun, ""
	if err := l.add(ctx, &e); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	return func(failed error) {
		e.Outcome = Done
		if failed != nil {
			e.Outcome, e.Failure = Failed, clip(failed.Error(), maxText)
		}
		if err := l.put(ctx, e); err != nil && l.Logger != nil {
			l.Logger.ErrorContext(ctx, "an entry of the audit trail could not be completed", "action", e.Action, "err", err)
		}
	}, nil
}

// Note writes an entry for an action that has succeeded.
func (l *Log) Note(ctx context.Context, e Entry) error {
	e.Outcome, e.Failure = Done, ""
	return l.add(ctx, &e)
}

func (l *Log) now() time.Time {
	if l.Now != nil {
		return l.Now().UTC().Truncate(time.Millisecond)
	}
	return time.Now().UTC().Truncate(time.Millisecond)
}

func (l *Log) expires(at time.Time) time.Time {
	if l.Age > 0 {
		return at.Add(l.Age)
	}
	return at.AddDate(1, 0, 0)
}

// add writes a new entry, numbers it, and deletes the one that is too many.
func (l *Log) add(ctx context.Context, e *Entry) error {
	e.At = l.now()
	e.By, e.Through, e.Address = clip(e.By, maxSubject), clip(e.Through, maxName), clip(e.Address, maxName)
	e.Action, e.Subject, e.Detail = clip(e.Action, maxName), clip(e.Subject, maxSubject), clip(e.Detail, maxText)
	keep := int64(l.Entries)
	if keep <= 0 {
		keep = 5000
	}
	return l.KV.Write(ctx, func(tx storage.KVTx) error {
		last, err := number(tx.Get(ctx, lastKey))
		if err != nil {
			return err
		}
		e.Seq = last + 1
		if err := tx.Set(ctx, lastKey, strconv.AppendInt(nil, e.Seq, 10), time.Time{}); err != nil {
			return err
		}
		if err := l.trim(ctx, tx, e.Seq-keep); err != nil {
			return err
		}
		return set(ctx, tx, *e, l.expires(e.At))
	})
}

// trimmed is how many entries one act deletes at most, where fewer are to be kept than before.
const trimmed = 100

// trim deletes entries up to a number, the oldest first.
func (l *Log) trim(ctx context.Context, tx storage.KVTx, to int64) error {
	if to <= 0 {
		return nil
	}
	var old []string
	for pair, err := range tx.Keys(ctx, storage.Range{From: entryPrefix, To: entryKey(to + 1), KeysOnly: true}) {
		if err != nil {
			return err
		}
		if old = append(old, pair.Key); len(old) == trimmed {
			break
		}
	}
	for _, key := range old {
		if err := tx.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// put completes an entry that is still there.
func (l *Log) put(ctx context.Context, e Entry) error {
	return l.KV.Write(ctx, func(tx storage.KVTx) error {
		if _, err := tx.Get(ctx, entryKey(e.Seq)); errors.Is(err, storage.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		return set(ctx, tx, e, l.expires(e.At))
	})
}

func set(ctx context.Context, tx storage.KVTx, e Entry, expires time.Time) error {
	doc, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return tx.Set(ctx, entryKey(e.Seq), doc, expires)
}

// number reads a number that is stored as text; 0 if it is not there.
func number(doc []byte, err error) (int64, error) {
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(doc), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("audit: %s is not a number: %.40q", lastKey, doc)
	}
	return n, nil
}

// List returns up to limit entries with a number less than before (0: all), latest first.
func (l *Log) List(ctx context.Context, before int64, limit int) (list []Entry, err error) {
	rng := storage.Prefix(entryPrefix)
	rng.Reverse = true
	if before > 0 {
		rng.To = entryKey(min(before, maxSeq))
	}
	err = l.KV.Read(ctx, func(r storage.KVReader) error {
		list = nil
		for pair, err := range r.Keys(ctx, rng) {
			if err != nil {
				return err
			}
			if len(list) == limit {
				break
			}
			e, err := decode(pair.Value)
			if err != nil {
				return fmt.Errorf("audit: %s: %w", pair.Key, err)
			}
			if e.Seq, err = strconv.ParseInt(strings.TrimPrefix(pair.Key, entryPrefix), 10, 64); err != nil {
				return fmt.Errorf("audit: %s: %w", pair.Key, err)
			}
			list = append(list, e)
		}
		return nil
	})
	return list, err
}

// maxSeq is the greatest number that a key has room for.
const maxSeq = 9_999_999_999_999_999

// decode reads an entry.
func decode(doc []byte) (e Entry, err error) {
	if len(doc) > maxEntry {
		return e, fmt.Errorf("an entry of %d bytes", len(doc))
	}
	err = exactjson.UnmarshalPlain(doc, &e)
	return e, err
}

// clip shortens a text to so many bytes, and leaves out what cannot be shown on a line.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
