package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// maxKey is how long a key or a path may be, in bytes. It must fit into an entry of an index.
const maxKey = 2500

// valid refuses what the database cannot keep, which would cost the other steps of the group.
func (s *step) valid() error {
	if len(s.did) > maxKey {
		return fmt.Errorf("postgres: a DID of %d bytes is too long", len(s.did))
	}
	for i := range s.change.Records {
		path := s.change.Records[i].Path
		if len(path) > maxKey {
			return fmt.Errorf("postgres: a path of %d bytes is too long", len(path))
		}
		if i > 0 && s.change.Records[i-1].Path >= path {
			return fmt.Errorf("postgres: the paths of the records do not increase at %q", path)
		}
	}
	for _, w := range s.change.KV {
		if err := validKey(w.Key); w.Value != nil && err != nil {
			return err
		}
	}
	return nil
}

func validKey(key string) error {
	switch {
	case key == "":
		return errors.New("postgres: empty key")
	case len(key) > maxKey:
		return fmt.Errorf("postgres: a key of %d bytes is too long", len(key))
	}
	return nil
}

// repoRow is a repository's row without the commit's block.
type repoRow struct {
	id   int64
	set  int64 // of records
	head storage.Head
	base syntax.TID // the rev of records that have none of their own
}

const repoColumns = "id, commit_cid, data_cid, rev, base, records"

func (r row) repo(col int) (repo repoRow, err error) {
	repo = repoRow{id: r.int(col), base: syntax.TID(r.string(col + 4)), set: r.int(col + 5)}
	repo.head, err = r.head(col + 1)
	return repo, err
}

// state is what steps are held against, locked until the end of the transaction.
type state struct {
	repos map[syntax.DID]repoRow
	keys  map[syntax.DID]map[string]value
	sets  map[int64]bool // loose ones, that have not expired
}

type value struct {
	bytes   []byte
	expires int64 // 0: never
}

// lockAndRead begins a transaction, locks the repositories of a group, and reads what the steps are
// checked against. Locks are taken in the order of DIDs, so that nodes do not deadlock.
func (w *writer) lockAndRead(ctx context.Context, c *conn, group []*step) (*state, error) {
	s := &state{repos: map[syntax.DID]repoRow{}, keys: map[syntax.DID]map[string]value{}, sets: map[int64]bool{}}
	var dids, checkDIDs, checkKeys [][]byte
	var sets []int64
	for _, st := range group {
		dids = append(dids, []byte(st.did))
		if st.set != 0 {
			sets = append(sets, st.set)
		}
		for _, check := range st.change.Checks {
			checkDIDs, checkKeys = append(checkDIDs, []byte(st.did)), append(checkKeys, []byte(check.Key))
		}
	}
	slices.SortFunc(dids, bytes.Compare)
	registered := false
	var b batch
	b.Queue("BEGIN")
	w.lane.lock(&b, &registered)
	b.each(func(r row) (err error) {
		s.repos[syntax.DID(r.string(6))], err = r.repo(0)
		return err
	}, "SELECT "+repoColumns+", did FROM repo WHERE did = ANY($1) ORDER BY did FOR UPDATE", dids)
	if len(sets) > 0 {
		b.each(func(r row) error {
			s.sets[r.int(0)] = true
			return nil
		}, "SELECT records FROM loose WHERE records = ANY($1) AND expires > 0 ORDER BY records FOR UPDATE", sets)
	}
	if len(checkKeys) > 0 { // a statement of its own: it sees what those have committed who held the locks before
		b.each(func(r row) error {
			did := syntax.DID(r.string(0))
			if s.keys[did] == nil {
				s.keys[did] = map[string]value{}
			}
			s.keys[did][r.string(1)] = value{r.bytes(2), r.int(3)}
			return nil
		}, "SELECT u.did, k.key, k.value, k.expires FROM unnest($1::bytea[], $2::bytea[]) u (did, key) JOIN repo ON repo.did = u.did JOIN account_key k ON k.repo = repo.id AND k.key = u.key", checkDIDs, checkKeys)
	}
	if err := c.send(ctx, &b); err != nil {
		return nil, err
	}
	if !registered {
		return nil, errNoTicket
	}
	return s, nil
}

