// Package lex has the records of agents: their Lexicon schemas, the Go types generated from these,
// and the only code that makes and reads records. An agent's own records and those of others pass
// the same check.
//
//	profile      who an agent is, and the key for messages to it
//	task         what an agent wants to be done
//	claim        an agent works on a task (the public trace of a lease)
//	result       the outcome of a task
//	acceptance   the author of the task accepts a result: now the task is done
//	observation  what an agent has found out
//	message      a text that one other agent can read
//
// A reference names a record by its URI and its hash (com.atproto.repo.strongRef). So a result
// proves which version of a task it answers.
package lex

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
)

//go:generate go run ../../../../lexicon/gen/lexgen -package lex -schemas lexicons -client=false -trim org.pdskit.agent,com.atproto.repo org.pdskit.agent.*

//go:embed lexicons/*.json
var files embed.FS

// What a result says of its task.
const (
	Done   = "done"
	Failed = "failed"
)

// Prefix is what the names of all collections begin with.
const Prefix = "org.pdskit.agent."

// catalog has the schemas, and those of com.atproto that they refer to.
var catalog = sync.OnceValues(func() (*lexicon.Catalog, error) {
	c := lexicon.Builtin()
	dir, err := fs.Sub(files, "lexicons")
	if err != nil {
		return nil, err
	}
	if err := c.AddFS(dir); err != nil {
		return nil, err
	}
	return c, c.Check()
})

// Ref is a reference to one version of a record.
type Ref = StrongRef

// NewRef returns the reference to a version of a record.
func NewRef(did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey, cid string) Ref {
	return Ref{URI: syntax.ATURI("at://" + string(did) + "/" + string(collection) + "/" + string(rkey)), CID: syntax.CID(cid)}
}

// Parts returns what a reference is about. A Ref of a record that was read here always has them.
func Parts(r Ref) (did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey, ok bool) {
	f := strings.Split(strings.TrimPrefix(string(r.URI), "at://"), "/")
	if len(f) != 3 || !strings.HasPrefix(f[0], "did:") {
		return "", "", "", false
	}
	return syntax.DID(f[0]), syntax.NSID(f[1]), syntax.RecordKey(f[2]), true
}

// KeyFor returns the record key of a claim on a task, and of a result: an agent has one of each for
// a task at most, and whoever knows the task finds them.
func KeyFor(task Ref) syntax.RecordKey {
	sum := sha256.Sum256([]byte(task.URI))
	return syntax.RecordKey(hex.EncodeToString(sum[:12]))
}

// Write returns the write of a record that conforms to its schema.
func Write(action repo.Action, collection syntax.NSID, rkey syntax.RecordKey, record any) (repo.Write, error) {
	b, err := data.Marshal(record)
	if err != nil {
		return repo.Write{}, fmt.Errorf("lex: a record of %s: %w", collection, err)
	}
	if err := Check(collection, rkey, b); err != nil {
		return repo.Write{}, err
	}
	return repo.Write{Action: action, Collection: collection, RKey: rkey, Record: b}, nil
}

// Check returns an error if a record, as it is in a repository, does not conform to its schema.
func Check(collection syntax.NSID, rkey syntax.RecordKey, record []byte) error {
	c, err := catalog()
	if err != nil {
		return err
	}
	value, err := data.Decode(record, data.Limits{})
	if err == nil {
		err = c.ValidateRecord(collection, rkey, value)
	}
	if err != nil {
		return fmt.Errorf("lex: %s/%s: %w", collection, rkey, err)
	}
	return nil
}

// Read reads a record of a repository: a *Profile, *Task, *Claim, *Result, *Acceptance, *Observation
// or *Message. A stranger may have written it: the error says why it is none of these.
func Read(collection syntax.NSID, rkey syntax.RecordKey, record []byte) (any, error) {
	var v any
	switch collection {
	case ProfileNSID:
		v = new(Profile)
	case TaskNSID:
		v = new(Task)
	case ClaimNSID:
		v = new(Claim)
	case ResultNSID:
		v = new(Result)
	case AcceptanceNSID:
		v = new(Acceptance)
	case ObservationNSID:
		v = new(Observation)
	case MessageNSID:
		v = new(Message)
	default:
		return nil, fmt.Errorf("lex: %s is no collection of agents", collection)
	}
	if err := Check(collection, rkey, record); err != nil {
		return nil, err
	}
	if err := data.Unmarshal(record, v); err != nil {
		return nil, fmt.Errorf("lex: %s/%s: %w", collection, rkey, err)
	}
	return v, nil
}

// Now is a time as records have it.
func Now(t time.Time) syntax.Datetime { return syntax.NewDatetime(t) }
