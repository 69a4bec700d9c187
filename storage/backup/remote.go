package backup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
)

// Remote is a place for backups in an object store, such as an S3 bucket: see "In an object store"
// in the package comment. Names of objects begin with Prefix. There must be no other objects below
// it.
type Remote struct {
	// Bucket is required. Uploading the database may take long: s3.Config.UploadTimeout should be
	// hours. An object that is damaged, or a blob whose type was changed, is stored again under
	// its name: s3.Config.ConditionalWrites must be off.
	Bucket bucket.Bucket
	// Prefix is like the name of a folder, such as "pds/backups". Empty: the whole bucket.
	Prefix string
	// Generation is the generation to restore, such as "20261129T033000Z-2f6b11d0". Empty: the
	// newest.
	Generation string
}

// Names below a Remote's prefix.
const (
	remoteGenerations = "generations/"
	remoteBlobs       = "blobs-"      // begins the names of folders of blobs
	remoteUnfinished  = "unfinished/" // lists of the blobs that a backup has stored so far
	remoteLocks       = "lock/"
)

// Limits on what is read from a store, which is untrusted.
const (
	maxRemoteText = 4 << 20    // bytes of a manifest
	maxSizes      = 300_000    // objects that are no blobs: more than 50,000 generations have
	maxObjects    = 50_000_000 // objects of all kinds
)

// ErrGone: an object that a backup needs is missing, or has changed.
var ErrGone = errors.New("backup: the store has lost an object")

var isPrefix = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)

// remote is a Remote whose prefix is checked.
type remote struct {
	b      bucket.Bucket
	prefix string // with a slash at its end, if there is one
}

func (r Remote) open() (remote, error) {
	if r.Bucket == nil {
		panic("backup: Remote.Bucket is missing")
	}
	prefix := strings.Trim(r.Prefix, "/")
	if prefix == "" {
		return remote{r.Bucket, ""}, nil
	}
	if len(prefix) > 200 || !isPrefix.MatchString(prefix) {
		return remote{}, fmt.Errorf("backup: prefix %.250q: names of at most 200 letters, digits and \"-_.\", with slashes between them", r.Prefix)
	}
	return remote{r.Bucket, prefix + "/"}, nil
}

// attempts is how often something is tried that fails by an error that may pass. The pauses between
// add up to two minutes.
const attempts = 8

// pause is the time after some attempts, of which the first has the number 0.
func pause(n int) time.Duration { return time.Second << n }

// transient reports whether trying again may help.
func transient(err error) bool {
	var final interface{ Unavailable() bool }
	switch {
	case errors.Is(err, bucket.ErrNoObject), errors.Is(err, ErrBadBackup), errors.Is(err, storage.ErrCorrupt), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &final):
		return final.Unavailable()
	}
	var source *sourceError
	return !errors.As(err, &source)
}

// try calls fn until it succeeds or an error will not pass.
func try(ctx context.Context, fn func() error) error {
	for n := 0; ; n++ {
		err := fn()
		if err == nil || ctx.Err() != nil || n == attempts-1 || !transient(err) {
			return err
		}
		if sleep.For(ctx, pause(n)) != nil {
			return err
		}
	}
}

// list calls fn with the objects below a name, from the first one again if the listing breaks off.
// If there are more than so many, it fails.
func (r remote) list(ctx context.Context, below string, most int, begin func(), fn func(name string, size int64)) error {
	return try(ctx, func() error {
		begin()
		n := 0
		for o, err := range r.b.List(ctx, r.prefix+below, "") {
			if err != nil {
				return err
			}
			if n++; n > most {
				return fmt.Errorf("%w: there are more than %d objects below %s%s", ErrBadBackup, most, r.prefix, below)
			}
			fn(strings.TrimPrefix(o.Name, r.prefix), o.Size)
		}
		return nil
	})
}

// sizes are the objects below a name.
func (r remote) sizes(ctx context.Context, below string) (m map[string]int64, err error) {
	err = r.list(ctx, below, maxSizes, func() { m = make(map[string]int64) }, func(name string, size int64) { m[name] = size })
	return m, err
}

