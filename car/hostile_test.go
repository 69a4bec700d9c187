package car_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// section frames bytes with their length.
func section(parts ...string) string {
	b := strings.Join(parts, "")
	return string(binary.AppendUvarint(nil, uint64(len(b)))) + b
}

const (
	sha     = "\x12\x20"
	cborCID = "\x01\x71" + sha
	rawCID  = "\x01\x55" + sha
)

// Each file is named after what an attacker, or a careless writer, did to it.
func hostileFiles() map[string]struct {
	file string
	want error
} {
	zero := strings.Repeat("\x00", 32)
	root := "\xd8\x2a\x58\x25\x00" + cborCID + zero
	header := func(body string) string { return section(body) }
	fine := header("\xa2\x65roots\x80\x67version\x01")
	good := block(dag.CBOR, "\xa0")
	key := good.CID.KeyString()
	type c = struct {
		file string
		want error
	}
	return map[string]c{
		"empty file":                          {"", car.ErrTruncated},
		"header of no bytes":                  {"\x00", car.ErrHeader},
		"header length cut short":             {"\x80", car.ErrTruncated},
		"header length not in shortest form":  {"\x91\x00" + fine[1:], car.ErrLength},
		"header length overflows":             {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", car.ErrLength},
		"header length without end":           {strings.Repeat("\x80", 1000), car.ErrLength},
		"header of 2^62 bytes":                {string(binary.AppendUvarint(nil, 1<<62)), car.ErrTooLarge},
		"header longer than the limit":        {header("\xa2\x65roots\x80\x67version\x01" + strings.Repeat("\x00", 40_000)), car.ErrTooLarge},
		"header longer than the file":         {"\x7f\xa2", car.ErrTruncated},
		"header of garbage":                   {header("garbage"), car.ErrHeader},
		"header that is not a map":            {header("\x80"), car.ErrHeader},
		"header of an empty map":              {header("\xa0"), car.ErrHeader},
		"header without roots":                {header("\xa1\x67version\x01"), car.ErrHeader},
		"header without version":              {header("\xa1\x65roots\x80"), car.ErrHeader},
		"header of one field, with two":       {header("\xa1\x65roots\x80\x67version\x01"), car.ErrHeader},
		"header of three fields, with two":    {header("\xa3\x65roots\x80\x67version\x01"), car.ErrHeader},
		"header with a field too many":        {header("\xa3\x65extra\xf6\x65roots\x80\x67version\x01"), car.ErrHeader},
		"header with its fields turned round": {header("\xa2\x67version\x01\x65roots\x80"), car.ErrHeader},
		"header with roots twice":             {header("\xa2\x65roots\x80\x65roots\x80"), car.ErrHeader},
		"header with trailing bytes":          {header("\xa2\x65roots\x80\x67version\x01\x00"), car.ErrHeader},
		"header of indefinite length":         {header("\xbf\x65roots\x80\x67version\x01\xff"), car.ErrHeader},
		"roots of null":                       {header("\xa2\x65roots\xf6\x67version\x01"), car.ErrHeader},
		"roots of text":                       {header("\xa2\x65roots\x81\x61a\x67version\x01"), car.ErrHeader},
		"more roots announced than there are": {header("\xa2\x65roots\x9b\x7f\xff\xff\xff\xff\xff\xff\xff\x67version\x01"), car.ErrHeader},
		"root of CID version 0":               {header("\xa2\x65roots\x81\xd8\x2a\x58\x23\x00\x12\x20" + zero + "\x67version\x01"), car.ErrCID},
		"root of the identity hash":           {header("\xa2\x65roots\x81\xd8\x2a\x46\x00\x01\x71\x00\x01\x00\x67version\x01"), car.ErrCID},
		"root without its zero byte":          {header("\xa2\x65roots\x81\xd8\x2a\x58\x24" + cborCID + zero + "\x67version\x01"), car.ErrHeader},
		"version 0":                           {header("\xa2\x65roots\x80\x67version\x00"), car.ErrVersion},
		"version 2":                           {header("\xa2\x65roots\x80\x67version\x02"), car.ErrVersion},
		"version 1 in two bytes":              {header("\xa2\x65roots\x80\x67version\x18\x01"), car.ErrHeader},
		"version as text":                     {header("\xa2\x65roots\x80\x67version\x611"), car.ErrHeader},
		"pragma of CAR version 2":             {"\x0a\xa1\x67version\x02", car.ErrHeader},

		"block of no bytes":                     {fine + "\x00", car.ErrCID},
		"padding with zeros":                    {fine + strings.Repeat("\x00", 100), car.ErrCID},
		"block shorter than a CID":              {fine + section(cborCID), car.ErrCID},
		"block length cut short":                {fine + "\xff", car.ErrTruncated},
		"block length not in shortest form":     {fine + "\xa5\x80\x00" + key + "\xa0", car.ErrLength},
		"block length overflows":                {fine + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", car.ErrLength},
		"block of 2^62 bytes":                   {fine + string(binary.AppendUvarint(nil, 1<<62)), car.ErrTooLarge},
		"block over the limit":                  {fine + string(binary.AppendUvarint(nil, 36+2<<20+1)), car.ErrTooLarge},
		"block announced and never sent":        {fine + string(binary.AppendUvarint(nil, 2<<20)), car.ErrTruncated},
		"block cut short":                       {fine + section(key, "\xa0")[:30], car.ErrTruncated},
		"block that does not match its CID":     {fine + section(key, "\xa1"), car.ErrHash},
		"block with a byte too many":            {fine + section(key, "\xa0\x00"), car.ErrHash},
		"block whose CID is all zeros":          {fine + section(cborCID, zero, "\xa0"), car.ErrHash},
		"block of CID version 0":                {fine + section("\x12\x20", zero, strings.Repeat("x", 50)), car.ErrCID},
		"block of CID version 2":                {fine + section("\x02\x71"+sha, zero, "x"), car.ErrCID},
		"block of the identity hash":            {fine + section("\x01\x71\x00\x20", zero, "x"), car.ErrCID},
		"block of a short identity hash":        {fine + section("\x01\x71\x00\x01\xa0", zero, zero), car.ErrCID},
		"block of SHA-512":                      {fine + section("\x01\x71\x13\x40", zero, zero, "x"), car.ErrCID},
		"block of SHA-256 cut to 20 bytes":      {fine + section("\x01\x71\x12\x14", zero, "x"), car.ErrCID},
		"block of codec dag-pb":                 {fine + section("\x01\x70"+sha, zero, "x"), car.ErrCID},
		"block of codec dag-json":               {fine + section("\x01\xa9\x02"+sha, zero, "x"), car.ErrCID},
		"block with version not shortest":       {fine + section("\x81\x00\x71"+sha, zero, "x"), car.ErrCID},
		"block whose CID says raw, not its own": {fine + section(rawCID, zero, "x"), car.ErrHash},
		"root that is not there":                {header("\xa2\x65roots\x81" + root + "\x67version\x01"), nil}, // for the layer above
	}
}

func TestHostileFiles(t *testing.T) {
	for name, c := range hostileFiles() {
		t.Run(name, func(t *testing.T) {
			_, _, err := readAll(t, []byte(c.file), car.Limits{})
			var e *car.Error
			if !errors.Is(err, c.want) || err != nil && !errors.As(err, &e) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if e != nil && (e.Offset < 0 || e.Offset > int64(len(c.file))) {
				t.Errorf("offset %d of %d", e.Offset, len(c.file))
			}
		})
	}
}

func TestLimits(t *testing.T) {
	blocks := someBlocks(10, 100, 6)
	blocks[4] = block(dag.CBOR, strings.Repeat("x", 200))
	roots := []cid.Cid{blocks[0].CID, blocks[1].CID}
	file := car.Append(nil, roots, blocks...)
	header := int64(len(car.Append(nil, roots))) - 1
	total := int64(len(file))
	for name, c := range map[string]struct{ at, over car.Limits }{
		"header": {car.Limits{HeaderBytes: header}, car.Limits{HeaderBytes: header - 1}},
		"block":  {car.Limits{BlockBytes: 200}, car.Limits{BlockBytes: 199}},
		"blocks": {car.Limits{Blocks: 10}, car.Limits{Blocks: 9}},
		"total":  {car.Limits{TotalBytes: total}, car.Limits{TotalBytes: total - 1}},
	} {
		if _, _, err := readAll(t, file, c.at); err != nil {
			t.Errorf("%s at the limit: %v", name, err)
		}
		if _, _, err := readAll(t, file, c.over); !errors.Is(err, car.ErrTooLarge) {
			t.Errorf("%s over the limit: %v", name, err)
		}
	}
}

// A few bytes that announce a large block must not cost its memory.
func TestAnnouncedLengthsClaimNoMemory(t *testing.T) {
	file := section("\xa2\x65roots\x80\x67version\x01") + string(binary.AppendUvarint(nil, 1<<30)) + "x"
	lim := car.Limits{BlockBytes: 2 << 30}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := car.ReadAll([]byte(file), lim); !errors.Is(err, car.ErrTruncated) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("%d bytes were allocated", used)
	}
}

// An endless stream of small blocks ends at a limit.
func TestEndlessStream(t *testing.T) {
	one := section(block(dag.CBOR, "\xa0").CID.KeyString(), "\xa0")
	src := io.MultiReader(strings.NewReader(section("\xa2\x65roots\x80\x67version\x01")), &endless{[]byte(one), 0})
	r, err := car.NewReader(src, car.Limits{TotalBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = r.NextShared()
	}
	if !errors.Is(err, car.ErrTooLarge) || r.Offset() > 1<<20 {
		t.Errorf("%v after %d bytes", err, r.Offset())
	}
}

type endless struct {
	b  []byte
	at int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.b[e.at]
		e.at = (e.at + 1) % len(e.b)
	}
	return len(p), nil
}

// FuzzReader checks that what was read, written again, gives the same file.
func FuzzReader(f *testing.F) {
	for _, c := range hostileFiles() {
		if len(c.file) < 1000 {
			f.Add([]byte(c.file))
		}
	}
	f.Add(car.Append(nil, nil))
	f.Add(car.Append(nil, []cid.Cid{block(dag.CBOR, "a").CID}, block(dag.CBOR, "a"), block(dag.Raw, "")))
	f.Fuzz(func(t *testing.T, in []byte) {
		roots, blocks, err := readAll(t, in, car.Limits{})
		if err != nil {
			var e *car.Error
			if !errors.As(err, &e) {
				t.Fatalf("%v is not an *Error", err)
			}
			return
		}
		if out := car.Append(nil, roots, blocks...); !bytes.Equal(out, in) {
			t.Fatalf("%x came back as %x", in, out)
		}
	})
}

func TestHeaderIsCanonical(t *testing.T) {
	file := car.Append(nil, []cid.Cid{block(dag.CBOR, "a").CID})
	if err := cbor.Scan(file[1:], cbor.Limits{}); err != nil {
		t.Error(err)
	}
}
