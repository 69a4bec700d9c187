package bucket

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// ErrNoObjects: the store has blobs, but the bucket has none of their objects. It may be the wrong
// bucket.
var ErrNoObjects = errors.New("bucket: none of the blobs' objects is in the bucket")

// Report is the result of Check.
type Report struct {
	Blobs int   // rows whose object is there and has the right size
	Bytes int64 // of those blobs
	Gone  int   // objects of deleted blobs, to be deleted
	// Orphans are objects that no row names: those of running uploads, and those that Collect will
	// delete.
	Orphans     int
	OrphanBytes int64
	Lost        int // rows whose object is missing or has another size
}

// Lost is a blob whose object is missing or has another size.
type Lost struct {
	DID    syntax.DID
	CID    cid.Cid
	Object string // its full name in the bucket
	Size   int64  // that it should have
	Has    int64  // its size; -1: it is missing
}

// Check compares all rows with the bucket's listing, and calls fn for each lost blob. It does not
// read objects; to compare bytes with CIDs, open the blobs or call Problems. The store may be used
// meanwhile.
func (s *Store) Check(ctx context.Context, fn func(Lost) error) (*Report, error) {
	rep := new(Report)
	if err := s.check(ctx, rep, fn); err != nil {
		return rep, fail("check", err)
	}
	return rep, nil
}

// objectRow is the row of an object.
type objectRow struct {
	name string
	blob blobID // empty: it is to be deleted
	size int64
}

func (s *Store) check(ctx context.Context, rep *Report, fn func(Lost) error) error {
	// Rows are read before the objects of the same range are listed, so that an object that is
	// missing in the listing was missing or was deleted with its row.
	page := storage.Prefix(objectPrefix)
	from := "" // objects up to here were looked at
	for {
		rows, err := s.objectRows(ctx, page)
		if err != nil {
			return err
		}
		to := "" // up to here, "" is the end
		if len(rows) == sweepPage {
			to = rows[len(rows)-1].name
			page.From = objectPrefix + to + "\x00"
		}
		if err := s.checkPage(ctx, rep, rows, from, to, fn); err != nil {
			return err
		}
		if to == "" {
			return nil
		}
		from = to
	}
}

// objectRows returns the next rows of objects.
func (s *Store) objectRows(ctx context.Context, page storage.Range) (rows []objectRow, err error) {
	err = s.kv.Read(ctx, func(r storage.KVReader) error {
		rows = nil
		for pair, err := range r.Keys(ctx, page) {
			if err != nil {
				return err
			}
			o := objectRow{name: strings.TrimPrefix(pair.Key, objectPrefix)}
			if string(pair.Value) != noBlob {
				o.blob = blobID(pair.Value)
				x, err := getRow(ctx, r, o.blob)
				if err != nil {
					return fmt.Errorf("%w: %s leads to no row: %w", storage.ErrCorrupt, pair.Key, err)
				}
				if x.Object != o.name {
					return fmt.Errorf("%w: %s leads to the row of another object, %s", storage.ErrCorrupt, pair.Key, x.Object)
				}
				o.size = x.Size
			}
			if rows = append(rows, o); len(rows) == sweepPage {
				break
			}
		}
		return nil
	})
	return rows, err
}

// checkPage compares rows with the objects whose names are greater than from and at most to.
func (s *Store) checkPage(ctx context.Context, rep *Report, rows []objectRow, from, to string, fn func(Lost) error) error {
	lost := func(o objectRow, has int64) error {
		if o.blob == "" {
			return nil // it was deleted, the note of it not yet
		}
		did, c, err := o.blob.split()
		if err != nil {
			return err
		}
		if x, err := s.row(ctx, did, c); errors.Is(err, storage.ErrNotFound) || err == nil && x.Object != o.name {
			return nil // deleted or uploaded again meanwhile
		} else if err != nil {
			return err
		}
		rep.Lost++
		return fn(Lost{DID: did, CID: c, Object: s.dir + o.name, Size: o.size, Has: has})
	}
	for obj, err := range s.bucket.List(ctx, s.dir, s.dir+from) {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(obj.Name, s.dir)
		if to != "" && name > to {
			break
		}
		for len(rows) > 0 && rows[0].name < name {
			if err := lost(rows[0], -1); err != nil {
				return err
			}
			rows = rows[1:]
		}
		switch {
		case len(rows) == 0 || rows[0].name != name:
			rep.Orphans++
			rep.OrphanBytes += obj.Size
			continue
		case rows[0].blob == "":
			rep.Gone++
		case rows[0].size != obj.Size:
			if err := lost(rows[0], obj.Size); err != nil {
				return err
			}
		default:
			rep.Blobs++
			rep.Bytes += obj.Size
		}
		rows = rows[1:]
	}
	for _, o := range rows {
		if err := lost(o, -1); err != nil {
			return err
		}
	}
	return nil
}

// Ping makes one small request to the bucket, and returns its error.
func (s *Store) Ping(ctx context.Context) error {
	for _, err := range s.bucket.List(ctx, s.dir+"-", "") { // no object is called like that
		if err != nil {
			return fail("ping", err)
		}
	}
	return nil
}

// Probe lists a few objects of the bucket. It returns an error if the bucket does not answer. It
// returns ErrNoObjects if the store has blobs and none of these objects belongs to it. Call it when
// a server starts.
func (s *Store) Probe(ctx context.Context) error {
	rows, err := s.objectRows(ctx, storage.Prefix(objectPrefix))
	if err != nil {
		return fail("probe", err)
	}
	wanted := map[string]bool{}
	for _, o := range rows {
		if o.blob != "" {
			wanted[o.name] = true
		}
	}
	looked := 0
	for o, err := range s.bucket.List(ctx, s.dir, "") {
		if err != nil {
			return fail("probe", err)
		}
		if looked++; wanted[strings.TrimPrefix(o.Name, s.dir)] {
			return nil
		}
		if looked == sweepPage {
			return nil // it is not the wrong bucket: the names begin with this store's number
		}
	}
	if len(wanted) > 0 {
		return fmt.Errorf("%w (names begin with %s)", ErrNoObjects, s.dir)
	}
	return nil
}
