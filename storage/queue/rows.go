package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/storage"
)

// one is the value of rows whose key says everything.
var one = []byte("1")

// row is what is stored of a job.
type row struct {
	Key      string `json:"key,omitempty"` // in hexadecimal
	Number   int64  `json:"number,omitempty"`
	Body     []byte `json:"body,omitempty"`
	Long     bool   `json:"long,omitempty"` // the body has a row of its own
	Enqueued int64  `json:"enqueued"`       // microseconds
	// Due is when the job can be leased; for a leased job, when the lease ends; for a dead one,
	// when it died.
	Due     int64  `json:"due"`
	Attempt int    `json:"attempt,omitempty"` // how many have begun
	Token   string `json:"token,omitempty"`   // of the lease
	Counted bool   `json:"counted,omitempty"` // the lease has a row under l
	Dead    bool   `json:"dead,omitempty"`
	Error   string `json:"error,omitempty"` // of the last attempt
}

// micros formats a time so that it sorts.
func micros(n int64) string { return fmt.Sprintf("%020d", max(n, 0)) }

// parseMicros is the reverse of micros, for the beginning of a text.
func parseMicros(s string) time.Time {
	n, _ := strconv.ParseInt(s[:min(20, len(s))], 10, 64)
	return time.UnixMicro(n).UTC()
}

// tx is a transaction on the rows of a queue. Its keys have no prefix.
type tx struct {
	storage.KVTx
	ctx context.Context
	q   *Queue
}

func (t *tx) has(key string) (bool, error) {
	_, err := t.Get(t.ctx, t.q.prefix+key)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (t *tx) set(key string, value []byte) error {
	return t.Set(t.ctx, t.q.prefix+key, value, time.Time{})
}

func (t *tx) del(key string) error { return t.Delete(t.ctx, t.q.prefix+key) }

// getRow returns a job, or ErrNotFound.
func (q *Queue) getRow(ctx context.Context, r storage.KVReader, id string) (*row, error) {
	b, err := r.Get(ctx, q.prefix+"m/"+id)
	if err != nil {
		return nil, err
	}
	j := new(row)
	if err := exactjson.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("%w: %sm/%s: %w", storage.ErrCorrupt, q.prefix, id, err)
	}
	return j, nil
}

// body returns the body of a job.
func (q *Queue) body(ctx context.Context, r storage.KVReader, id string, j *row) ([]byte, error) {
	if !j.Long {
		return j.Body, nil
	}
	return r.Get(ctx, q.prefix+"b/"+id)
}

// put stores a job.
func (t *tx) put(id string, j *row) error {
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return t.set("m/"+id, b)
}

func readyKey(id string, j *row) string { return "r/" + micros(j.Due) + "/" + id }
func deadKey(id string, j *row) string  { return "d/" + micros(j.Due) + "/" + id }

func (j *row) laneKey() string { return "k/" + j.Key + "/" + micros(j.Number) }

// add stores a new job, or one that was dead.
func (t *tx) add(id string, j *row, body []byte) error {
	if err := t.setBody(id, j, body); err != nil {
		return err
	}
	before, err := t.enterLane(id, j)
	if err != nil {
		return err
	}
	if before < t.q.cfg.PerKey {
		if err := t.set(readyKey(id, j), one); err != nil {
			return err
		}
	}
	return t.put(id, j)
}

// setBody gives a job its body, in its row if it is short. The row is not stored yet.
func (t *tx) setBody(id string, j *row, body []byte) error {
	if j.Long = len(body) > inline; j.Long {
		j.Body = nil
		return t.set("b/"+id, body)
	}
	j.Body = body
	return nil
}

// enterLane puts a job behind those of its key, and returns how many of them there are, up to
// PerKey.
func (t *tx) enterLane(id string, j *row) (before int, err error) {
	if j.Key == "" {
		return 0, nil
	}
	lane := storage.Prefix(t.q.prefix + "k/" + j.Key + "/")
	lane.Reverse, lane.KeysOnly = true, true
	for pair, err := range t.Keys(t.ctx, lane) {
		if err != nil {
			return 0, err
		}
		if before++; before == 1 {
			n, err := strconv.ParseInt(strings.TrimPrefix(pair.Key, lane.From), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%w: key %s", storage.ErrCorrupt, pair.Key)
			}
			j.Number = n + 1
		}
		if before == t.q.cfg.PerKey {
			break
		}
	}
	return before, t.set(j.laneKey(), []byte(id))
}

