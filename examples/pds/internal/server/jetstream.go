package server

import (
	"fmt"
	"os"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/stream/dictionary"
)

// openJetstream reads the dictionaries of the JSON streams.
func openJetstream(cfg *config.Config) (j pds.Jetstream, err error) {
	if !cfg.Jetstream {
		return j, nil
	}
	read := func(name, file string) *dictionary.Dictionary {
		raw, e := os.ReadFile(file)
		var d *dictionary.Dictionary
		if e == nil {
			d, e = dictionary.Parse(raw)
		}
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", name, e)
		}
		return d
	}
	j = pds.Jetstream{On: true, First: dictionary.Plain()}
	if file := cfg.JetstreamDictionary; file != "" {
		j.First = read("PDS_JETSTREAM_DICTIONARY", file)
	}
	if file := cfg.JetstreamDictionaryV2; file != "" {
		j.Second = read("PDS_JETSTREAM_V2_DICTIONARY", file)
	}
	return j, err
}