func (r remote) delete(ctx context.Context, names ...string) error {
	full := make([]string, len(names))
	for i, name := range names {
		full[i] = r.prefix + name
	}
	return try(ctx, func() error { return r.b.Delete(ctx, full...) })
}

// putText stores a small object, and reads it again.
func (r remote) putText(ctx context.Context, name string, text []byte) error {
	return try(ctx, func() error {
		if err := r.b.Put(ctx, r.prefix+name, bytes.NewReader(text), int64(len(text))); err != nil {
			return err
		}
		return r.same(ctx, name, int64(len(text)), sha256.Sum256(text))
	})
}

// same reads an object, and fails if it is not what was stored.
func (r remote) same(ctx context.Context, name string, size int64, digest [sha256.Size]byte) error {
	in := r.reader(ctx, name, size)
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), digest[:]) {
		return fmt.Errorf("%w: %s is not what was stored", ErrGone, name)
	}
	return nil
}

// text reads a small object.
func (r remote) text(ctx context.Context, name string, size int64) ([]byte, error) {
	if size > maxRemoteText {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrBadBackup, name, size)
	}
	in := r.reader(ctx, name, size)
	defer in.Close()
	return io.ReadAll(in)
}

// reader reads an object of a known size, and goes on where a connection broke.
func (r remote) reader(ctx context.Context, name string, size int64) *objectReader {
	return &objectReader{ctx: ctx, r: r, name: name, size: size}
}

// objectReader reads an object to its end. An object that is shorter is an error.
type objectReader struct {
	ctx        context.Context
	r          remote
	name       string
	size, read int64
	in         io.ReadCloser
	failed     int  // attempts without a byte
	wasShort   bool // the last of which found the object too short
}

// errShort: an object ends before its size.
var errShort = errors.New("it is shorter than it was")

func (o *objectReader) Read(p []byte) (int, error) {
	for {
		if o.read == o.size {
			return 0, io.EOF
		}
		if err := o.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := o.readOnce(p[:min(int64(len(p)), o.size-o.read)])
		if n > 0 || err == nil {
			return n, nil
		}
		if errors.Is(err, bucket.ErrNoObject) || errors.Is(err, errShort) && o.wasShort {
			return 0, fmt.Errorf("%w: %s: %v", ErrGone, o.name, err)
		}
		o.wasShort = errors.Is(err, errShort)
		if o.failed++; o.failed == attempts || !o.wasShort && !transient(err) {
			return 0, err
		}
		if err := sleep.For(o.ctx, pause(o.failed-1)); err != nil {
			return 0, err
		}
	}
}

func (o *objectReader) readOnce(p []byte) (n int, err error) {
	if o.in == nil {
		if o.in, err = o.r.b.Get(o.ctx, o.r.prefix+o.name, o.read, -1); err != nil && o.wasShort && !errors.Is(err, context.Canceled) {
			return 0, errShort // there is no such range
		} else if err != nil {
			return 0, err
		}
	}
	n, err = o.in.Read(p)
	if n > 0 {
		o.read, o.failed, o.wasShort = o.read+int64(n), 0, false
	}
	if err != nil {
		o.in.Close()
		o.in = nil
		if err == io.EOF {
			err = errShort
		}
	}
	return n, err
}

func (o *objectReader) Close() error {
	if o.in == nil {
		return nil
	}
	return o.in.Close()
}

// remoteGeneration is a generation in an object store.
type remoteGeneration struct {
	name    string           // with the folder, and a slash at its end
	objects map[string]int64 // names in it, and sizes
	m       *Manifest        // nil if it cannot be read
}

