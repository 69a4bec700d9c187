package cloudflare

import (
	"slices"

	"github.com/pdskit/pdskit/storage/durable"
)

// Limits on what recent keeps.
const (
	recentValue = 1 << 10   // bytes of a value
	recentBytes = 128 << 10 // of all rows
	recentPage  = 4 << 10   // of a page of a scan
	recentPages = 8
)

// recent is what was read of a table lately: small rows, or that there is none, and short pages of
// scans. A call of the object costs some 80 microseconds, and a request asks for the same few rows
// several times: who is signed in, what the account may do, what is due. Nobody else writes to a
// table, so all in it is as it is stored, or as an open transaction has written it. The zero value
// is empty.
type recent struct {
	rows  map[string]recentRow
	bytes int
	pages []scanned // the oldest first
}

type recentRow struct {
	value  []byte
	exists bool
}

// scanned is the answer to a scan of some rows. more is whether there are others behind them.
type scanned struct {
	scan  durable.Scan
	rows  int
	bytes []byte
	more  bool
}

// get returns a copy of a row, if it is known.
func (r *recent) get(key string) (value []byte, there, known bool) {
	row, known := r.rows[key]
	return append([]byte{}, row.value...), row.exists, known
}

// keep notes what a key has.
func (r *recent) keep(key string, value []byte, there bool) {
	if old, ok := r.rows[key]; ok {
		r.bytes -= len(key) + len(old.value)
		delete(r.rows, key)
	}
	if len(value) > recentValue || len(key) > recentValue {
		return
	}
	if r.bytes > recentBytes || r.rows == nil {
		r.rows, r.bytes = make(map[string]recentRow), 0
	}
	r.bytes += len(key) + len(value)
	r.rows[key] = recentRow{append([]byte{}, value...), there}
}

// find returns the page of a scan, if it is known.
func (r *recent) find(s durable.Scan, rows int) (p scanned, known bool) {
	for _, p := range r.pages {
		if p.scan == s && p.rows == rows {
			return p, true
		}
	}
	return scanned{}, false
}

// add notes a page, which is not known.
func (r *recent) add(p scanned) {
	if len(p.bytes) > recentPage || len(p.scan.From)+len(p.scan.To) > recentPage {
		return
	}
	if len(r.pages) == recentPages {
		r.pages = slices.Delete(r.pages, 0, 1)
	}
	r.pages = append(r.pages, p)
}

// set notes that a row is written. Rows that nobody has asked for are not kept.
func (r *recent) set(key string, value []byte) {
	if _, ok := r.rows[key]; ok {
		r.keep(key, value, true)
	}
	r.pages = slices.DeleteFunc(r.pages, func(p scanned) bool { return within(key, p.scan.From, p.scan.To) })
}

// delete notes that a range is deleted.
func (r *recent) delete(from, to string) {
	if to == from+"\x00" {
		if _, ok := r.rows[from]; ok {
			r.keep(from, nil, false)
		}
	} else {
		for key := range r.rows {
			if within(key, from, to) {
				r.keep(key, nil, false)
			}
		}
	}
	r.pages = slices.DeleteFunc(r.pages, func(p scanned) bool {
		return (to == "" || p.scan.From < to) && (p.scan.To == "" || from < p.scan.To)
	})
}

// forget notes that all may have changed, as after a transaction that was undone.
func (r *recent) forget() { *r = recent{} }

// within reports whether a key is in a range; an empty to is no bound.
func within(key, from, to string) bool { return key >= from && (to == "" || key < to) }
