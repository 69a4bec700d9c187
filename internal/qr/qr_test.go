package qr

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The example of ISO/IEC 18004 for version 1 at level M that is quoted most: "HELLO WORLD".
func TestCorrection(t *testing.T) {
	data := []byte{32, 91, 11, 120, 209, 114, 220, 77, 67, 64, 236, 17, 236, 17, 236, 17}
	want := []byte{196, 35, 39, 119, 235, 215, 231, 226, 93, 23}
	if diff := cmp.Diff(want, correction(data, 10)); diff != "" {
		t.Error(diff)
	}
}

// Format and version bits of the tables in ISO/IEC 18004, annexes C and D.
func TestFormatAndVersionBits(t *testing.T) {
	for mask, want := range [8]int{0x5412, 0x5125, 0x5e7c, 0x5b4b, 0x45f9, 0x40ce, 0x4f97, 0x4aa0} {
		if got := formatBits(mask); got != want {
			t.Errorf("mask %d: %#x, want %#x", mask, got, want)
		}
	}
	for version, want := range map[int]int{7: 0x07c94, 8: 0x085bc, 21: 0x15683, 25: 0x191e1} {
		if got := version<<12 | remainder(version<<12, 0x1f25, 12); got != want {
			t.Errorf("version %d: %#x, want %#x", version, got, want)
		}
	}
}

// Where alignment patterns lie, of annex E.
func TestAlignment(t *testing.T) {
	for version, want := range map[int][]int{
		1: nil, 2: {6, 18}, 6: {6, 34}, 7: {6, 22, 38}, 14: {6, 26, 46, 66}, 15: {6, 26, 48, 70}, 16: {6, 26, 50, 74},
		22: {6, 26, 50, 74, 98}, 24: {6, 28, 54, 80, 106}, 25: {6, 32, 58, 84, 110},
	} {
		if diff := cmp.Diff(want, alignment(version)); diff != "" {
			t.Errorf("version %d: %s", version, diff)
		}
	}
}

// The modules agree with those of other programs that make codes.
func TestKnownCode(t *testing.T) {
	const uri = "otpauth://totp/Example:alice@example.com?secret=JBSWY3DPEHPK3PXP&issuer=Example"
	c, err := Encode([]byte(uri))
	if err != nil {
		t.Fatal(err)
	}
	const want = `
#######.#.###.#.#..##.##..###.#######
#.....#.##.####..#....###.....#.....#
#.###.#........#...##.##.##.#.#.###.#
#.###.#.####.#..##.##.#.###...#.###.#
#.###.#..#.###.#.#.#....#...#.#.###.#
#.....#..##.###....####.##....#.....#
#######.#.#.#.#.#.#.#.#.#.#.#.#######
........#..#.###.#....##..###........
#.##.###.##..#..###..#..#####.#..#.##
..####.#.....#.######.##.#.#####.#.#.
#..####.#.#..###.##....##.#.#.##..#..
##...#..##.###.#...#.....#...###.##..
###..##.#######.##....######..#.#####
.###...#...#.#.##..#....####.##.#...#
.#...######.#.....###.......##.##.##.
....#..#.###.#..#.#..####.##.#..#..#.
.##.###.##...####.#.###..##....##.##.
.###....#..####.#...#.#####..#...####
#######.#..######.......#..#.#..#..##
.##.##.###....#..##.#.#.#.....#.##..#
#.#...#...#.#.#..#...#..#.#..#..##.##
##.#.#.#..####....####.##...##...#...
#####.##.#.##...###.#.#####..##.##...
#.#....#..#..#....##....###..#.#####.
.#.#.###....###...###.#.#.###.#...###
...#.#.###...##.#..#..#..#..#.####.##
.#.#..##.#.##########....##.##.##.##.
#....#...#.#.#..#.#.###.#.###.#.##.#.
..###.#....#...#..#...##.#..#######.#
........#..###.#.#..#.#######...###.#
#######.#..##.####..#...#...#.#.#..##
#.....#.###..####......##.###...##..#
#.###.#..###.#.#..##.######.######...
#.###.#.#.#..#.#..#.###...#.###.#.#.#
#.###.#.####.#..#......#..########...
#.....#..#####..#.###.#..#..#..#.##..
#######.##.#####.#.#..#####..#.#.#.##
`
	if diff := cmp.Diff(strings.TrimSpace(want), picture(c)); diff != "" {
		t.Error(diff)
	}
}