// complete returns the complete generations, the newest first, as names.generations does, and
// the names of the objects of those that are not complete.
func (r remote) complete(ctx context.Context) (list []remoteGeneration, rest []string, err error) {
	all, err := r.sizes(ctx, remoteGenerations)
	if err != nil {
		return nil, nil, err
	}
	folders := make(map[string]map[string]int64)
	for name, size := range all {
		i := strings.LastIndexByte(name, '/') + 1
		if folders[name[:i]] == nil {
			folders[name[:i]] = make(map[string]int64)
		}
		folders[name[:i]][name[i:]] = size
	}
	for name, objects := range folders {
		size, ok := objects[manifestName]
		if !ok {
			for object := range objects {
				rest = append(rest, name+object)
			}
			continue
		}
		g := remoteGeneration{name: name, objects: objects}
		text, err := r.text(ctx, name+manifestName, size)
		if err == nil {
			g.m, err = decodeRemote(text)
		}
		if err != nil && !errors.Is(err, ErrBadBackup) {
			return nil, nil, err
		}
		list = append(list, g)
	}
	slices.Sort(rest)
	slices.SortFunc(list, func(a, b remoteGeneration) int {
		if a.m == nil || b.m == nil {
			return cmp.Or(cmp.Compare(boolInt(a.m == nil), boolInt(b.m == nil)), strings.Compare(b.name, a.name))
		}
		return cmp.Or(cmp.Compare(b.m.Newest, a.m.Newest), cmp.Compare(b.m.Number, a.m.Number), b.m.Created.Compare(a.m.Created), strings.Compare(b.name, a.name))
	})
	return list, rest, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func decodeManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := data.UnmarshalJSON(text, m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrBadBackup, err)
	}
	if m.Format != 1 {
		return nil, fmt.Errorf("%w: it has format %d, made by a newer server?", ErrBadBackup, m.Format)
	}
	return m, nil
}

// maxManifestText bounds each text in a manifest.
const maxManifestText = 4 << 10

// isFolder is what folders of blobs are called.
var isFolder = regexp.MustCompile(`^blobs-[0-9a-z]{1,64}/$`)

// decodeRemote reads a manifest from a store: no value in it can make what uses it fail, or take
// more memory than a manifest that was made here. What it says of lost blobs is left out.
func decodeRemote(text []byte) (*Manifest, error) {
	m, err := decodeManifest(text)
	if err != nil {
		return nil, err
	}
	m.LostBlobs = nil
	for what, n := range map[string]int64{"number": int64(m.Number), "newestEvent": m.Newest, "blobs": int64(m.Blobs), "missingBlobs": int64(m.Missing), "lostBlobs": int64(m.Lost), "bytes": m.Bytes} {
		if n < 0 || n > 1<<53 {
			return nil, fmt.Errorf("%w: its manifest says that %s is %d", ErrBadBackup, what, n)
		}
	}
	if !isFolder.MatchString(m.Folder) {
		return nil, fmt.Errorf("%w: its manifest has blobs in %.100q", ErrBadBackup, m.Folder)
	}
	texts := len(m.Version) + len(m.Host) + len(m.BlobsElsewhere)
	for name, f := range m.Files {
		texts += len(name) + len(f.SHA256)
		if f.Size < 0 || name == manifestName {
			return nil, fmt.Errorf("%w: its manifest names %.100q with %d bytes", ErrBadBackup, name, f.Size)
		}
	}
	if texts > maxManifestText {
		return nil, fmt.Errorf("%w: its manifest has names of %d bytes", ErrBadBackup, texts)
	}
	return m, nil
}

// eachBlob calls fn with the list of a generation's blobs. It is known only at the end whether the
// list is as it was stored.
func (r remote) eachBlob(ctx context.Context, g remoteGeneration, fn func(remoteLine) error) error {
	want, ok := g.m.Files[listName]
	size, there := g.objects[listName]
	if !ok || !there || size != want.Size {
		return fmt.Errorf("%w: %s%s was changed, or is not there", ErrBadBackup, g.name, listName)
	}
	in := r.reader(ctx, g.name+listName, size)
	defer in.Close()
	h, last := sha256.New(), ""
	err := eachLine(io.TeeReader(in, h), func(l remoteLine) error {
		if l.name <= last && !l.bad {
			return fmt.Errorf("%w: %s%s has %s after %s", ErrBadBackup, g.name, listName, l.name, last)
		} else if !l.bad {
			last = l.name
		}
		return fn(l)
	})
	if err == nil && hex.EncodeToString(h.Sum(nil)) != want.SHA256 {
		err = fmt.Errorf("%w: %s%s was changed", ErrBadBackup, g.name, listName)
	}
	return err
}
