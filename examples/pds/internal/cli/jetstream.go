package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/stream"
	"github.com/pdskit/pdskit/xrpc/stream/dictionary"
)

const trainHelp = `
A zstd dictionary is made from the events that the server keeps, and written to FILE. It makes the
messages of the JSON stream of version 2 (PDS_JETSTREAM=true) 3 to 4 times shorter. To use it, set
PDS_JETSTREAM_V2_DICTIONARY=FILE and restart the server; clients fetch it from the server. Clients
of version 1 only know Jetstream's own dictionary.

The server may run meanwhile. It should have some thousands of records of the last days, and needs
at least 64. When what people write has changed much, train again into the same FILE: the new
dictionary gets another number, and clients fetch it when they reconnect.
`

func trainFlags(c *call) {
	c.Int64Var(&c.values.number, "id", 0, "the dictionary's `number`, never used before on this server (default: the date, such as 20260102, or one more than the number of the existing FILE)")
}

// What is trained with: messages of up to so many bytes, as many of them, chosen at random. Longer
// ones gain little by a dictionary.
const (
	trainMessage  = 4 << 10
	trainMessages = 8 << 10
)

// trainDictionary makes a dictionary for version 2 of the JSON stream.
func trainDictionary(ctx context.Context, c *call) (err error) {
	file := c.args[0]
	number, err := dictionaryNumber(file, c.values.number, time.Now())
	if err != nil {
		return err
	}
	_, _, d, err := c.open(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	shown := c.progress("events")
	sample, err := sampleMessages(ctx, d.Store.Events, shown.at)
	shown.done()
	if err != nil {
		return err
	}
	if len(sample) < dictionary.MinSamples*5/4 {
		return fmt.Errorf("the events that are kept have %d messages: at least %d are needed, and some thousands are better", len(sample), dictionary.MinSamples*5/4)
	}
	held := len(sample) / 5 // which the dictionary has not seen
	raw, err := dictionary.Train(number, sample[held:], 0)
	if err != nil {
		return err
	}
	dict, err := dictionary.Parse(raw)
	if err != nil {
		return err
	}
	r := trained{File: file, ID: number, Bytes: len(raw), Messages: len(sample)}
	r.With, r.Without = share(dict, sample[:held]), share(dictionary.Plain(), sample[:held])
	if err := durablefile.Write(file, raw); err != nil {
		return err
	}
	return c.result(r, "Wrote dictionary %d of %d bytes, of %d messages, to %s.\nOther messages take %d %% of their size with it, and %d %% without one.\nTo use it, set PDS_JETSTREAM_V2_DICTIONARY=%s and restart the server.",
		r.ID, r.Bytes, r.Messages, file, r.With, r.Without, file)
}

// trained is the result of trainDictionary.
type trained struct {
	File     string `json:"file"`
	ID       uint32 `json:"id"`
	Bytes    int    `json:"bytes"`
	Messages int    `json:"messages"`
	// Of their size, messages that the dictionary has not seen take so many per cent.
	With    int `json:"with"`
	Without int `json:"without"`
}

// dictionaryNumber is the one that is asked for, or the date, or one that the file's has not.
func dictionaryNumber(file string, asked int64, now time.Time) (uint32, error) {
	const private, last = 32768, 1<<31 - 1
	var old int64
	raw, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, err
	default:
		d, err := dictionary.Parse(raw)
		if err != nil {
			return 0, fmt.Errorf("%s is there and is not overwritten: %w", file, err)
		}
		old = int64(d.ID())
	}
	if asked == 0 {
		date, _ := strconv.ParseInt(now.UTC().Format("20060102"), 10, 64)
		asked = max(date, old+1)
	}
	switch {
	case asked < private || asked > last:
		return 0, fmt.Errorf("%w: -id is between %d and %d, the numbers for private use", errUsage, private, last)
	case asked == old:
		return 0, fmt.Errorf("%w: the dictionary in %s has number %d already, and clients keep it", errUsage, file, old)
	}
	return uint32(asked), nil
}

// sampleMessages returns messages of the log, in random order, each with the same chance.
func sampleMessages(ctx context.Context, log storage.Events, progress func(n int)) (sample [][]byte, err error) {
	r := rand.New(rand.NewPCG(1, 2)) // the same log gives the same dictionary
	events, seen := 0, 0
	for e, err := range log.Since(ctx, 0) {
		if err != nil {
			return nil, err
		}
		messages, _ := stream.EventMessages(e)
		for _, m := range messages {
			if len(m) > trainMessage {
				continue
			}
			seen++
			if len(sample) < trainMessages {
				sample = append(sample, m)
			} else if i := r.IntN(seen); i < len(sample) {
				sample[i] = m
			}
		}
		events++
		progress(events)
	}
	r.Shuffle(len(sample), func(i, j int) { sample[i], sample[j] = sample[j], sample[i] })
	return sample, nil
}

// share is how many per cent of their size messages take when they are compressed.
func share(d *dictionary.Dictionary, messages [][]byte) int {
	all, packed := 0, 0
	var frame []byte
	for _, m := range messages {
		frame = d.AppendFrame(frame[:0], m)
		all, packed = all+len(m), packed+len(frame)
	}
	return (100*packed + all/2) / max(all, 1)
}
