package transfer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Keys of the host. None of them is copied.
const (
	ownKeys  = "move/"
	keyMark  = ownKeys + "target" // the mark of a target
	keyBlobs = ownKeys + "blobs"  // the kind of place where the blobs of this store are
	keyID    = ownKeys + "id"     // of a source
)

// note is what the source keeps of a move while it is watched or shut.
type note struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Hint  string `json:"hint,omitempty"`
	Turn  string `json:"turn,omitempty"` // of the Mover that works on it
	Left  bool   `json:"left,omitempty"` // the target has taken its place
	Blobs string `json:"blobs,omitempty"`
	// OnlyBlobs is set if only the blobs are moved, and the store stays.
	OnlyBlobs bool `json:"onlyBlobs,omitempty"`
}

func (n note) String() string {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // strings and booleans
	}
	return string(b)
}

func parseNote(s string) (n note, err error) {
	if s == "" {
		return n, nil
	}
	if err = exactjson.Unmarshal([]byte(s), &n); err != nil {
		err = fmt.Errorf("%w: the note of a move: %w", storage.ErrCorrupt, err)
	}
	return n, err
}

// markState is where a target stands.
type markState string

const (
	loading markState = "loading"
	ready   markState = "ready"
	taken   markState = "taken"    // a server has begun to use it
	givenUp markState = "given up" // the source was given back
)

// mark is what the target keeps of a move.
type mark struct {
	State markState `json:"state"`
	Move  string    `json:"move"`            // ID of the note
	Turn  string    `json:"turn,omitempty"`  // of the Mover that works on it
	From  string    `json:"from"`            // keyID of the source
	After string    `json:"after,omitempty"` // all accounts up to this one were copied
	All   bool      `json:"all,omitempty"`   // all that was there at the beginning was copied
	Blobs string    `json:"blobs,omitempty"` // see Config.Blobs
	Only  bool      `json:"only,omitempty"`  // only blobs are moved: it is in the source itself
}

// readMark reads the mark of a store; it is zero if there is none.
func readMark(ctx context.Context, kv storage.KV) (k mark, err error) {
	err = kv.Read(ctx, func(r storage.KVReader) error {
		k = mark{}
		b, err := r.Get(ctx, keyMark)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if err = exactjson.Unmarshal(b, &k); err != nil {
			err = fmt.Errorf("%w: the mark of a move: %w", storage.ErrCorrupt, err)
		}
		return err
	})
	return k, err
}

