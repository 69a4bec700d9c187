package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/bucket"
)

// uploads is how many blobs are stored at a time. Each takes some megabytes of memory.
const uploads = 4

// A list of stored blobs is stored after so many blobs, or bytes of them, so that they are known if
// the backup is interrupted.
const (
	notedBlobs = 256
	notedBytes = 64 << 20
)

// ToRemote adds a generation to those in an object store, and removes the generations that Keep
// does not keep. It needs space for a copy of the database in the directory of the source. If it
// fails, the existing generations are unchanged, and the next backup continues with the blobs that
// were stored.
//
// With an Encryption, all objects but manifests and lists of blobs are encrypted.
func (b Backup) ToRemote(ctx context.Context, src Source, to Remote) (m *Manifest, err error) {
	src.validate()
	r, err := to.open()
	if err != nil {
		return nil, err
	}
	w, err := b.openRemote(ctx, src, r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	if m, err = b.run(ctx, src, w); err != nil {
		return nil, err
	}
	return m, w.retain(ctx, b.Keep)
}

// remoteWriter writes a generation to an object store.
type remoteWriter struct {
	remote
	names
	ctx        context.Context
	temp       string // a folder
	tempLock   *os.File
	lock       *remoteLock
	encryption *Encryption
	fast       bool
	blobsIn    string // folder of the blobs, with a slash at its end
	generation string // folder of this generation, likewise
	older      []remoteGeneration
	objects    map[nameKey]int64 // objects of blobs, when the backup began

	places  chan struct{} // one for each upload under way
	running sync.WaitGroup

	mu       sync.Mutex
	uploaded map[nameKey]remoteBlob // those that were stored with success
	failed   error                  // of an upload
	noted    []byte                 // lines about uploads since the last list
	lines    int
	bytes    int64
}

func (b Backup) openRemote(ctx context.Context, src Source, r remote) (_ *remoteWriter, err error) {
	w := &remoteWriter{remote: r, names: b.Layout.names(), ctx: ctx, encryption: b.Encryption, fast: b.Fast, blobsIn: remoteBlobs + "plain/",
		objects: make(map[nameKey]int64), uploaded: make(map[nameKey]remoteBlob), places: make(chan struct{}, uploads)}
	if e := b.Encryption; e != nil {
		sum := sha256.Sum256([]byte(e.ID))
		w.blobsIn = remoteBlobs + hex.EncodeToString(sum[:8]) + "/"
	}
	if w.lock, err = r.lock(ctx, src.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(ctx))
		}
	}()
	if w.temp, w.tempLock, err = tempIn(src.Dir); err != nil {
		return nil, err
	}
	if err = w.survey(ctx); err != nil {
		return nil, err
	}
	now := time.Now
	if b.Now != nil {
		now = b.Now
	}
	w.generation = fmt.Sprintf("%s%s-%s/", remoteGenerations, now().UTC().Format("20060102T150405Z"), strings.ToLower(rand.Text()[:8]))
	return w, nil
}

// survey finds out what is there already, and removes what interrupted backups have left, but for
// blobs, and for the lists that name them.
func (w *remoteWriter) survey(ctx context.Context) error {
	other, unfinished := "", map[string]int64{}
	err := w.list(ctx, "", maxObjects, func() { clear(w.objects) }, func(name string, size int64) {
		switch blob, ok := strings.CutPrefix(name, w.blobsIn); {
		case ok:
			w.objects[keyOf(blob)] = size
		case strings.HasPrefix(name, remoteUnfinished):
			unfinished[name] = size
		case !strings.HasPrefix(name, remoteGenerations) && !strings.HasPrefix(name, remoteBlobs) && !strings.HasPrefix(name, remoteLocks):
			other = name
		}
	})
	if err != nil {
		return err
	}
	if other != "" {
		return fmt.Errorf("%w: %s%s is in the store", ErrNotBackup, w.prefix, other)
	}
	var rest []string
	if w.older, rest, err = w.remote.complete(ctx); err != nil {
		return err
	}
	if err := w.delete(ctx, rest...); err != nil {
		return err
	}
	if a, ok := w.b.(bucket.Aborter); ok {
		if err := try(ctx, func() error { _, err := a.Abort(ctx, w.prefix, time.Now()); return err }); err != nil {
			return err
		}
	}
	for _, g := range slices.Backward(w.older) { // the newest one has the last word
		if g.m == nil || g.m.Folder != w.blobsIn {
			continue
		}
		err := w.eachBlob(ctx, g, w.reuse)
		if err != nil && !errors.Is(err, ErrBadBackup) && !errors.Is(err, ErrGone) {
			return err
		}
	}
	for name, size := range unfinished {
		in := w.reader(ctx, name, size)
		folder := make([]byte, min(size, int64(len(w.blobsIn)+1)))
		_, err := io.ReadFull(in, folder)
		if err == nil && string(folder) == w.blobsIn+"\n" {
			err = eachLine(in, w.reuse)
		}
		if err = errors.Join(err, in.Close()); err != nil && !errors.Is(err, ErrBadBackup) && !errors.Is(err, ErrGone) {
			return err
		}
	}
	return nil
}