// check holds a step against the stored head and the account's keys.
func (st *step) check(s *state, now int64) error {
	row, found := s.repos[st.did]
	if st.kind == remove {
		if !found {
			return missing(st.did)
		}
		return nil
	}
	switch c, none := st.change, (storage.Head{}); {
	case row.head != none && c.Prev == none:
		return fmt.Errorf("%w: repository %s", storage.ErrExists, st.did)
	case !found && c.Prev != none:
		return missing(st.did)
	case row.head != c.Prev:
		return fmt.Errorf("%w: head is %s", storage.ErrConflict, row.head.Rev)
	}
	for _, check := range st.change.Checks {
		v, found := s.keys[st.did][check.Key]
		found = found && (v.expires == 0 || now < v.expires)
		if found != (check.Value != nil) || found && !bytes.Equal(v.bytes, check.Value) {
			return fmt.Errorf("%w: key %q has another value", storage.ErrConflict, check.Key)
		}
	}
	if st.set != 0 && !s.sets[st.set] {
		return errSwept
	}
	return nil
}

// decide holds the steps against what is stored, and collects what those write that pass. It is
// nil if none does.
func (w *writer) decide(ctx context.Context, group []*step, s *state) (*writes, error) {
	now := w.db.cfg.Now()
	out := &writes{last: make([]int, len(group)), floor: storage.NextSeq(w.db.newest.Load(), now)}
	any := false
	for i, st := range group {
		st.seq, st.err = 0, st.check(s, now.UnixMicro())
		if st.err != nil {
			continue
		}
		any = true
		repo, found := s.repos[st.did]
		if !found {
			id, err := w.db.numbers.next(ctx, w.db)
			if err != nil {
				return nil, err
			}
			repo = repoRow{id: id, set: id}
		}
		if err := out.add(ctx, w.db, st, repo, found); err != nil {
			return nil, err
		}
		if len(st.change.Events) > 0 {
			out.last[i] = len(out.events.dids)
		}
	}
	if !any {
		return nil, nil
	}
	return out, nil
}

// writes is what a group writes, as columns: each statement writes the rows of all steps.
type writes struct {
	floor int64 // of the first sequence number
	last  []int // for each step of the group, 1 + the index of its last event; 0: none

	heads struct {
		ids                        []int64
		commits, data, revs, block [][]byte
	}
	made struct {
		ids, sets                              []int64
		dids, commits, data, revs, block, base [][]byte
	}
	swapped struct {
		ids, sets []int64
		bases     [][]byte
	}
	removed     []int64 // ids
	deletedDIDs [][]byte
	loosened    struct{ sets, repos []int64 }
	adopted     []int64 // sets that are loose no more
	unreferred  struct {
		sets  []int64
		paths [][]byte
	}
	deleted struct {
		sets  []int64
		paths [][]byte
	}
	records struct {
		sets                    []int64
		paths, cids, revs, data [][]byte
	}
	refs struct {
		sets               []int64
		blobs, paths, revs [][]byte
	}
	unset struct {
		repos []int64
		keys  [][]byte
	}
	keys struct {
		repos, expires []int64
		keys, values   [][]byte
	}
	events struct {
		dids, kinds, payloads [][]byte
		times, weights        []int64
		upTo                  []int64 // how many numbers this event and those before it take
	}
}

// numbers is how many sequence numbers the events take.
func (o *writes) numbers() int64 {
	if n := len(o.events.upTo); n > 0 {
		return o.events.upTo[n-1]
	}
	return 0
}

// add adds what a step writes.
func (o *writes) add(ctx context.Context, db *DB, st *step, repo repoRow, found bool) error {
	c := st.change
	set := repo.set
	switch st.kind {
	case remove:
		o.removed = append(o.removed, repo.id)
		o.deletedDIDs = append(o.deletedDIDs, []byte(st.did))
		o.loosened.sets, o.loosened.repos = append(o.loosened.sets, repo.set), append(o.loosened.repos, repo.id)
	case replace:
		if set = st.set; set == 0 {
			var err error
			if set, err = db.numbers.next(ctx, db); err != nil {
				return err
			}
		} else {
			o.adopted = append(o.adopted, set)
		}
		if found {
			o.swapped.ids, o.swapped.sets, o.swapped.bases = append(o.swapped.ids, repo.id), append(o.swapped.sets, set), append(o.swapped.bases, []byte(c.Head.Rev))
			o.loosened.sets, o.loosened.repos = append(o.loosened.sets, repo.set), append(o.loosened.repos, 0)
		}
	case apply:
		o.addRecords(c, set, found)
	}
	if st.kind != remove {
		o.addHead(st, repo.id, set, found)
	}
	o.addKeys(c.KV, repo.id)
	for i := range c.Events {
		e, ev := &o.events, &c.Events[i]
		e.dids, e.kinds, e.payloads = append(e.dids, []byte(ev.DID)), append(e.kinds, []byte(ev.Kind)), append(e.payloads, nonNil(ev.Payload))
		e.times, e.weights = append(e.times, ev.Time.UnixMilli()), append(e.weights, ev.Numbers())
		e.upTo = append(e.upTo, o.numbers()+ev.Numbers())
	}
	return nil
}

