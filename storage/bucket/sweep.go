package bucket

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/storage"
)

// sweepPage is how many names of the listing are compared with the rows at a time.
const sweepPage = 1000

// sweep deletes objects that no row names and that are older than the age for that, from where the
// last call stopped. It looks at a bounded number of objects and returns how many it deleted.
//
// The order of its steps makes it safe beside uploads: (1) the cutoff is stored, after which no
// upload from before it can be entered; (2) objects from before it are listed; (3) rows are read.
// So an object that has no row then will never have one.
func (s *Store) sweep(ctx context.Context) (deleted int, err error) {
	before := s.now().Add(-s.orphanAge).UnixMicro()
	from := ""
	err = s.kv.Write(ctx, func(tx storage.KVTx) error {
		old, err := number(ctx, tx, keyCutoff)
		if err != nil {
			return err
		}
		from = ""
		if b, err := tx.Get(ctx, keySweep); err == nil {
			from = string(b)
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if before <= old {
			before = old // by another clock, or by this one before it was set back
			return nil
		}
		return tx.Set(ctx, keyCutoff, []byte(strconv.FormatInt(before, 10)), noExpiry)
	})
	if err != nil {
		return 0, err
	}
	end, looked, done := nameAt(before), 0, true
	var page []string
	flush := func() error {
		n, err := s.deleteOrphans(ctx, page)
		deleted += n
		page = page[:0]
		return err
	}
	last := from
	for o, err := range s.bucket.List(ctx, s.dir, s.dir+from) {
		if err != nil {
			return deleted, err
		}
		name := strings.TrimPrefix(o.Name, s.dir)
		if name >= end {
			break
		}
		if looked++; looked > s.sweepObjects {
			done = false
			break
		}
		last = name
		if isName(name) { // nothing that somebody else has put there is touched
			page = append(page, name)
		}
		if len(page) == sweepPage {
			if err := flush(); err != nil {
				return deleted, err
			}
		}
	}
	if err := flush(); err != nil {
		return deleted, err
	}
	if done {
		last = "" // from the start the next time
	}
	if last == from {
		return deleted, nil
	}
	return deleted, s.kv.Write(ctx, func(tx storage.KVTx) error {
		if last == "" {
			return tx.Delete(ctx, keySweep)
		}
		return tx.Set(ctx, keySweep, []byte(last), noExpiry)
	})
}

// deleteOrphans deletes those of some objects that no row names. Objects that are noted to be
// deleted later stay.
func (s *Store) deleteOrphans(ctx context.Context, names []string) (int, error) {
	if len(names) == 0 {
		return 0, nil
	}
	orphans := make(map[string]bool, len(names))
	err := s.kv.Read(ctx, func(r storage.KVReader) error {
		for _, n := range names {
			orphans[n] = true
		}
		objects := storage.Range{From: objectPrefix + names[0], To: objectPrefix + names[len(names)-1] + "\x00", KeysOnly: true}
		for pair, err := range r.Keys(ctx, objects) {
			if err != nil {
				return err
			}
			delete(orphans, strings.TrimPrefix(pair.Key, objectPrefix))
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if len(orphans) == 0 {
		return 0, nil
	}
	return len(orphans), s.bucket.Delete(ctx, s.objects(slices.Collect(maps.Keys(orphans)))...)
}
