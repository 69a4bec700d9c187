package slim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/pdskit/pdskit/internal/exactjson"
)

// Pack makes a built program smaller that then works as before.
//
// Its memory is written anew: the linker cuts it into up to 100,000 pieces, and one for each long
// part without zeros is enough. If the overlay of [Write] says that nothing reads Go's table of
// functions by address, that is left out too.
//
// Without lines, also the tables of lines are left out: a trace then has the names of functions,
// and "?" in the place of files and lines. That too needs the release of Go whose tables are known,
// as the overlay has it; for others it is an error.
func Pack(program []byte, overlay string, lines bool) ([]byte, error) {
	known, err := leavesTableOut(overlay)
	if err != nil {
		return nil, err
	}
	m, err := parseModule(program)
	if err != nil {
		return nil, err
	}
	switch {
	case known:
		t, err := m.image.findTables()
		if err != nil {
			return nil, err
		}
		clear(m.image.at(t.byAddress, t.byAddressSize))
		if !lines {
			if err := m.image.dropLines(t); err != nil {
				return nil, err
			}
		}
	case !lines:
		return nil, errors.New("the tables of lines of this release of Go are not known")
	}
	return m.encode(), nil
}

// leavesTableOut reports whether an overlay has the edits of tableEdits.
func leavesTableOut(overlay string) (bool, error) {
	text, err := os.ReadFile(overlay)
	if err != nil {
		return false, err
	}
	var doc struct{ Replace map[string]string }
	if err := exactjson.Unmarshal(text, &doc); err != nil {
		return false, fmt.Errorf("%s: %w", overlay, err)
	}
	for path := range doc.Replace {
		if strings.HasSuffix(filepath.ToSlash(path), "/"+tableEdits[0].file) {
			return true, nil
		}
	}
	return false, nil
}

// module is a program of WebAssembly, with its initial memory.
type module struct {
	before, after []byte // the other sections, as they are
	image         image
}

const (
	dataSection      = 11
	dataCountSection = 12 // Go has none: it says how many pieces there are
	// maxImage bounds the initial memory. A whole PDS has 14 MB.
	maxImage = 64 << 20
	// gap is how many zeros between two pieces take about as much room as a new piece.
	gap = 32
)

var errModule = errors.New("not a WebAssembly module as Go makes it")

func parseModule(b []byte) (*module, error) {
	r := &reader{b: b}
	if string(r.take(8)) != "\x00asm\x01\x00\x00\x00" {
		return nil, errModule
	}
	m := new(module)
	found := false
	for begin := r.n; r.n < len(b) && !r.failed; begin = r.n {
		kind := r.take(1)
		content := r.take(r.uint())
		if r.failed || kind[0] == dataCountSection || found && kind[0] == dataSection {
			return nil, errModule
		}
		if kind[0] != dataSection {
			continue
		}
		found = true
		m.before, m.after = b[:begin], b[r.n:]
		if err := m.image.parse(content); err != nil {
			return nil, err
		}
	}
	if r.failed || !found {
		return nil, errModule
	}
	return m, nil
}

// image is the initial memory, from address 0.
type image []byte

func (m *image) parse(section []byte) error {
	r := &reader{b: section}
	for n := r.uint(); n > 0 && !r.failed; n-- {
		head := r.take(2) // an active piece, and i32.const
		if r.failed || head[0] != 0 || head[1] != 0x41 {
			return errModule
		}
		address := r.signed()
		end := r.take(1)
		data := r.take(r.uint())
		if r.failed || end[0] != 0x0b || address+len(data) > maxImage {
			return errModule
		}
		if need := address + len(data) - len(*m); need > 0 {
			*m = append(*m, make([]byte, need)...)
		}
		copy((*m)[address:], data)
	}
	if r.failed || r.n != len(section) {
		return errModule
	}
	return nil
}

// at is a part of memory, and empty if it is not all there.
func (m image) at(address, size uint64) []byte {
	if size > uint64(len(m)) || address > uint64(len(m))-size {
		return nil
	}
	return m[address : address+size]
}

// encode makes pieces of what is not zero.
func (m *module) encode() []byte {
	var pieces []byte
	count := 0
	zeros := make([]byte, gap)
	for from := 0; from < len(m.image); {
		if m.image[from] == 0 {
			from++
			continue
		}
		size := bytes.Index(m.image[from:], zeros)
		if size < 0 {
			size = len(bytes.TrimRight(m.image[from:], "\x00"))
		}
		pieces = append(pieces, 0, 0x41)
		pieces = appendSigned(pieces, from)
		pieces = append(pieces, 0x0b)
		pieces = binary.AppendUvarint(pieces, uint64(size))
		pieces = append(pieces, m.image[from:from+size]...)
		from += size
		count++
	}
	number := binary.AppendUvarint(nil, uint64(count))
	out := append(bytes.Clone(m.before), dataSection)
	out = binary.AppendUvarint(out, uint64(len(number)+len(pieces)))
	out = append(append(out, number...), pieces...)
	return append(out, m.after...)
}

// appendSigned appends a number that is not negative as a signed one.
func appendSigned(b []byte, n int) []byte {
	for ; n > 63; n >>= 7 {
		b = append(b, byte(n&127|128))
	}
	return append(b, byte(n))
}

// reader reads WebAssembly. Once something was not there, all is empty.
type reader struct {
	b      []byte
	n      int
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.b)-r.n {
		r.failed = true
		return nil
	}
	r.n += n
	return r.b[r.n-n : r.n]
}

