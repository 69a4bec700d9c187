package storagetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// toy keeps a memory store on disk, by a log of all its steps that is played
// again when it is opened. With flaws it proves the checks that need files.
type toy struct {
	hookRepos
	mu    sync.Mutex
	clock time.Time
	file  *os.File
	flaws toyFlaws
	late  bytes.Buffer // not written yet
}

type toyFlaws struct {
	late      bool // writes some steps after they were acknowledged
	halves    bool // writes a step's records and keys one after the other
	twice     bool // delivers events again after a restart
	unchecked bool // does not notice damage
}

// toyStep is an entry of the log.
type toyStep struct {
	Time    time.Time
	DID     syntax.DID
	Change  toyChange
	Replace []toyRecord
	IsWhole bool // it is a Replace
}

// toyChange and toyRecord are what gob can encode.
type toyChange struct {
	Prev, Head [3]string
	Commit     []byte
	Records    []toyRecord
	Events     []storage.Event
	KV         []storage.KVWrite
}

type toyRecord struct {
	Path  string
	CID   string
	Data  []byte
	Blobs []string
}

func toHead(h storage.Head) [3]string {
	return [3]string{h.Commit.KeyString(), h.Data.KeyString(), string(h.Rev)}
}

func fromHead(h [3]string) storage.Head {
	return storage.Head{Commit: fromCID(h[0]), Data: fromCID(h[1]), Rev: syntax.TID(h[2])}
}

func (s *toyStep) set(c *storage.Change) {
	s.Change = toyChange{Prev: toHead(c.Prev), Head: toHead(c.Head), Commit: c.Commit, Records: toRecords(c.Records), Events: c.Events, KV: c.KV}
}

func (s *toyStep) change() *storage.Change {
	c := s.Change
	return &storage.Change{Prev: fromHead(c.Prev), Head: fromHead(c.Head), Commit: c.Commit, Records: fromRecords(c.Records), Events: c.Events, KV: c.KV}
}

func toRecords(list []storage.RecordChange) (out []toyRecord) {
	for _, r := range list {
		x := toyRecord{Path: r.Path, CID: r.CID.KeyString(), Data: r.Data}
		for _, b := range r.Blobs {
			x.Blobs = append(x.Blobs, b.KeyString())
		}
		out = append(out, x)
	}
	return out
}

func fromRecords(list []toyRecord) (out []storage.RecordChange) {
	for _, r := range list {
		x := storage.RecordChange{Path: r.Path, CID: fromCID(r.CID), Data: r.Data}
		for _, b := range r.Blobs {
			x.Blobs = append(x.Blobs, fromCID(b))
		}
		out = append(out, x)
	}
	return out
}

func openToy(dir string, flaws toyFlaws) (storage.Store, func() error, error) {
	t := &toy{flaws: flaws}
	s := memory.New(memory.Config{Now: func() time.Time { return t.clock }})
	t.Repos = s.Repos
	var err error
	if t.file, err = os.OpenFile(filepath.Join(dir, "log"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return s, nil, err
	}
	if err := t.replay(); err != nil {
		return s, nil, err
	}
	t.apply = func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		step := toyStep{Time: time.Now(), DID: did}
		step.set(c)
		if t.flaws.halves && c.Head != c.Prev && c.Prev != (storage.Head{}) {
			first := step
			first.Change.KV = nil
			second := toyStep{Time: step.Time, DID: did, Change: toyChange{Prev: toHead(c.Head), Head: toHead(c.Head), KV: c.KV}}
			if err := t.write(&first); err != nil {
				return 0, err
			}
			time.Sleep(2 * time.Millisecond)
			if err := t.write(&second); err != nil {
				return 0, err
			}
		} else if err := t.write(&step); err != nil {
			return 0, err
		}
		t.clock = step.Time
		return t.Repos.Apply(ctx, did, c)
	}
	t.replace = func(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		step := toyStep{Time: time.Now(), DID: did, IsWhole: true}
		var list []storage.RecordChange
		for r, err := range records {
			if err != nil {
				return 0, err
			}
			r.Data = bytes.Clone(r.Data)
			list = append(list, r)
		}
		c, err := final()
		if err != nil {
			return 0, err
		}
		step.set(c)
		step.Replace = toRecords(list)
		if err := t.write(&step); err != nil {
			return 0, err
		}
		t.clock = step.Time
		return t.play(&step)
	}
	s.Repos = t
	return s, func() error {
		_, err := t.file.Write(t.late.Bytes())
		t.file.Close()
		return err
	}, nil
}

