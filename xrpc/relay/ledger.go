package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// ledger is what the relay keeps in the host's key-value store, besides the accounts. Rows about
// accounts are indexes: each is written before the change of the account that it leads to, and who
// reads one looks at the account. So an index may lead to nothing, and never lacks anything.
type ledger struct{ kv storage.KV }

// The keys. Names of hosts, DIDs and NSIDs have no slash.
const (
	keyID         = "relay/id"          // names the relay, for the loop guard
	keyHost       = "relay/host/"       // name: hostRow
	keyCursor     = "relay/cursor/"     // name: the number of the last message that was dealt with
	keyCount      = "relay/count/"      // name: countRow
	keyBan        = "relay/ban/"        // name or domain: Ban
	keyNew        = "relay/new/"        // day, and day "/" network: how many hosts requestCrawl has added
	keyMember     = "relay/member/"     // host "/" DID: memberRow
	keyCollection = "relay/collection/" // NSID "/" DID
	keyGone       = "relay/gone/"       // DID: tombstone
	keyLog        = "relay/log/"        // number: logRow
	keyWork       = "relay/work/"       // DID: the host that it is to be repaired from
	keyCompare    = "relay/compare/"    // name: its repositories are to be compared; the value is of this request
)

// Keys in the namespace of an account.
const (
	keyState = "relay"             // state
	keyHas   = "relay/collection/" // NSID: there are records
)

// present is the value of keys that have nothing to say.
var present = []byte("1")

// hostRow is what is stored of a host, beside its cursor and its counts.
type hostRow struct {
	Added  time.Time `json:"added"`
	Relay  bool      `json:"relay,omitempty"`
	Local  bool      `json:"local,omitempty"`
	Policy *Policy   `json:"policy,omitempty"`
	Limits *Limits   `json:"limits,omitempty"`

	cursor int64
	count  countRow
}

// countRow counts the accounts of a host: rows with keyMember.
type countRow struct {
	Accounts  int64 `json:"accounts"`
	Throttled int64 `json:"throttled,omitempty"` // of them
	// Lost is set if more accounts were throttled than could be noted.
	Lost bool `json:"lost,omitempty"`
	// Version grows with each change, so that of two counts the newer one is known: updates may be
	// reported out of order.
	Version int64 `json:"version,omitempty"`
}

// member is what keyMember says of an account: that it counts, or that it is one too many.
type member string

const (
	counted   member = "1"
	throttled member = "t"
)

// tombstone is what is kept of an account that was deleted, or taken down.
type tombstone struct {
	// Status is commit.Deleted, or the status given to Takedown.
	Status string    `json:"status"`
	Local  bool      `json:"local,omitempty"` // by this relay
	At     time.Time `json:"at"`
	// From is the host that the account belonged to.
	From string `json:"from,omitempty"`
	// State is the account's new state.
	State state `json:"state"`
	// Pending is set while the repository may still exist.
	Pending bool `json:"pending,omitempty"`
}

func get[T any](ctx context.Context, r storage.KVReader, key string, to *T) (found bool, err error) {
	text, err := r.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		if err = exactjson.Unmarshal(text, to); err != nil {
			err = fmt.Errorf("%w: key %q: %w", storage.ErrCorrupt, key, err)
		}
	}
	return err == nil, err
}

func set(ctx context.Context, tx storage.KVTx, key string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Set(ctx, key, text, time.Time{})
}

// load reads all hosts and bans, and gives the relay a name if it has none.
func (l *ledger) load(ctx context.Context, fresh string) (rows map[string]hostRow, bans map[string]Ban, id string, err error) {
	err = l.kv.Write(ctx, func(tx storage.KVTx) error {
		rows, bans = make(map[string]hostRow), make(map[string]Ban)
		if found, err := get(ctx, tx, keyID, &id); err != nil {
			return err
		} else if !found {
			id = fresh
			if err := set(ctx, tx, keyID, id); err != nil {
				return err
			}
		}
		for pair, err := range tx.Keys(ctx, storage.Prefix(keyHost)) {
			if err != nil {
				return err
			}
			row, name := hostRow{}, strings.TrimPrefix(pair.Key, keyHost)
			if err := exactjson.Unmarshal(pair.Value, &row); err != nil {
				return fmt.Errorf("%w: key %q: %w", storage.ErrCorrupt, pair.Key, err)
			}
			if _, err := get(ctx, tx, keyCursor+name, &row.cursor); err != nil {
				return err
			}
			if _, err := get(ctx, tx, keyCount+name, &row.count); err != nil {
				return err
			}
			rows[name] = row
		}
		for pair, err := range tx.Keys(ctx, storage.Prefix(keyBan)) {
			if err != nil {
				return err
			}
			ban := Ban{}
			if err := exactjson.Unmarshal(pair.Value, &ban); err != nil {
				return fmt.Errorf("%w: key %q: %w", storage.ErrCorrupt, pair.Key, err)
			}
			bans[ban.Name] = ban
		}
		return nil
	})
	return rows, bans, id, err
}