func (o *writes) addHead(st *step, id, set int64, found bool) {
	c := st.change
	commit, data, rev := cidBytes(c.Head.Commit), cidBytes(c.Head.Data), []byte(c.Head.Rev)
	switch {
	case !found:
		base := []byte{}
		if st.kind == replace {
			base = rev
		}
		m := &o.made
		m.ids, m.sets, m.dids = append(m.ids, id), append(m.sets, set), append(m.dids, []byte(st.did))
		m.commits, m.data, m.revs, m.block = append(m.commits, commit), append(m.data, data), append(m.revs, rev), append(m.block, nonNil(c.Commit))
		m.base = append(m.base, base)
	case c.Head != c.Prev:
		h := &o.heads
		h.ids, h.commits, h.data = append(h.ids, id), append(h.commits, commit), append(h.data, data)
		h.revs, h.block = append(h.revs, rev), append(h.block, nonNil(c.Commit))
	}
}

func (o *writes) addRecords(c *storage.Change, set int64, found bool) {
	rev := []byte(c.Head.Rev)
	for i := range c.Records {
		r := &c.Records[i]
		path := []byte(r.Path)
		if found {
			o.unreferred.sets, o.unreferred.paths = append(o.unreferred.sets, set), append(o.unreferred.paths, path)
		}
		if !r.CID.Defined() {
			o.deleted.sets, o.deleted.paths = append(o.deleted.sets, set), append(o.deleted.paths, path)
			continue
		}
		t := &o.records
		t.sets, t.paths, t.cids = append(t.sets, set), append(t.paths, path), append(t.cids, r.CID.Bytes())
		t.revs, t.data = append(t.revs, rev), append(t.data, nonNil(r.Data))
		for _, blob := range distinct(r.Blobs) {
			f := &o.refs
			f.sets, f.blobs, f.paths, f.revs = append(f.sets, set), append(f.blobs, cidBytes(blob)), append(f.paths, path), append(f.revs, rev)
		}
	}
}

// distinct returns a list without what is in it twice.
func distinct(list []cid.Cid) []cid.Cid {
	if len(list) < 2 {
		return list
	}
	seen := make(map[cid.Cid]bool, len(list))
	return slices.DeleteFunc(slices.Clone(list), func(c cid.Cid) bool {
		again := seen[c]
		seen[c] = true
		return again
	})
}

// addKeys adds the last write of each key.
func (o *writes) addKeys(list []storage.KVWrite, id int64) {
	seen := make(map[string]bool, len(list))
	for i := len(list) - 1; i >= 0; i-- {
		w := &list[i]
		if seen[w.Key] {
			continue
		}
		seen[w.Key] = true
		if w.Value == nil {
			o.unset.repos, o.unset.keys = append(o.unset.repos, id), append(o.unset.keys, []byte(w.Key))
			continue
		}
		expires := int64(0)
		if !w.Expires.IsZero() {
			expires = max(1, w.Expires.UnixMicro())
		}
		k := &o.keys
		k.repos, k.keys, k.values, k.expires = append(k.repos, id), append(k.keys, []byte(w.Key)), append(k.values, w.Value), append(k.expires, expires)
	}
}

