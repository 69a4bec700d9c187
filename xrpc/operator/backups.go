package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/storage"
)

// Backup is a successful or failed backup.
type Backup struct {
	At time.Time `json:"at"`
	// Path is its place, as the operator named it.
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Blobs int64  `json:"blobs,omitempty"`
	// Problem is what was wrong; empty: nothing. Good is set if the backup can be restored
	// nevertheless.
	Problem string `json:"problem,omitempty"`
	Good    bool   `json:"good"`
}

// Backups keeps notes of backups in a store, for programs that make them, such as a command that
// runs beside the server. KV is required. It is safe for concurrent use.
type Backups struct{ KV storage.KV }

const (
	backupPrefix = "operator/backup/"
	// keptBackups is how many notes are kept, and maxBackup how long one may be in bytes.
	keptBackups = 30
	maxBackup   = 4 << 10
	maxPath     = 500
)

// Note adds a note, and deletes the oldest surplus ones, but never that of the last good backup.
func (b Backups) Note(ctx context.Context, x Backup) error {
	x.At = x.At.UTC()
	x.Path, x.Problem = short(x.Path, maxPath), short(x.Problem, maxPath)
	doc, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return b.KV.Write(ctx, func(tx storage.KVTx) error {
		if err := tx.Set(ctx, fmt.Sprintf("%s%015d", backupPrefix, max(x.At.UnixMilli(), 0)), doc, time.Time{}); err != nil {
			return err
		}
		rng := storage.Prefix(backupPrefix)
		rng.Reverse = true
		var others []string
		good := 0
		for pair, err := range tx.Keys(ctx, rng) {
			if err != nil {
				return err
			}
			x, err := decodeBackup(pair.Value)
			if good == 0 && err == nil && x.Good {
				good = 1 // it is kept, however often it was tried since
				continue
			}
			others = append(others, pair.Key)
		}
		old := others[min(len(others), keptBackups-good):]
		for _, key := range old {
			if err := tx.Delete(ctx, key); err != nil {
				return err
			}
		}
		return nil
	})
}

// List returns the notes of the recent backups, latest first.
func (b Backups) List(ctx context.Context) (list []Backup, err error) {
	rng := storage.Prefix(backupPrefix)
	rng.Reverse = true
	err = b.KV.Read(ctx, func(r storage.KVReader) error {
		list = nil
		for pair, err := range r.Keys(ctx, rng) {
			if err != nil {
				return err
			}
			x, err := decodeBackup(pair.Value)
			if err != nil {
				return fmt.Errorf("operator: %s: %w", pair.Key, err)
			}
			if list = append(list, x); len(list) == keptBackups {
				break
			}
		}
		return nil
	})
	return list, err
}

// Last returns the last backup that was tried, and the last good one. A missing one is zero.
func (b Backups) Last(ctx context.Context) (tried, good Backup, err error) {
	list, err := b.List(ctx)
	if len(list) > 0 {
		tried = list[0]
	}
	for _, x := range list {
		if x.Good {
			return tried, x, err
		}
	}
	return tried, good, err
}

func decodeBackup(doc []byte) (x Backup, err error) {
	if len(doc) > maxBackup {
		return x, fmt.Errorf("a note of %d bytes", len(doc))
	}
	return x, exactjson.UnmarshalPlain(doc, &x)
}
