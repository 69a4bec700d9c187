package migrate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// state is what a state file holds.
type state struct {
	Version int           `json:"version"`
	Account string        `json:"account"` // as it was given
	DID     syntax.DID    `json:"did"`
	OldHost string        `json:"oldHost"`
	NewHost string        `json:"newHost"`
	Handle  syntax.Handle `json:"handle"` // at the new server
	Email   string        `json:"email"`
	Done    []finished    `json:"done"`
	Repo    exported      `json:"repo,omitzero"`
	// Operation is the signed PLC operation. Anybody can submit it.
	Operation *identity.PLCOperation `json:"operation,omitempty"`
	// LostBlobs are the blobs that were given up.
	LostBlobs []string `json:"lostBlobs,omitempty"`

	path string
}

type finished struct {
	Step string    `json:"step"`
	At   time.Time `json:"at"`
}

// exported is what is known of the exported repository.
type exported struct {
	Rev     syntax.TID `json:"rev"`
	Root    string     `json:"root"` // of the tree
	Records int        `json:"records"`
	Bytes   int64      `json:"bytes"`
	// Blobs is the number of references to blobs, if Counted is set.
	Blobs   int64 `json:"blobs,omitempty"`
	Counted bool  `json:"counted,omitempty"`
}

const stateVersion = 1

// openState reads a state file. One that does not exist is an empty state.
func openState(path string) (*state, error) {
	st := &state{Version: stateVersion, path: path}
	text, err := durablefile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	} else if err != nil {
		return nil, err
	}
	if err := data.UnmarshalJSON(text, st); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if st.Version != stateVersion {
		return nil, fmt.Errorf("%s: version %d is not known", path, st.Version)
	}
	return st, nil
}

func (st *state) done(step string) bool {
	return slices.ContainsFunc(st.Done, func(f finished) bool { return f.Step == step })
}

// finish records that steps are finished.
func (st *state) finish(steps ...string) error {
	for _, step := range steps {
		if !st.done(step) {
			st.Done = append(st.Done, finished{step, time.Now().UTC().Truncate(time.Second)})
		}
	}
	return st.save()
}

// forget records that steps are to be taken again.
func (st *state) forget(steps ...string) error {
	st.Done = slices.DeleteFunc(st.Done, func(f finished) bool { return slices.Contains(steps, f.Step) })
	return st.save()
}

// save replaces the file, so that a crash leaves the old one or the new one.
func (st *state) save() error {
	text, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	return durablefile.Write(st.path, append(text, '\n'))
}
