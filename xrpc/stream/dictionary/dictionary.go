// Package dictionary compresses the messages of event streams with zstd (RFC 8878), each in a frame
// of its own, with a dictionary that both sides know.
//
// Messages are short and similar. With a dictionary of their common parts, they shrink to a third
// or a quarter. Without one, compression saves little. Every client of Jetstream's version 1
// contains Jetstream's own dictionary and knows no other. Operators who want to use it get the file
// from there and pass it to [Parse]. [Plain] makes frames that need no dictionary, which those
// clients can read too. Clients of version 2 request the dictionary, so it can be any: [Train]
// makes one from messages.
//
// It is a separate package, so that programs that do not compress need no zstd.
package dictionary

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/klauspost/compress/dict"
	"github.com/klauspost/compress/zstd"
)

const (
	// MaxSize bounds a dictionary, in bytes. Jetstream's version 1 has one of 112,640 bytes.
	MaxSize = 1 << 20
	// window is how far back frames refer, in bytes. Clients of Jetstream allow this much.
	window = 128 << 10
)

// magic is what a dictionary begins with.
const magic = 0xec30a437

// ErrMalformed: the bytes are not a zstd dictionary.
var ErrMalformed = errors.New("dictionary: malformed")

// Dictionary compresses messages. It implements stream.Compressor, and is safe for concurrent use.
type Dictionary struct {
	id  uint32
	raw []byte
	enc *zstd.Encoder
}

// Parse reads a dictionary in the format of zstd, with an ID other than 0. It keeps raw, which must
// not be changed afterwards.
func Parse(raw []byte) (*Dictionary, error) {
	switch {
	case len(raw) > MaxSize:
		return nil, fmt.Errorf("%w: it has %d bytes; at most %d are possible", ErrMalformed, len(raw), MaxSize)
	case len(raw) < 8 || binary.LittleEndian.Uint32(raw) != magic:
		return nil, fmt.Errorf("%w: it does not begin as one in the format of zstd does", ErrMalformed)
	}
	info, err := zstd.InspectDictionary(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if info.ID() == 0 {
		return nil, fmt.Errorf("%w: its number is 0", ErrMalformed)
	}
	d := &Dictionary{id: info.ID(), raw: raw}
	return d, d.open(zstd.WithEncoderDict(raw))
}

// Plain returns an empty Dictionary, which compresses with zstd alone. Its ID is 0.
func Plain() *Dictionary {
	d := &Dictionary{}
	if err := d.open(); err != nil {
		panic(err) // the options are constants
	}
	return d
}

func (d *Dictionary) open(more ...zstd.EOption) (err error) {
	d.enc, err = zstd.NewWriter(nil, append(more,
		// Clients are served once per message, not once each, so that some are enough.
		zstd.WithEncoderConcurrency(min(4, runtime.GOMAXPROCS(0))),
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(false), // TCP, and TLS, have their own
	)...)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// ID returns the ID of the dictionary in frames; 0: they need none.
func (d *Dictionary) ID() uint32 { return d.id }

// Bytes returns the dictionary in the format of zstd; nil if frames need none. It must not be
// changed.
func (d *Dictionary) Bytes() []byte { return d.raw }

// AppendFrame appends a message as one frame.
func (d *Dictionary) AppendFrame(dst, message []byte) []byte { return d.enc.EncodeAll(message, dst) }

// Limits of Train.
const (
	// MinSamples is the minimum number of messages, and MaxSamples the maximum of their bytes that
	// are used.
	MinSamples = 64
	MaxSamples = 32 << 20
)

// Train makes a dictionary of about size bytes (0: 64 KiB) from messages; there should be some
// thousands. id must differ from the IDs of the server's earlier dictionaries; 32,768 to 2^31-1 are
// for private use. It takes some seconds, and memory of several times the messages.
func Train(id uint32, messages [][]byte, size int) ([]byte, error) {
	if size == 0 {
		size = 64 << 10
	}
	if id == 0 || size < 1<<10 || size > MaxSize {
		return nil, fmt.Errorf("dictionary: number %d, size %d: the number is not 0, and the size between 1 KiB and 1 MiB", id, size)
	}
	var samples [][]byte
	total := 0
	for _, m := range messages {
		if len(m) < 64 || total+len(m) > MaxSamples {
			continue // too short to learn from
		}
		total += len(m)
		samples = append(samples, m)
	}
	if len(samples) < MinSamples {
		return nil, fmt.Errorf("dictionary: %d messages of 64 bytes or more: at least %d are needed", len(samples), MinSamples)
	}
	raw, err := dict.BuildZstdDict(samples, dict.Options{MaxDictSize: size, HashBytes: 6, ZstdDictID: id, ZstdLevel: zstd.SpeedFastest})
	if err != nil {
		return nil, fmt.Errorf("dictionary: %w", err)
	}
	if _, err := Parse(raw); err != nil {
		return nil, err
	}
	return raw, nil
}
