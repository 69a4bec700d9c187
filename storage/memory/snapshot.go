package memory

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/storage"
)

var _ storage.Snapshotter = repos{}

// Snapshot implements storage.Snapshotter. While it is open, what is overwritten and deleted stays
// in memory. It ends after Config.SnapshotTime.
func (d repos) Snapshot(ctx context.Context) (storage.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now, at := d.now(), db{}
	at.state, _ = d.read()
	at.now = func() time.Time { return now }
	view := storage.Store{Repos: repos{&at}, Events: events{&at}, KV: kv{db: &at}}
	return storage.NewSnapshot(view, d.life, func() error {
		at.mu.Lock()
		defer at.mu.Unlock()
		at.state = state{} // which is all that it costs
		return nil
	}), nil
}