// reuse takes a blob for one that is there, if its object is.
func (w *remoteWriter) reuse(l remoteLine) error {
	key := keyOf(l.name)
	if size, ok := w.objects[key]; ok && !l.bad && size == l.size {
		w.uploaded[key] = l.remoteBlob
	}
	return nil
}

func (w *remoteWriter) dir() string    { return w.temp }
func (w *remoteWriter) folder() string { return filepath.Join(w.temp, w.blobs) } // there are none

func (w *remoteWriter) previous() *Manifest {
	for _, g := range w.older {
		if g.m != nil {
			return g.m
		}
	}
	return nil
}

func (w *remoteWriter) has(_ context.Context, name string) (size int64, ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, ok := w.uploaded[keyOf(name)]
	return b.size, ok, nil
}

// copyBlob looks at a blob on the server, and has it stored if it is not there: when it returns, that
// may be under way. An error of an upload comes from a later call, or from finish.
func (w *remoteWriter) copyBlob(ctx context.Context, name, from string) (size int64, err error) {
	c, _ := blobfs.FileCID(name)
	info, err := blobfs.StatFile(from, c)
	if err != nil {
		return 0, &sourceError{err}
	}
	w.mu.Lock()
	known, ok := w.uploaded[keyOf(name)]
	failed := w.failed
	w.mu.Unlock()
	if failed != nil {
		return 0, failed
	}
	ok = ok && known.kind == kindOf(info)
	if !ok || !w.fast {
		if _, err := blobfs.CheckFile(ctx, from, c); err != nil {
			return 0, &sourceError{err}
		}
	}
	if ok {
		return known.size, nil
	}
	f, err := os.Open(from)
	if err != nil {
		return 0, &sourceError{err}
	}
	stat, err := f.Stat()
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	select {
	case <-ctx.Done():
		return 0, errors.Join(ctx.Err(), f.Close())
	case w.places <- struct{}{}:
	}
	w.running.Go(func() {
		defer func() { <-w.places }()
		defer f.Close()
		stored, err := w.store(ctx, w.blobsIn+name, f, stat.Size(), func() io.Reader { return newChecked(f, info) })
		if err == nil {
			err = w.stored(ctx, remoteLine{name: name, remoteBlob: remoteBlob{stored, kindOf(info)}})
		}
		if err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.failed == nil {
				w.failed = err
			}
		}
	})
	return stat.Size(), nil
}

// stored notes that a blob is there.
func (w *remoteWriter) stored(ctx context.Context, l remoteLine) error {
	w.mu.Lock()
	w.uploaded[keyOf(l.name)] = l.remoteBlob
	if w.noted == nil {
		w.noted = []byte(w.blobsIn + "\n")
	}
	w.noted, w.lines, w.bytes = l.append(w.noted), w.lines+1, w.bytes+l.size
	var text []byte
	if w.lines >= notedBlobs || w.bytes >= notedBytes {
		text, w.noted, w.lines, w.bytes = w.noted, nil, 0, 0
	}
	w.mu.Unlock()
	return w.note(ctx, text)
}

func (w *remoteWriter) note(ctx context.Context, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	return w.putText(ctx, remoteUnfinished+rand.Text(), text)
}

// store stores an object, encrypted if that is asked for, and returns its size. Unless the backup is
// fast, it is read again. What is read of the file goes through what the function returns; nil: nothing.
func (w *remoteWriter) store(ctx context.Context, name string, f io.ReadSeeker, size int64, through func() io.Reader) (stored int64, err error) {
	err = try(ctx, func() error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		var in io.Reader = f
		if through != nil {
			in = through()
		}
		body, length, done, err := w.encrypted(in, size)
		if err != nil {
			return err
		}
		sent := &counter{h: sha256.New(), in: body}
		if err := errors.Join(w.b.Put(ctx, w.prefix+name, sent, length), done()); err != nil {
			return err
		}
		if stored = sent.n; w.fast {
			return nil
		}
		return w.same(ctx, name, stored, sent.sum())
	})
	if err != nil {
		return 0, fmt.Errorf("to store %s: %w", name, err)
	}
	return stored, nil
}

// small is up to which size something is encrypted in memory.
const small = 1 << 20

// encrypted returns what is stored of a file, with its length, -1 if that is not known.
func (w *remoteWriter) encrypted(in io.Reader, size int64) (body io.Reader, length int64, done func() error, err error) {
	if w.encryption == nil {
		return in, size, func() error { return nil }, nil
	}
	encrypt := func(out io.Writer) error {
		e, err := w.encryption.Writer(out)
		if err != nil {
			return err
		}
		if _, err := io.Copy(e, in); err != nil {
			return err
		}
		return e.Close()
	}
	if size <= small {
		var b bytes.Buffer
		err := encrypt(&b)
		return &b, int64(b.Len()), func() error { return nil }, err
	}
	r, out := io.Pipe()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		out.CloseWithError(encrypt(out))
	}()
	return r, -1, func() error {
		r.CloseWithError(io.ErrClosedPipe)
		<-finished
		return nil
	}, nil
}

func (w *remoteWriter) put(name string, data []byte) error {
	_, err := w.store(w.ctx, w.generation+name, bytes.NewReader(data), int64(len(data)), nil)
	return err
}