// uint reads a number of up to 31 bits.
func (r *reader) uint() int {
	n, size := binary.Uvarint(r.b[min(r.n, len(r.b)):])
	if size <= 0 || n > math.MaxInt32 {
		r.failed = true
		return 0
	}
	r.take(size)
	return int(n)
}

// signed reads a signed number, which must not be negative.
func (r *reader) signed() int {
	n := r.uint()
	if !r.failed && r.b[r.n-1]&0x40 != 0 {
		r.failed = true
	}
	return n
}

// tables are where Go's tables of functions are in memory.
type tables struct {
	functions, first   uint64 // how many there are, and where their list begins
	values, valuesSize uint64 // of files, lines and others, by address
	byAddress          uint64 // finds functions; see tableEdits
	byAddressSize      uint64
}

// errTables says that the program is not of the release of Go that the overlay is for.
var errTables = errors.New("the tables of functions are not where Go 1.26 has them")

// findTables finds the runtime's description of the program: its header of tables of functions, and
// the module data, which name each other.
func (m image) findTables() (tables, error) {
	header := []byte{0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8} // magic, and the size of a word
	for from := 0; ; from++ {
		n := bytes.Index(m[from:], header)
		if n < 0 {
			return tables{}, errTables
		}
		from += n
		if t, ok := m.tablesOf(uint64(from)); ok {
			return t, nil
		}
	}
}

// tablesOf are the tables of a header, if it is one.
func (m image) tablesOf(header uint64) (t tables, ok bool) {
	b := m.at(header, 9*8)
	if b == nil {
		return t, false
	}
	// pcHeader: the magic word, counts of functions and files, one unused, offsets of five tables.
	word := func(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	offsets := []uint64{word(b, 4), word(b, 5), word(b, 6), word(b, 7), word(b, 8)}
	// moduledata: the header's address, a slice for each of the tables, one for the list of functions
	// at the start of the last one, findfunctab, minpc, maxpc; much later, the slice typelinks.
	begin := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, header), header+offsets[0])
	at := bytes.Index(m, begin)
	if at < 0 {
		return t, false
	}
	data := m.at(uint64(at), 48*8)
	if data == nil {
		return t, false
	}
	for i, offset := range offsets {
		if word(data, 1+3*i) != header+offset {
			return t, false
		}
	}
	pcs, links := word(data, 21)-word(data, 20), word(data, 45)
	t = tables{
		functions: word(b, 1), first: word(data, 16),
		values: word(data, 10), valuesSize: word(data, 11),
		byAddress: word(data, 19), byAddressSize: tableSize(pcs),
	}
	table := m.at(t.byAddress, t.byAddressSize)
	within := links >= t.byAddress && links < t.byAddress+t.byAddressSize
	ok = t.functions > 0 && t.functions < uint64(len(m)) && t.first == word(data, 13) && word(data, 17) == t.functions+1 && pcs < 1<<40 &&
		m.at(t.first, 8*(t.functions+1)) != nil && m.at(t.values, t.valuesSize) != nil &&
		len(table) >= 20 && binary.LittleEndian.Uint32(table) == 0 && !within
	return t, ok
}

// tableSize is the size of findfunctab for a range of addresses: 4 bytes for each 4,096 of them that
// have begun, and one for each 256. What follows it is in use.
func tableSize(pcs uint64) uint64 { return (pcs+4095)/4096*4 + (pcs+255)/256 }

// dropLines takes files and lines from all functions.
func (m image) dropLines(t tables) error {
	const ( // what runtime._func has, in words of four bytes
		pcsp, pcfile, pcln, npcdata, head = 4, 5, 6, 7, 11
	)
	kept, dropped := map[uint32]bool{}, map[uint32]bool{}
	for i := range t.functions {
		offset := binary.LittleEndian.Uint32(m[t.first+8*i+4:])
		f := m.at(t.first+uint64(offset), 4*head)
		if f == nil {
			return errTables
		}
		word := func(n int) []byte { return f[4*n : 4*n+4] }
		kept[binary.LittleEndian.Uint32(word(pcsp))] = true
		n := uint64(binary.LittleEndian.Uint32(word(npcdata)))
		data := m.at(t.first+uint64(offset)+4*head, 4*n)
		if n > 0 && data == nil {
			return errTables
		}
		for ; len(data) > 0; data = data[4:] {
			kept[binary.LittleEndian.Uint32(data)] = true
		}
		for _, n := range []int{pcfile, pcln} {
			dropped[binary.LittleEndian.Uint32(word(n))] = true
			clear(word(n)) // there is none
		}
	}
	// A row ends with a zero where a delta would be; what others share stays.
	values := m.at(t.values, t.valuesSize)
	for at := range dropped {
		if at == 0 || kept[at] {
			continue
		}
		if uint64(at) >= t.valuesSize {
			return errTables
		}
		row := values[at:]
		size, err := rowSize(row)
		if err != nil {
			return err
		}
		clear(row[:size])
	}
	return nil
}

// rowSize is the size of a row of values by address: pairs of differences, up to a value of zero
// that is not the first.
func rowSize(row []byte) (int, error) {
	for n, first := 0, true; ; first = false {
		for half := range 2 {
			v, size := binary.Uvarint(row[n:])
			if size <= 0 {
				return 0, errTables
			}
			n += size
			if half == 0 && v == 0 && !first {
				return n, nil
			}
		}
	}
}