// setMark changes the mark of a store if it is still old.
func setMark(ctx context.Context, kv storage.KV, old, k mark, more ...storage.KVWrite) error {
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return kv.Write(ctx, func(tx storage.KVTx) error {
		var now mark
		have, err := tx.Get(ctx, keyMark)
		if err == nil {
			err = exactjson.Unmarshal(have, &now)
		} else if errors.Is(err, storage.ErrNotFound) {
			err = nil
		}
		if err != nil {
			return err
		}
		if now != old && now != k { // k: an answer was lost
			return fmt.Errorf("%w: the target is %q", ErrTaken, now.State)
		}
		for _, w := range append(more, storage.KVWrite{Key: keyMark, Value: b}) {
			if w.Value == nil {
				err = tx.Delete(ctx, w.Key)
			} else {
				err = tx.Set(ctx, w.Key, w.Value, time.Time{})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// marks is where the mark is: in the target, or, if only blobs are moved, in the source.
func (m *Mover) marks() storage.KV {
	if m.cfg.OnlyBlobs {
		return m.from.Moving()
	}
	return m.cfg.To.KV
}

// setMark changes the target's mark, unless another Mover has.
func (m *Mover) setMark(ctx context.Context, k mark) error {
	err := setMark(ctx, m.marks(), m.mark, k)
	if errors.Is(err, ErrTaken) {
		err = errors.Join(m.checkOwner(ctx), err)
	}
	if err == nil {
		m.mark = k
	}
	return err
}

// takeOver makes this Mover the one that works on a move, and lets the source take writes, if a
// Finish that was interrupted has shut it. The mark is first: after that, another Mover can no more
// say that the target is ready; and when it finds the note, it leaves the source alone.
func (m *Mover) takeOver(ctx context.Context) error {
	if m.mark.State != loading {
		return nil
	}
	k := m.mark
	k.Turn = rand.Text()
	if err := m.setMark(ctx, k); err != nil {
		return err
	}
	m.note.Turn = k.Turn
	if err := m.from.Watch(ctx, m.note.String()); err != nil {
		return err
	}
	m.shut = false
	return nil
}

// checkOwner returns ErrTakenOver if another Mover has taken over, or the move was given up.
func (m *Mover) checkOwner(ctx context.Context) error {
	w, err := m.from.Watched(ctx)
	if err != nil {
		return err
	}
	n, err := parseNote(w.Note)
	if err == nil && (w.State == storage.Unwatched || n != m.note) {
		err = ErrTakenOver
	}
	return err
}

// sourceID returns the source's own number, which it gets if it has none.
func (m *Mover) sourceID(ctx context.Context) (id string, err error) {
	get := func(r storage.KVReader) error {
		b, err := r.Get(ctx, keyID)
		id = string(b)
		return err
	}
	if err := m.cfg.From.KV.Read(ctx, get); !errors.Is(err, storage.ErrNotFound) {
		return id, err
	}
	made := rand.Text()
	err = m.from.Moving().Write(ctx, func(tx storage.KVTx) error {
		err := get(tx)
		if errors.Is(err, storage.ErrNotFound) {
			id = made
			err = tx.Set(ctx, keyID, []byte(id), time.Time{})
		}
		return err
	})
	return id, err
}

// begin begins a move, or goes on with it. Afterwards the source is watched, or shut.
func (m *Mover) begin(ctx context.Context) error {
	w, err := m.from.Watched(ctx)
	if err != nil {
		return err
	}
	if m.note, err = parseNote(w.Note); err != nil {
		return err
	}
	if m.mark, err = readMark(ctx, m.marks()); err != nil {
		return err
	}
	m.shut = w.State == storage.Shut
	if w.State != storage.Unwatched {
		if m.note.ID != m.mark.Move || m.note.OnlyBlobs != m.cfg.OnlyBlobs {
			return fmt.Errorf("%w: %s", ErrOther, m.note.Name)
		}
		return m.takeOver(ctx)
	}
	from, err := m.sourceID(ctx)
	if err != nil {
		return err
	}
	if m.mark.From != from || m.mark.State != loading && m.mark.State != givenUp {
		if m.to != nil {
			if err := m.empty(ctx); err != nil {
				return err
			}
		}
	}
	m.note = note{ID: rand.Text(), Turn: rand.Text(), Name: m.cfg.Name, Hint: m.cfg.Hint, Blobs: m.cfg.Blobs, OnlyBlobs: m.cfg.OnlyBlobs}
	// The mark is first: a source is never watched for a target that does not know.
	if err := m.setMark(ctx, mark{State: loading, Move: m.note.ID, Turn: m.note.Turn, From: from, Blobs: m.cfg.Blobs, Only: m.cfg.OnlyBlobs}); err != nil {
		return err
	}
	return m.from.Watch(ctx, m.note.String())
}

// empty looks whether the target is.
func (m *Mover) empty(ctx context.Context) error {
	for info, err := range m.cfg.To.Repos.List(ctx, "") {
		if err == nil {
			err = fmt.Errorf("%w: it has accounts, such as %s", ErrNotEmpty, info.DID)
		}
		return err
	}
	_, newest, err := m.cfg.To.Events.Bounds(ctx)
	if err == nil && newest > 0 {
		err = fmt.Errorf("%w: it has an event log", ErrNotEmpty)
	}
	if err != nil {
		return err
	}
	return m.cfg.To.KV.Read(ctx, func(r storage.KVReader) error {
		for p, err := range r.Keys(ctx, storage.Range{KeysOnly: true}) {
			if err != nil {
				return err
			}
			if !m.skips(p.Key) && !strings.HasPrefix(p.Key, ownKeys) {
				return fmt.Errorf("%w: it has keys, such as %q", ErrNotEmpty, p.Key)
			}
		}
		return nil
	})
}

// Status is the state of a move.
type Status struct {
	// Source is "in use", "being copied", "shut" or "left".
	Source string `json:"source"`
	// Target is "", "loading", "ready", "taken" or "given up".
	Target string `json:"target"`
	Name   string `json:"name,omitempty"` // of the target
	// Noted is the number of noted changes that were not copied yet. Copied is set when everything
	// was copied once.
	Noted  int        `json:"noted"`
	Copied bool       `json:"copied"`
	After  syntax.DID `json:"after,omitempty"` // the account up to which all have been
}

// SourceStatus returns the state of a store that may be, or may have been, the source of a move. It
// does not read the target.
func SourceStatus(ctx context.Context, s storage.Store) (st Status, err error) {
	from, ok := s.Repos.(storage.Movable)
	if !ok {
		return Status{Source: "in use"}, nil
	}
	w, err := from.Watched(ctx)
	if err != nil {
		return st, err
	}
	n, err := parseNote(w.Note)
	if err != nil {
		return st, err
	}
	st.Name = n.Name
	switch {
	case w.State == storage.Unwatched:
		st.Source = "in use"
	case w.State == storage.Watching:
		st.Source = "being copied"
	case n.Left:
		st.Source = "left"
	default:
		st.Source = "shut"
	}
	for _, err := range from.Changed(ctx) {
		if err != nil {
			return st, err
		}
		st.Noted++
	}
	return st, nil
}

// Status returns the state of the move.
func (m *Mover) Status(ctx context.Context) (Status, error) {
	st, err := SourceStatus(ctx, m.cfg.From)
	if err != nil {
		return st, err
	}
	k, err := readMark(ctx, m.marks())
	st.Target, st.Copied, st.After = string(k.State), k.All, syntax.DID(k.After)
	return st, err
}