// queueRows queues the statements for all but the log.
func (o *writes) queueRows(b *batch) {
	if h := &o.heads; len(h.ids) > 0 {
		b.Queue("UPDATE repo SET commit_cid = u.c, data_cid = u.d, rev = u.r, block = u.b FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[]) u (id, c, d, r, b) WHERE repo.id = u.id",
			h.ids, h.commits, h.data, h.revs, h.block)
	}
	if m := &o.made; len(m.ids) > 0 {
		b.Queue("INSERT INTO repo (id, records, did, commit_cid, data_cid, rev, block, base) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[])",
			m.ids, m.sets, m.dids, m.commits, m.data, m.revs, m.block, m.base)
	}
	if s := &o.swapped; len(s.ids) > 0 {
		b.Queue("UPDATE repo SET base = u.b, records = u.s FROM unnest($1::bigint[], $2::bytea[], $3::bigint[]) u (id, b, s) WHERE repo.id = u.id", s.ids, s.bases, s.sets)
	}
	if len(o.adopted) > 0 {
		b.Queue("DELETE FROM loose WHERE records = ANY($1)", o.adopted)
	}
	if len(o.loosened.sets) > 0 {
		b.Queue("INSERT INTO loose (records, repo, expires) SELECT u.s, u.r, 0 FROM unnest($1::bigint[], $2::bigint[]) u (s, r)", o.loosened.sets, o.loosened.repos)
	}
	if len(o.removed) > 0 {
		b.Queue("DELETE FROM repo WHERE id = ANY($1)", o.removed)
		// All events of the account have numbers up to the newest: who has made them held the lock.
		b.Queue("INSERT INTO gone (did, seq) SELECT u.did, log.last FROM unnest($1::bytea[]) u (did), log ON CONFLICT (did) DO UPDATE SET seq = excluded.seq", o.deletedDIDs)
	}
	if u := &o.unreferred; len(u.sets) > 0 {
		b.Queue("DELETE FROM blob_ref USING unnest($1::bigint[], $2::bytea[]) u (set, path) WHERE blob_ref.set = u.set AND blob_ref.path = u.path", u.sets, u.paths)
	}
	if d := &o.deleted; len(d.sets) > 0 {
		b.Queue("DELETE FROM record USING unnest($1::bigint[], $2::bytea[]) u (set, path) WHERE record.set = u.set AND record.path = u.path", d.sets, d.paths)
	}
	if r := &o.records; len(r.sets) > 0 {
		b.Queue("INSERT INTO record (set, path, cid, rev, data) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[]) ON CONFLICT (set, path) DO UPDATE SET cid = excluded.cid, rev = excluded.rev, data = excluded.data",
			r.sets, r.paths, r.cids, r.revs, r.data)
	}
	if f := &o.refs; len(f.sets) > 0 {
		b.Queue("INSERT INTO blob_ref (set, blob, path, rev) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[])", f.sets, f.blobs, f.paths, f.revs)
	}
	if u := &o.unset; len(u.repos) > 0 {
		b.Queue("DELETE FROM account_key k USING unnest($1::bigint[], $2::bytea[]) u (repo, key) WHERE k.repo = u.repo AND k.key = u.key", u.repos, u.keys)
	}
	if k := &o.keys; len(k.repos) > 0 {
		b.Queue("INSERT INTO account_key (repo, key, value, expires) SELECT u.r, u.k, u.v, nullif(u.e, 0) FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[]) u (r, k, v, e) ON CONFLICT (repo, key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
			k.repos, k.keys, k.values, k.expires)
	}
}

// queue queues the statements, the one that takes the sequencer at the end.
func (o *writes) queue(b *batch, w *writer, number int64, last *int64) {
	o.queueRows(b)
	if e := &o.events; len(e.dids) > 0 {
		b.each(func(r row) error {
			*last = r.int(0)
			return nil
		}, `WITH s AS (UPDATE log SET last = greatest(last, $1::bigint - 1) + $2::bigint RETURNING last),
			e AS (INSERT INTO event (seq, did, kind, payload, time, weight) SELECT s.last - $2::bigint + u.n, u.d, u.k, u.p, u.t, u.w
				FROM s, unnest($3::bytea[], $4::bytea[], $5::bytea[], $6::bigint[], $10::bigint[], $11::bigint[]) u (d, k, p, t, w, n))
			UPDATE ticket SET last = $9, seq = s.last, seen = now() FROM s WHERE node = $7 AND lane = $8 RETURNING s.last`,
			o.floor, o.numbers(), e.dids, e.kinds, e.payloads, e.times, w.db.node[:], w.lane.id, number, e.weights, e.upTo)
	} else {
		w.lane.writeNumber(b, number)
	}
}

// done gives each step its number; last is that of the last event of all.
func (o *writes) done(group []*step, last int64) {
	for i, st := range group {
		if st.err == nil && o.last[i] > 0 {
			st.seq = last - o.numbers() + o.events.upTo[o.last[i]-1]
		}
	}
}
