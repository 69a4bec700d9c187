package certs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/exactjson"
)

// State is how certificates stand, for whoever looks from beside the server.
type State struct {
	// Name is that of the server, and Expires when its certificate ends; zero: it has none.
	Name    string    `json:"name"`
	Expires time.Time `json:"expires,omitzero"`
	// Failure is the last one, unless it was mended.
	Failure *Failure `json:"failure,omitempty"`
}

// Failure is a certificate that could not be had.
type Failure struct {
	Name   string    `json:"name,omitempty"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

const (
	stateFile = "state.json"
	maxState  = 8 << 10
)

// ReadState reads the state from a folder. That of a server that has asked for no certificate yet
// is zero.
func ReadState(dir string) (s State, err error) {
	f, err := os.Open(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return s, err
	}
	defer f.Close()
	doc, err := io.ReadAll(io.LimitReader(f, maxState))
	if err == nil {
		err = exactjson.UnmarshalPlain(doc, &s)
	}
	if err != nil {
		return State{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return s, nil
}

// keep changes the state and writes it.
func (c *Certs) keep(change func(s *State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.state)
	doc, err := json.Marshal(c.state)
	if err == nil {
		if err = durablefile.MkdirAll(c.cfg.Dir); err == nil {
			err = durablefile.Write(filepath.Join(c.cfg.Dir, stateFile), append(doc, '\n'))
		}
	}
	if err != nil {
		c.log.Warn("certificate: its state cannot be noted", "error", err)
	}
}
