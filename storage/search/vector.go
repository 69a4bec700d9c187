package search

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// A copy of a vector with one byte for each dimension, its slot in a block:
//
//	scale  float32   of a code; 0: the slot is empty
//	radius float32   at least the distance between vector and copy
//	sum    uint32    of the codes
//	       uint32    0
//	codes  Dim bytes, 128 is zero; filled up with 0 to a multiple of 8
//
// Integers and floats are little-endian.
const (
	slotHead   = 16
	blockSlots = 64
)

func (x *Index) slotSize() int { return slotHead + (x.Dim+7)/8*8 }

// unit returns a vector of length 1.
func (x *Index) unit(v []float32) ([]float32, error) {
	if len(v) != x.Dim {
		return nil, fmt.Errorf("%w: %d dimensions, the index has %d", ErrVector, len(v), x.Dim)
	}
	var norm float64
	for i, f := range v {
		f := float64(f)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("%w: dimension %d is %v", ErrVector, i, f)
		}
		norm += f * f
	}
	if norm == 0 {
		return nil, fmt.Errorf("%w: it is zero, which has no direction", ErrVector)
	}
	norm = math.Sqrt(norm)
	u := make([]float32, len(v))
	for i, f := range v {
		u[i] = float32(float64(f) / norm)
	}
	return u, nil
}

// dot is the cosine of vectors of length 1.
func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func encode(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

// decode reads a stored vector.
func (x *Index) decode(b []byte) ([]float32, error) {
	if x.PGVector {
		return x.decodeSent(b)
	}
	if len(b) != 4*x.Dim {
		return nil, fmt.Errorf("%w: a stored vector has %d bytes, not %d", ErrSchema, len(b), 4*x.Dim)
	}
	v := make([]float32, x.Dim)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v, nil
}

// quantise makes the slot of a vector of length 1.
func (x *Index) quantise(v []float32) []byte {
	var most float64
	for _, f := range v {
		most = max(most, math.Abs(float64(f)))
	}
	scale := float64(float32(most / 127))
	slot := make([]byte, x.slotSize())
	var sum uint32
	var off float64
	for i, f := range v {
		c := max(-127, min(127, math.Round(float64(f)/scale)))
		d := float64(f) - c*scale
		off += d * d
		slot[slotHead+i] = byte(int(c) + 128)
		sum += uint32(int(c) + 128)
	}
	binary.LittleEndian.PutUint32(slot, math.Float32bits(float32(scale)))
	binary.LittleEndian.PutUint32(slot[4:], math.Float32bits(float32(math.Sqrt(off)*1.0001+1e-7)))
	binary.LittleEndian.PutUint32(slot[8:], sum)
	return slot
}

// Codes of a query have 12 bits, so that the sums below fit: 4096 dimensions × 255 × 4095 < 2³².
const (
	half  = 2048
	lanes = 0x000000ff000000ff
)

// probe is a query that is compared with slots.
type probe struct {
	scale, radius float64 // of the query's copy
	sum           int64   // of its codes
	dim           int64
	// words holds, for each 8 dimensions 0…7, the pairs (0,4), (1,5), (2,6), (3,7): the first in
	// the high half. A word w of 8 codes, masked to its lanes 0 and 4 and multiplied with the
	// first pair, has in its high half
	//
	//	code 0 × query 0 + code 4 × query 4
	//
	// and in its low half code 0 × query 4, which never grows into the high half. So one
	// multiplication does two dimensions.
	words [][4]uint64
}

func newProbe(v []float32) *probe {
	var most float64
	for _, f := range v {
		most = max(most, math.Abs(float64(f)))
	}
	p := &probe{scale: most / (half - 1), dim: int64(len(v)), words: make([][4]uint64, (len(v)+7)/8)}
	var off float64
	for i, f := range v {
		c := math.Round(float64(f) / p.scale)
		d := float64(f) - c*p.scale
		off += d * d
		code := uint64(int64(c) + half)
		p.sum += int64(code)
		p.words[i/8][i%4] |= code << (32 * (1 - i%8/4))
	}
	p.radius = math.Sqrt(off)*1.0001 + 1e-7
	return p
}

// bounds returns a score and how far the cosine may be from it. The slot is not empty.
func (p *probe) bounds(slot []byte) (score, radius float64) {
	codes := slot[slotHead:]
	var a, b uint64
	for i := range p.words {
		if len(codes) < 8 {
			break // never: it saves the compiler's check of each access
		}
		w := binary.LittleEndian.Uint64(codes)
		codes = codes[8:]
		q := &p.words[i]
		a += (w & lanes) * q[0]
		b += (w >> 8 & lanes) * q[1]
		a += (w >> 16 & lanes) * q[2]
		b += (w >> 24 & lanes) * q[3]
	}
	sum := int64(a>>32) + int64(b>>32)
	sum += -128*p.sum - half*int64(binary.LittleEndian.Uint32(slot[8:])) + 128*half*p.dim
	own := float64(math.Float32frombits(binary.LittleEndian.Uint32(slot[4:])))
	scale := float64(math.Float32frombits(binary.LittleEndian.Uint32(slot)))
	// |q·v - q'·v'| <= |q| |v-v'| + |q-q'| |v'|, and a little for the rounding of lengths.
	return float64(sum) * scale * p.scale, own + p.radius*(1+own) + 1e-6
}

// scored is a document with a score.
type scored struct {
	doc   int64
	score float64
}

// better orders by score, then by number: the older document first.
func better(a, b scored) int {
	switch {
	case a.score > b.score || a.score == b.score && a.doc < b.doc:
		return -1
	case a == b:
		return 0
	}
	return 1
}

// nearest gathers candidates for the k best.
type nearest struct {
	k     int
	lower []float64 // heap: the k greatest lower bounds, the least at the top
	least float64   // what a candidate must reach besides
	some  []candidate
	exact []scored // the best of those whose score is known, in order
}

type candidate struct {
	doc          int64
	lower, upper float64
}

// floor is what a candidate must reach.
func (n *nearest) floor() float64 {
	floor := n.least
	if len(n.lower) == n.k {
		floor = max(floor, n.lower[0])
	}
	if len(n.exact) == n.k {
		floor = max(floor, n.exact[n.k-1].score)
	}
	return floor
}

func (n *nearest) add(doc int64, score, radius float64) {
	n.merge(candidate{doc, score - radius, score + radius})
}

// merge adds a candidate, unless k others are better.
func (n *nearest) merge(c candidate) {
	if c.upper < n.floor() {
		return
	}
	n.some = append(n.some, c)
	n.push(c.lower)
}

// push keeps the k greatest lower bounds.
func (n *nearest) push(low float64) {
	h := n.lower
	if len(h) < n.k {
		h = append(h, low)
		for i := len(h) - 1; i > 0 && h[i] < h[(i-1)/2]; i = (i - 1) / 2 {
			h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
		}
		n.lower = h
		return
	}
	if low <= h[0] {
		return
	}
	h[0] = low
	for i := 0; ; {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1] < h[c] {
			c++
		}
		if h[i] <= h[c] {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}

// prune drops candidates that are below the floor by now.
func (n *nearest) prune() {
	floor := n.floor()
	n.some = slices.DeleteFunc(n.some, func(c candidate) bool { return c.upper < floor })
}

// settle adds exact scores.
func (n *nearest) settle(all []scored) {
	n.exact = append(n.exact, all...)
	slices.SortFunc(n.exact, better)
	n.exact = n.exact[:min(n.k, len(n.exact))]
}