// move changes when a job that is one of the first of its key can be leased, and stores it.
func (t *tx) move(id string, j *row, due int64) error {
	if err := t.del(readyKey(id, j)); err != nil {
		return err
	}
	if err := t.uncount(id, j); err != nil {
		return err
	}
	j.Due = due
	if j.Counted = t.q.cfg.Limit > 0 && j.Token != ""; j.Counted {
		if err := t.set(leaseKey(id, j), one); err != nil {
			return err
		}
	}
	if err := t.set(readyKey(id, j), one); err != nil {
		return err
	}
	return t.put(id, j)
}

// leaseKey is the key of a lease that is counted.
func leaseKey(id string, j *row) string { return "l/" + micros(j.Due) + "/" + id }

// uncount takes the lease of a job out of those that are counted.
func (t *tx) uncount(id string, j *row) error {
	if !j.Counted {
		return nil
	}
	j.Counted = false
	return t.del(leaseKey(id, j))
}

// free returns how many jobs can be leased beside those that are, up to n.
func (q *Queue) free(ctx context.Context, r storage.KVReader, now time.Time, n int) (int, error) {
	if q.cfg.Limit == 0 {
		return n, nil
	}
	free, start := q.cfg.Limit, q.prefix+"l/"
	held := storage.Range{From: start + micros(now.UnixMicro()+1), To: storage.Prefix(start).To, KeysOnly: true}
	for _, err := range r.Keys(ctx, held) {
		if err != nil {
			return 0, err
		}
		if free--; free <= 0 {
			return 0, nil
		}
	}
	return min(free, n), nil
}

// removeReady takes a job out of those that wait, and lets the next ones of its key come.
func (t *tx) removeReady(id string, j *row) error {
	if err := t.del(readyKey(id, j)); err != nil {
		return err
	}
	if err := t.uncount(id, j); err != nil || j.Key == "" {
		return err
	}
	if err := t.del(j.laneKey()); err != nil {
		return err
	}
	var next []string
	for pair, err := range t.Keys(t.ctx, storage.Prefix(t.q.prefix+"k/"+j.Key+"/")) {
		if err != nil {
			return err
		}
		if next = append(next, string(pair.Value)); len(next) == t.q.cfg.PerKey {
			break
		}
	}
	for _, id := range next { // all but the last one have come, unless PerKey was smaller before
		n, err := t.q.getRow(t.ctx, t, id)
		if err != nil {
			return err
		}
		if err := t.set(readyKey(id, n), one); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a job that has left.
func (t *tx) remove(id string, j *row) error {
	if j.Long {
		if err := t.del("b/" + id); err != nil {
			return err
		}
	}
	return t.del("m/" + id)
}

// die makes a job dead.
func (t *tx) die(id string, j *row, now time.Time) error {
	if err := t.removeReady(id, j); err != nil {
		return err
	}
	j.Dead, j.Token, j.Due = true, "", now.UnixMicro()
	if err := t.set(deadKey(id, j), one); err != nil {
		return err
	}
	return t.put(id, j)
}

// bury makes a job dead whose row cannot be read, and which would otherwise be the first of the
// queue for ever. Its body is then the row as it was. Jobs with its key, if it had one, still wait
// behind it.
func (t *tx) bury(id, due string, fault error, now time.Time) error {
	text, err := t.Get(t.ctx, t.q.prefix+"m/"+id)
	if err != nil {
		return err
	}
	for _, key := range []string{"r/" + due + "/" + id, "l/" + due + "/" + id, "b/" + id} {
		if err := t.del(key); err != nil {
			return err
		}
	}
	j := &row{Enqueued: now.UnixMicro(), Due: now.UnixMicro(), Dead: true, Error: fault.Error()}
	if err := t.setBody(id, j, text); err != nil {
		return err
	}
	if err := t.set(deadKey(id, j), one); err != nil {
		return err
	}
	return t.put(id, j)
}