// write appends an entry: its length, its checksum and itself.
func (t *toy) write(step *toyStep) error {
	var body bytes.Buffer
	if err := gob.NewEncoder(&body).Encode(step); err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(body.Len()))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(body.Bytes()))
	t.late.Write(append(b, body.Bytes()...))
	if t.flaws.late && t.late.Len() < 20_000 {
		return nil
	}
	_, err := t.file.Write(t.late.Bytes())
	t.late.Reset()
	return err
}

func (t *toy) replay() error {
	log, err := io.ReadAll(t.file)
	if err != nil {
		return err
	}
	for at := 0; at < len(log); {
		if len(log)-at < 8 || len(log)-at-8 < int(binary.BigEndian.Uint32(log[at:])) {
			return t.file.Truncate(int64(at)) // the process died while it wrote; or so it seems
		}
		body := log[at+8:][:binary.BigEndian.Uint32(log[at:])]
		if !t.flaws.unchecked && crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(log[at+4:]) {
			return storage.ErrCorrupt
		}
		at += 8 + len(body)
		var step toyStep
		if err := gob.NewDecoder(bytes.NewReader(body)).Decode(&step); err != nil {
			return storage.ErrCorrupt
		}
		if t.flaws.twice && at == len(log) && len(step.Change.Events) > 0 {
			step.Change.Events = append(step.Change.Events, step.Change.Events...)
		}
		t.clock = step.Time
		if _, err := t.play(&step); err != nil {
			return storage.ErrCorrupt
		}
	}
	return nil
}

// play carries out an entry.
func (t *toy) play(step *toyStep) (int64, error) {
	if !step.IsWhole {
		return t.Repos.Apply(context.Background(), step.DID, step.change())
	}
	return t.Repos.Replace(context.Background(), step.DID, stream(fromRecords(step.Replace), nil), func() (*storage.Change, error) { return step.change(), nil })
}

func toyBackend(flaws toyFlaws) Backend {
	return Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		s, closeIt, err := openToy(dir, flaws)
		if err != nil {
			tb.Fatal(err)
		}
		return s, closeIt
	}}
}

// crashFlaw names, for the writing process, what is wrong with the toy.
const crashFlaw = "PDSKIT_STORAGETEST_CRASH_FLAW"

func flawed(name string) toyFlaws {
	return toyFlaws{late: name == "late", halves: name == "halves", twice: name == "twice", unchecked: name == "unchecked"}
}

// TestCrash is also what the writing processes run.
func TestCrash(t *testing.T) {
	if os.Getenv(crashDir) != "" {
		RunCrash(t, toyBackend(flawed(os.Getenv(crashFlaw))), 0)
		return
	}
	for _, flaw := range []string{"", "late", "halves", "twice"} {
		t.Setenv(crashFlaw, flaw)
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			crash(r, toyBackend(flawed(flaw)), map[bool]int{true: 12, false: 40}[flaw == ""]) // most flaws show soon
		}()
		<-done
		if flaw == "" && r.Failed() {
			t.Errorf("a toy without flaws: %s", strings.Join(r.log, "\n"))
		} else if flaw != "" && !r.Failed() {
			t.Errorf("RunCrash does not notice what is wrong: %s", flaw)
		} else if flaw != "" {
			t.Logf("%s: %s", flaw, cut(r.log[0]))
		}
	}
}

// The toy takes a log that was cut for one that was being written, so even the
// good one has a flaw. It is enough that the check sees which is which.
func TestDamage(t *testing.T) {
	counts := map[string]int{}
	for _, flaw := range []string{"", "unchecked"} {
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			damage(newEnv(r, toyBackend(flawed(flaw)), 0), 60)
		}()
		<-done
		for _, line := range r.log {
			if !strings.Contains(line, " cut to ") {
				counts[flaw]++
			} else {
				counts["cut"]++
			}
		}
	}
	if counts[""] > 3 || counts["unchecked"] < 3 || counts["cut"] == 0 {
		t.Errorf("complaints: %s", fmt.Sprint(counts))
	}
	t.Log(counts)
}