func picture(c *Code) string {
	var rows []string
	for y := range c.Size {
		row := make([]byte, c.Size)
		for x := range row {
			row[x] = '.'
			if c.Dark(x, y) {
				row[x] = '#'
			}
		}
		rows = append(rows, string(row))
	}
	return strings.Join(rows, "\n")
}

// read is a reader of codes: it undoes mask, order and blocks, checks the error correction of each
// block, and returns the bytes.
func read(t *testing.T, c *Code) []byte {
	t.Helper()
	version := (c.Size - 17) / 4
	format := 0
	for i := range 8 { // from beside the second finder
		if c.Dark(c.Size-1-i, 8) {
			format |= 1 << i
		}
	}
	for i := 8; i < 15; i++ {
		if c.Dark(8, c.Size-15+i) {
			format |= 1 << i
		}
	}
	mask := -1
	for m := range masks {
		if formatBits(m) == format {
			mask = m
		}
	}
	if mask < 0 {
		t.Fatalf("no mask has the format %#x", format)
	}
	blank := &Code{Size: c.Size, dark: make([]bool, c.Size*c.Size), fixed: make([]bool, c.Size*c.Size)}
	blank.patterns(version)
	var b bits
	for right, up := c.Size-1, true; right > 0; right, up = right-2, !up {
		if right == 6 {
			right--
		}
		for i := range c.Size {
			y := i
			if up {
				y = c.Size - 1 - i
			}
			for _, x := range []int{right, right - 1} {
				if blank.fixed[y*c.Size+x] {
					continue
				}
				v := 0
				if c.Dark(x, y) != masks[mask](x, y) {
					v = 1
				}
				b.add(v, 1)
			}
		}
	}
	all := b.bytes[:room(version)]
	count, check := blockCount[version-1], blockCheck[version-1]
	blocks := make([][]byte, count)
	short := room(version)/count - check
	long := room(version) % count
	n := 0
	for i := range short + 1 {
		for j := range blocks {
			if i < short || j >= count-long {
				blocks[j] = append(blocks[j], all[n])
				n++
			}
		}
	}
	var data []byte
	checks := make([][]byte, count)
	for range check {
		for j := range checks {
			checks[j] = append(checks[j], all[n])
			n++
		}
	}
	for j, block := range blocks {
		// A word is good if all roots of the generator are its own.
		root := byte(1)
		for range check {
			sum := byte(0)
			for _, c := range append(bytes.Clone(block), checks[j]...) {
				sum = multiply(sum, root) ^ c
			}
			if sum != 0 {
				t.Fatalf("block %d is no code word", j)
			}
			root = multiply(root, 2)
		}
		data = append(data, block...)
	}
	at := 0
	take := func(n int) (v int) {
		for range n {
			v = v<<1 | int(data[at/8]>>(7-at%8)&1)
			at++
		}
		return v
	}
	if mode := take(4); mode != 4 {
		t.Fatalf("mode %d", mode)
	}
	lengthBits := 8
	if version >= 10 {
		lengthBits = 16
	}
	out := make([]byte, take(lengthBits))
	for i := range out {
		out[i] = byte(take(8))
	}
	return out
}

func TestAllVersions(t *testing.T) {
	for n, version := 0, 0; version < maxVersion; n += 5 {
		data := bytes.Repeat([]byte("otpauth"), 200)[:n]
		c, err := Encode(data)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		version = (c.Size - 17) / 4
		if !bytes.Equal(read(t, c), data) {
			t.Fatalf("%d bytes, version %d: read as others", n, version)
		}
	}
}

func TestTooLong(t *testing.T) {
	if _, err := Encode(make([]byte, 5000)); !errors.Is(err, ErrTooLong) {
		t.Errorf("5000 bytes: %v", err)
	}
}

func TestSVG(t *testing.T) {
	c, err := Encode([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	svg := c.SVG()
	if !strings.Contains(svg, `viewBox="0 0 29 29"`) { // 21 modules and the quiet zone
		t.Errorf("%s", svg)
	}
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add([]byte("otpauth://totp/x?secret=JBSWY3DPEHPK3PXP"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Encode(data)
		if err != nil {
			if !errors.Is(err, ErrTooLong) || len(data) < 900 {
				t.Fatalf("%d bytes: %v", len(data), err)
			}
			return
		}
		if !bytes.Equal(read(t, c), data) {
			t.Fatal("read as others")
		}
	})
}
