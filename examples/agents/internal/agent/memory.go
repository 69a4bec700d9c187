package agent

import (
	"context"
	"errors"
	"slices"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
)

// An agent's private memory lies in its account's key-value namespace: in the same file as its
// repository, but never in a commit or a stream. Each value is sealed for its place, which is the
// agent's DID and the key. So a value can be neither read without the master key nor moved.
const (
	statePlace = "agent/state"  // a Memory, in JSON
	keyPlace   = "agent/key"    // the private key for messages
	heardPlace = "agent/heard/" // then DID/RKEY: the text of a message that was opened
)

// Memory is what an agent remembers. It changes in the transactions that it counts, so it is right
// after any crash: see package check.
type Memory struct {
	Cursor   int64             `json:"cursor"`   // the number of the last event in the relay's log that the agent has acted on
	Ticks    int64             `json:"ticks"`    // alarms that it has answered with tasks
	Posted   int64             `json:"posted"`   // tasks that it has written
	Accepted int64             `json:"accepted"` // of those, tasks that it has accepted a result of
	Failed   int64             `json:"failed"`   // of the accepted results, those that say that the task failed
	Results  int64             `json:"results"`  // results that it has written
	Observed int64             `json:"observed"` // observations that it has written
	Told     int64             `json:"told"`     // messages that it has written
	Heard    int64             `json:"heard"`    // messages that it has opened
	Notes    map[string]string `json:"notes"`    // what the brain wants to remember
}

// place is what a secret is sealed for.
func place(did syntax.DID, key string) string { return string(did) + "/" + key }

// sealMemory returns the write of a memory.
func sealMemory(box *sealed.Box, did syntax.DID, m *Memory) (storage.KVWrite, error) {
	b, err := data.MarshalJSON(m)
	return storage.KVWrite{Key: statePlace, Value: box.Seal(place(did, statePlace), b)}, err
}

// ReadMemory opens the memory of an agent in a snapshot of its repository. It also returns the
// value as it is stored, for the precondition of a change.
func ReadMemory(ctx context.Context, box *sealed.Box, did syntax.DID, r storage.Reader) (m Memory, stored []byte, err error) {
	if stored, err = r.Get(ctx, statePlace); err != nil {
		return m, nil, err
	}
	b, err := box.Open(place(did, statePlace), stored)
	if err != nil {
		return m, nil, err
	}
	return m, stored, data.UnmarshalJSON(b, &m)
}

// Memory returns what the agent remembers.
func (a *Agent) Memory(ctx context.Context) (m Memory, err error) {
	err = a.g.host.Repos.View(ctx, a.DID, func(r storage.Reader) (err error) {
		m, _, err = ReadMemory(ctx, a.g.host.Box, a.DID, r)
		return err
	})
	return m, err
}

// change is the one way in which an agent changes anything: records, jobs, alarm and memory in one
// transaction. fn gets the present memory, changes it, and returns what goes along. That the memory
// is still the present one is a precondition of the transaction: if it is not, as when the agent
// was killed in the middle of another change that has happened all the same, fn is called again.
func (a *Agent) change(ctx context.Context, fn func(m *Memory, r storage.Reader) (repo.Batch, error)) error {
	repos := a.g.host.Repos
	var err error
	for range 5 {
		var b repo.Batch
		err = repos.View(ctx, a.DID, func(r storage.Reader) error {
			m, stored, err := ReadMemory(ctx, a.g.host.Box, a.DID, r)
			if err != nil {
				return err
			}
			if b, err = fn(&m, r); err != nil {
				return err
			}
			write, err := sealMemory(a.g.host.Box, a.DID, &m)
			b.KV = append(b.KV, write)
			b.Checks = append(b.Checks, storage.KVCheck{Key: statePlace, Value: stored})
			return err
		})
		if errors.Is(err, errNothing) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(b.Writes) > 0 {
			_, err = repos.Apply(ctx, a.DID, b)
		} else { // no record changes, so there is no commit
			_, err = repos.Step(ctx, a.DID, func(s *repo.Step) error {
				s.Checks, s.KV = b.Checks, b.KV
				return nil
			})
		}
		if !errors.Is(err, storage.ErrConflict) && !errors.Is(err, repo.ErrInvalidSwap) && !errors.Is(err, repo.ErrRecordExists) {
			return err
		}
	}
	return err
}

// errNothing is returned by a function of change that finds nothing to be done.
var errNothing = errors.New("agent: nothing to be done")

func orNothing(err error) error {
	if err == nil {
		return errNothing
	}
	return err
}

// remember adds the notes of an answer. The oldest names go when there are too many, in the order
// of the alphabet, which is as good as any.
func (m *Memory) remember(notes map[string]string, most int) {
	if m.Notes == nil {
		m.Notes = make(map[string]string)
	}
	for key, value := range notes {
		if m.Notes[key] = value; value == "" {
			delete(m.Notes, key)
		}
	}
	if len(m.Notes) > most {
		keys := make([]string, 0, len(m.Notes))
		for key := range m.Notes {
			if _, fresh := notes[key]; !fresh {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		for _, key := range keys[:min(len(keys), len(m.Notes)-most)] {
			delete(m.Notes, key)
		}
	}
}

// exists reports whether a repository has a record, in a snapshot.
func exists(ctx context.Context, r storage.Reader, collection syntax.NSID, rkey syntax.RecordKey) (bool, error) {
	_, err := repo.Record(ctx, r, collection, rkey)
	if errors.Is(err, repo.ErrRecordNotFound) {
		return false, nil
	}
	return err == nil, err
}