// write runs a transaction.
func (l *ledger) write(ctx context.Context, fn func(tx storage.KVTx) error) error {
	return l.kv.Write(ctx, fn)
}

// saveCursors stores the cursors of hosts.
func (l *ledger) saveCursors(ctx context.Context, cursors map[string]int64) error {
	return l.write(ctx, func(tx storage.KVTx) error {
		for name, seq := range cursors {
			if err := tx.Set(ctx, keyCursor+name, strconv.AppendInt(nil, seq, 10), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// enrol notes that an account is one of a host, and no longer of another, if these are not empty,
// and brings their counts up to date in the same transaction. most is how many accounts the new one
// may have, unless it is negative; who comes later is throttled. If even those are too many, the
// account is not noted, and the member is empty.
func (l *ledger) enrol(ctx context.Context, did syntax.DID, from, to string, most int64) (as member, counts map[string]countRow, err error) {
	err = l.write(ctx, func(tx storage.KVTx) error {
		as, counts = "", make(map[string]countRow)
		if from != "" && from != to {
			if err := l.move(ctx, tx, counts, from, did, func(member, *countRow) member { return "" }); err != nil {
				return err
			}
		}
		if to == "" {
			return nil
		}
		return l.move(ctx, tx, counts, to, did, func(now member, c *countRow) member {
			switch {
			case now == counted || most < 0 || c.Accounts-c.Throttled < most:
				as = counted
			case now == throttled || c.Throttled < 10*most+1000:
				as = throttled
			default:
				c.Lost = true
			}
			return as
		})
	})
	return as, counts, err
}

// move changes what an account is to a host, and the host's counts.
func (l *ledger) move(ctx context.Context, tx storage.KVTx, counts map[string]countRow, host string, did syntax.DID, decide func(member, *countRow) member) error {
	key := keyMember + host + "/" + string(did)
	text, err := tx.Get(ctx, key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	err = nil // it may be none of the host's: what was written here was not carried out in the account
	var c countRow
	if _, err := get(ctx, tx, keyCount+host, &c); err != nil {
		return err
	}
	was, old := c, member(text)
	as := decide(old, &c)
	c.add(old, -1)
	c.add(as, 1)
	if c != was {
		c.Version++
	}
	counts[host] = c
	switch {
	case old == as:
	case as == "":
		err = tx.Delete(ctx, key)
	default:
		err = tx.Set(ctx, key, []byte(as), time.Time{})
	}
	if err != nil || c == was {
		return err
	}
	return set(ctx, tx, keyCount+host, c)
}

func (c *countRow) add(m member, n int64) {
	switch m {
	case counted:
		c.Accounts += n
	case throttled:
		c.Accounts += n
		c.Throttled += n
	}
}

// mark writes index rows.
func (l *ledger) mark(ctx context.Context, keys map[string][]byte) error {
	return l.write(ctx, func(tx storage.KVTx) error {
		for key, value := range keys {
			if err := tx.Set(ctx, key, value, time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// unmark deletes index rows.
func (l *ledger) unmark(ctx context.Context, keys ...string) error {
	return l.write(ctx, func(tx storage.KVTx) error {
		for _, key := range keys {
			if err := tx.Delete(ctx, key); err != nil {
				return err
			}
		}
		return nil
	})
}

// toCompare returns the last request to compare a host's repositories that is not carried out yet.
func (l *ledger) toCompare(ctx context.Context, host string) (request string, found bool, err error) {
	err = l.kv.Read(ctx, func(kv storage.KVReader) error {
		found, err = get(ctx, kv, keyCompare+host, &request)
		return err
	})
	return request, found, err
}

// compared notes that a request was carried out. A later one stays.
func (l *ledger) compared(ctx context.Context, host, request string) error {
	return l.write(ctx, func(tx storage.KVTx) error {
		var last string
		if _, err := get(ctx, tx, keyCompare+host, &last); err != nil || last != request {
			return err
		}
		return tx.Delete(ctx, keyCompare+host)
	})
}

// tombstone returns what is kept of an account that is gone.
func (l *ledger) tombstone(ctx context.Context, did syntax.DID) (row *tombstone, err error) {
	err = l.kv.Read(ctx, func(kv storage.KVReader) error {
		row = new(tombstone)
		found, err := get(ctx, kv, keyGone+string(did), row)
		if !found {
			row = nil
		}
		return err
	})
	return row, err
}

// page yields the keys with a prefix after one, at most limit of them.
func (l *ledger) page(ctx context.Context, prefix, after string, limit int) (list []storage.KVPair, err error) {
	r := storage.Prefix(prefix)
	if after != "" {
		r.From = prefix + after + "\x00"
	}
	err = l.kv.Read(ctx, func(kv storage.KVReader) error {
		list = nil
		for pair, err := range kv.Keys(ctx, r) {
			if err != nil {
				return err
			}
			if len(list) == limit {
				break
			}
			pair.Key = strings.TrimPrefix(pair.Key, prefix)
			list = append(list, pair)
		}
		return nil
	})
	return list, err
}
