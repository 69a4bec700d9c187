package files

import (
	"encoding/binary"
	"io"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// The file of marks has places of a fixed size; each holds a DID with its length
// before it, or the length 0. It is not flushed: the system keeps what a killed process
// wrote. After a power failure, steps are completed when their objects are
// used.
const placeSize = 2 + 2048

func (f *Objects) readMarks() error {
	b, err := io.ReadAll(f.marks)
	if err != nil {
		return err
	}
	for ; len(b) >= 2; f.places++ {
		place := b[:min(len(b), placeSize)]
		b = b[len(place):]
		n := int(binary.BigEndian.Uint16(place))
		if n == 0 || n > len(place)-2 {
			f.free = append(f.free, f.places)
			continue
		}
		f.marked[syntax.DID(place[2:2+n])] = f.places
	}
	return nil
}

// Mark implements durable.Marker.
func (f *Objects) Mark(did syntax.DID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.marked[did]; ok || len(did) > placeSize-2 {
		return nil
	}
	var place int
	if n := len(f.free); n > 0 {
		place, f.free = f.free[n-1], f.free[:n-1]
	} else {
		place = f.places
		f.places++
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(len(did)))
	err := f.injected()
	if err == nil {
		_, err = f.marks.WriteAt(append(b, did...), int64(place)*placeSize)
	}
	if err != nil {
		f.free = append(f.free, place)
		return sqlError(err)
	}
	f.marked[did] = place
	return nil
}

// Unmark implements durable.Marker.
func (f *Objects) Unmark(did syntax.DID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	place, ok := f.marked[did]
	if !ok {
		return nil
	}
	err := f.injected()
	if err == nil {
		_, err = f.marks.WriteAt([]byte{0, 0}, int64(place)*placeSize)
	}
	if err != nil {
		return sqlError(err)
	}
	delete(f.marked, did)
	f.free = append(f.free, place)
	return nil
}

// Marked implements durable.Marker.
func (f *Objects) Marked() (list []syntax.DID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for did := range f.marked {
		list = append(list, did)
	}
	return list
}
