package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/storage"
)

// logRow is what is stored of a stretch of the log, by the number of its last event. So the bytes
// of each event are counted once, and after a crash those are counted that were not yet.
type logRow struct {
	Seq   int64     `json:"seq"`
	Time  time.Time `json:"time"` // of the last event
	Bytes int64     `json:"bytes"`
}

// logParts is how many stretches a full log has, at least.
const logParts = 64

// trim deletes the events that are older than Retention, and those that are too many for
// RetentionBytes.
func (r *Relay) trim(ctx context.Context) {
	var before time.Time
	if r.Retention > 0 {
		before = r.Now().Add(-r.Retention)
	}
	over, err := r.bytesCutoff(ctx)
	if over.After(before) {
		before = over
	}
	if err == nil && !before.IsZero() {
		err = r.Store.Events.Trim(ctx, before)
	}
	if err == nil && r.RetentionBytes > 0 {
		err = r.forgetParts(ctx)
	}
	if err != nil && ctx.Err() == nil {
		r.Logger.Error("relay: the log was not trimmed", "err", err)
	}
}

// bytesCutoff returns the time before which events are too many for RetentionBytes; zero: none are.
func (r *Relay) bytesCutoff(ctx context.Context) (before time.Time, err error) {
	if r.RetentionBytes <= 0 {
		return before, nil
	}
	rows, err := r.logParts(ctx)
	if err != nil {
		return before, err
	}
	var part logRow
	var seen int64
	if len(rows) > 0 {
		seen = rows[len(rows)-1].Seq
	}
	for e, err := range r.Store.Events.Since(ctx, seen) {
		if err != nil {
			return before, err
		}
		part = logRow{Seq: e.Seq, Time: e.Time, Bytes: part.Bytes + int64(len(e.Payload))}
		if part.Bytes > r.RetentionBytes/logParts {
			if err := r.writePart(ctx, part); err != nil {
				return before, err
			}
			rows, part = append(rows, part), logRow{}
		}
	}
	if part.Seq > 0 {
		if err := r.writePart(ctx, part); err != nil {
			return before, err
		}
		rows = append(rows, part)
	}
	total := int64(0)
	for i := len(rows) - 1; i >= 0; i-- {
		if total += rows[i].Bytes; total > r.RetentionBytes {
			return rows[i].Time.Add(1), nil
		}
	}
	return before, nil
}

// logParts returns the stretches of the log, in order.
func (r *Relay) logParts(ctx context.Context) (rows []logRow, err error) {
	err = r.Store.KV.Read(ctx, func(kv storage.KVReader) error {
		rows = nil
		for pair, err := range kv.Keys(ctx, storage.Prefix(keyLog)) {
			if err != nil {
				return err
			}
			var row logRow
			if err := exactjson.Unmarshal(pair.Value, &row); err != nil {
				return fmt.Errorf("%w: key %q: %w", storage.ErrCorrupt, pair.Key, err)
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}

func partKey(seq int64) string { return fmt.Sprintf("%s%019d", keyLog, seq) }

func (r *Relay) writePart(ctx context.Context, part logRow) error {
	text, err := json.Marshal(part)
	if err != nil {
		return err
	}
	return r.ledger.mark(ctx, map[string][]byte{partKey(part.Seq): text})
}

// forgetParts deletes what is stored of stretches that are no longer in the log.
func (r *Relay) forgetParts(ctx context.Context) error {
	oldest, _, err := r.Store.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	rows, err := r.logParts(ctx)
	if err != nil {
		return err
	}
	var keys []string
	for _, row := range rows {
		if row.Seq < oldest {
			keys = append(keys, partKey(row.Seq))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return r.ledger.unmark(ctx, keys...)
}
