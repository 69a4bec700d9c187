package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Files is a SessionStore, a StateStore and a Locker in a directory, for command-line programs, of
// which several may run at once. Each session and login is a file with mode 0600. Dir is required;
// it is created with mode 0700. It is safe for concurrent use, by all processes on one machine.
//
// A lock ends with its holder, also if that crashes. On systems without file locks (not Unix), all
// this holds only for one process that has one Files for the directory.
type Files struct {
	Dir string
	// Now is the clock; default time.Now.
	Now func() time.Time

	once  sync.Once
	ready error
	turn  sync.Mutex // of those who change files, in this process
	locks Memory     // and of those who want the same lock
}

func (f *Files) init() error {
	f.once.Do(func() { f.ready = durablefile.MkdirAll(f.Dir) })
	return f.ready
}

// file is what a file has.
type file struct {
	Name    string    `json:"name"`
	Value   []byte    `json:"value"`
	Expires time.Time `json:"expires,omitzero"`
}

// path is where something is: names may be too long for file names, and of any characters.
func (f *Files) path(kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(f.Dir, kind+"-"+hex.EncodeToString(sum[:16]))
}

func readFile(path string) (v file, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, ErrNotFound
	}
	if err != nil {
		return v, err
	}
	if err := exactjson.Unmarshal(text, &v); err != nil {
		return v, fmt.Errorf("oauth client: %s: %w", path, err)
	}
	return v, nil
}

func writeFile(path string, v file) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return durablefile.Write(path, text)
}

// change calls fn while nobody else changes files. Others can only be about to do the same, which
// takes no time.
func (f *Files) change(fn func() error) error {
	if err := f.init(); err != nil {
		return err
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	lock, err := filelock.Wait(filepath.Join(f.Dir, "change"), filelock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	return fn()
}

// Get implements SessionStore.
func (f *Files) Get(_ context.Context, id SessionID) ([]byte, error) {
	v, err := readFile(f.path("session", string(id)))
	return v.Value, err
}

// CompareAndSwap implements SessionStore.
func (f *Files) CompareAndSwap(_ context.Context, id SessionID, old, new []byte) error {
	path := f.path("session", string(id))
	return f.change(func() error {
		v, err := readFile(path)
		switch {
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		case (err == nil) != (old != nil) || !bytes.Equal(v.Value, old):
			return ErrConflict
		}
		return writeFile(path, file{Name: string(id), Value: new})
	})
}

// Delete implements SessionStore.
func (f *Files) Delete(_ context.Context, id SessionID, old []byte) error {
	path := f.path("session", string(id))
	return f.change(func() error {
		v, err := readFile(path)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil && old != nil:
			return err
		case old != nil && !bytes.Equal(v.Value, old):
			return ErrConflict
		}
		return durablefile.Remove(path)
	})
}

// List implements SessionStore.
func (f *Files) List(_ context.Context, did syntax.DID) iter.Seq2[SessionID, error] {
	return func(yield func(SessionID, error) bool) {
		entries, err := os.ReadDir(f.Dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			yield("", err)
			return
		}
		for _, e := range entries {
			if !isNamed(e.Name(), "session-") {
				continue
			}
			v, err := readFile(filepath.Join(f.Dir, e.Name()))
			if errors.Is(err, ErrNotFound) {
				continue // meanwhile
			}
			id := SessionID(v.Name)
			if err == nil && did != "" && id.DID() != did {
				continue
			}
			if !yield(id, err) || err != nil {
				return
			}
		}
	}
}

// isNamed reports whether a file is one of ours, and not what a crash has left of one.
func isNamed(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	_, err := hex.DecodeString(rest)
	return ok && len(rest) == 32 && err == nil
}

// Put implements StateStore. It removes logins that have expired.
func (f *Files) Put(_ context.Context, key string, value []byte, expires time.Time) error {
	return f.change(func() error {
		entries, err := os.ReadDir(f.Dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(f.Dir, e.Name())
			if isNamed(e.Name(), "login-") {
				if v, err := readFile(path); err == nil && f.expired(v) {
					os.Remove(path)
				}
			}
		}
		return writeFile(f.path("login", key), file{Name: key, Value: value, Expires: expires})
	})
}

func (f *Files) expired(v file) bool {
	now := time.Now
	if f.Now != nil {
		now = f.Now
	}
	return !now().Before(v.Expires)
}

// Take implements StateStore.
func (f *Files) Take(_ context.Context, key string) (value []byte, err error) {
	path := f.path("login", key)
	err = f.change(func() error {
		v, err := readFile(path)
		if err != nil {
			return err
		}
		if err := durablefile.Remove(path); err != nil {
			return err
		}
		if f.expired(v) {
			return ErrNotFound
		}
		value = v.Value
		return nil
	})
	return value, err
}

// Lock implements Locker. It does not use the ttl.
func (f *Files) Lock(ctx context.Context, name string, ttl time.Duration) (unlock func(), err error) {
	if err := f.init(); err != nil {
		return nil, err
	}
	path := f.path("lock", name)
	mine, err := f.locks.Lock(ctx, path, ttl)
	if err != nil {
		return nil, err
	}
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		lock, err := filelock.Try(path, filelock.Exclusive)
		if err == nil && isAt(lock, path) {
			return sync.OnceFunc(func() {
				os.Remove(path) // before others can lock it: so they see that it is not there
				lock.Close()
				mine()
			}), nil
		}
		if err == nil {
			lock.Close() // its holder has just removed it
			continue
		}
		if !errors.Is(err, filelock.ErrLocked) {
			mine()
			return nil, err
		}
		if err := sleep.For(ctx, wait/2+mathrand.N(wait)); err != nil {
			mine()
			return nil, err
		}
	}
}

// isAt reports whether an open file is still the one with a name.
func isAt(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}
