package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Names of files in a backup.
const (
	manifestName = "backup.json"
	// manifestNext was the name of a manifest while an earlier version replaced a backup.
	manifestNext = "backup.next.json"
	// listName is the file with the names of the files of a generation's blobs, one a line. Those
	// that records refer to, but of which there is no good copy, have badMark before them.
	listName = "blobs.list"
)

// Manifest describes a generation of a backup.
type Manifest struct {
	Format  int       `json:"format"` // 1
	Created time.Time `json:"created"`
	// Number is greater than the numbers of all earlier generations in the directory, whatever the
	// clock was. 0: an earlier version made the backup.
	Number  int    `json:"number,omitempty"`
	Version string `json:"version"` // of the server
	Host    string `json:"host"`
	Newest  int64  `json:"newestEvent"`
	Blobs   int    `json:"blobs"` // promoted and staged
	// BlobsElsewhere names the place of the blobs if they are not in the backup. The backup did not
	// check that they are there.
	BlobsElsewhere string `json:"blobsElsewhere,omitempty"`
	// BlobsCopied is set if the blobs were elsewhere and were copied into the backup. The database
	// still names the other place.
	BlobsCopied bool `json:"blobsCopied,omitempty"`
	// Missing is the number of blobs that records refer to and that are not in the backup. The
	// server has lost them, never had them, or they were deleted with their accounts or records
	// during the backup.
	Missing int `json:"missingBlobs"`
	// Lost is the number of blobs that the server should have and has lost or damaged. If an older
	// generation had such a blob, it is in the backup nevertheless.
	Lost      int    `json:"lostBlobs"`
	LostBlobs []Lost `json:"lost,omitempty"` // the first of them
	Bytes     int64  `json:"bytes"`          // of everything
	// Folder is the folder of the blobs' objects in an object store. Encrypted is set if they and
	// the other files are encrypted there.
	Folder    string `json:"folder,omitempty"`
	Encrypted bool   `json:"encrypted,omitempty"`
	// Files are all files except blobs, whose names are their digests.
	Files map[string]File `json:"files"`
}

// File is a file of a backup.
type File struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Lost is a blob that the server should have and has lost.
type Lost struct {
	DID syntax.DID `json:"did"`
	CID string     `json:"cid"`
	// Kept is set if the backup has the blob.
	Kept bool `json:"kept"`
}

// maxLost bounds the list of lost blobs in a manifest.
const maxLost = 1000

// Backup has the options of a backup. The zero value works.
type Backup struct {
	// Layout has the names of files.
	Layout Layout
	// Version and Host are for the manifest.
	Version, Host string
	// Files, if not nil, returns further files of the server, with names in Layout.Others. It is
	// called when the database has been copied.
	Files func(ctx context.Context) (map[string][]byte, error)
	// Verify, if not nil, checks the content of the copied database, after its structure was
	// checked. It may complete changes that were pending when the copy was made.
	Verify func(ctx context.Context, copied storage.Store) error
	// Excused reports whether a blob that neither the server nor the backup has is not a loss,
	// because it may never have existed. Nil: it always is a loss. See check.Checker.Excused.
	Excused func(ctx context.Context, copied storage.Store, blob Lost) (bool, error)
	// Keep says which older generations stay in a directory. The zero value keeps none.
	Keep Keep
	// Fast compares only the size and the end of blobs, both those in the directory from earlier
	// backups and those on the server. Without it, all of them are read, and damaged copies are
	// made again.
	Fast bool
	// Encryption, if not nil, encrypts tar files and objects of a Remote.
	Encryption *Encryption
	// Progress, if not nil, is called with the number of blobs processed.
	Progress func(blobs int)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Errors of backups.
var (
	// ErrNotBackup: a directory has files that are not part of a backup.
	ErrNotBackup = errors.New("backup: the directory is neither empty nor a backup")
	// ErrItself: the backup would overwrite the data that it is made of.
	ErrItself = errors.New("backup: the backup would be written over the server's own data")
	// ErrBusy: another backup to the same place, or a restore from it, is running.
	ErrBusy = errors.New("backup: another backup to the same place, or a restore from it, is under way")
	// ErrOlder: a directory has a backup of a later state than the present one: of another server,
	// or of this server before an old state was restored.
	ErrOlder = errors.New("backup: the directory has a backup of a later state: use another directory")
)

// ToDir adds a generation to a directory, which is created if necessary, and then removes the
// generations that Keep does not keep. If it fails, the existing generations are unchanged.
//
// Blobs that the server has lost are not an error: see Manifest.Lost.
func (b Backup) ToDir(ctx context.Context, src Source, dest string) (m *Manifest, err error) {
	src.validate()
	w, err := openDest(b.Layout.names(), src, dest)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	w.fast = b.Fast
	if m, err = b.run(ctx, src, w); err != nil {
		return nil, err
	}
	return m, w.retain(b.Keep)
}

// writer is where a backup goes.
type writer interface {
	// dir is the folder in which the generation is made.
	dir() string
	// folder is where the blobs lie that are there already; it need not be there.
	folder() string
	// copyBlob makes sure that the backup has the blob of a file below the blobs' folder. If the
	// file is not there, or damaged, the error is a *sourceError.
	copyBlob(ctx context.Context, name, from string) (size int64, err error)
	// has reports whether the backup has a good copy of a blob from before, and its size.
	has(ctx context.Context, name string) (size int64, ok bool, err error)
	// put writes a file.
	put(name string, data []byte) error
	// finish puts the generation in its place; the database is in its folder. The list is that of
	// its blobs.
	finish(m *Manifest, list []string) error
	// previous is the newest generation that is there, nil if there is none.
	previous() *Manifest
}

func (b Backup) run(ctx context.Context, src Source, w writer) (*Manifest, error) {
	now := time.Now
	if b.Now != nil {
		now = b.Now
	}
	c := &copying{Backup: b, names: b.Layout.names(), src: src, w: w, seen: make(map[nameKey]bool)}
	c.m = &Manifest{Format: 1, Created: now().UTC().Truncate(time.Second), Version: b.Version, Host: b.Host, BlobsElsewhere: src.Elsewhere, BlobsCopied: src.CopyBlobs, Files: make(map[string]File)}
	if src.CopyBlobs {
		c.m.BlobsElsewhere = ""
	}
	if err := c.blobs(ctx); err != nil {
		return nil, err
	}
	file := filepath.Join(w.dir(), c.names.database)
	if err := src.Database.Backup(ctx, file); err != nil {
		return nil, fmt.Errorf("copy of the database: %w", err)
	}
	if err := c.blobs(ctx); err != nil {
		return nil, err
	}
	if err := c.verify(ctx, file); err != nil {
		return nil, err
	}
	if p := w.previous(); p != nil && p.Newest > c.m.Newest {
		return nil, fmt.Errorf("%w (it is of %s, with events up to %d; this one has events up to %d)", ErrOlder, p.Created.Format(time.RFC3339), p.Newest, c.m.Newest)
	}
	if p := w.previous(); p != nil {
		c.m.Number = p.Number
	}
	c.m.Number++
	if err := c.files(ctx, file); err != nil {
		return nil, err
	}
	return c.m, w.finish(c.m, c.list)
}

// verify opens the copy of the database, looks for the blobs that it refers to, and has the rest
// checked.
func (c *copying) verify(ctx context.Context, file string) (err error) {
	// Opening it may leave files beside it.
	dir := filepath.Join(c.w.dir(), "verify")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	opened := filepath.Join(dir, c.names.database)
	if err := os.Rename(file, opened); err != nil {
		return err
	}
	copied, done, err := c.src.Database.OpenCopy(ctx, opened, c.w.folder())
	if err != nil {
		return fmt.Errorf("the copy is not good: %w", err)
	}
	_, c.m.Newest, err = copied.Events.Bounds(ctx)
	if err == nil && c.m.BlobsElsewhere == "" {
		err = c.references(ctx, copied)
	}
	if err == nil && c.Verify != nil {
		err = c.Verify(ctx, copied)
	}
	// Verify may have repaired what was under way. Not every engine says if it could not write that
	// when the database was closed; the next check does.
	if err = errors.Join(err, done()); err == nil {
		err = c.src.Database.VerifyCopy(ctx, opened)
	}
	if err != nil {
		return fmt.Errorf("the copy is not good: %w", err)
	}
	if err := os.Rename(opened, file); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// files adds what is neither blob nor database.
func (c *copying) files(ctx context.Context, database string) error {
	size, digest, err := digestFile(database)
	if err != nil {
		return err
	}
	c.m.Files[c.names.database] = File{size, digest}
	c.m.Bytes += size
	if c.Files == nil {
		return nil
	}
	files, err := c.Files(ctx)
	if err != nil {
		return err
	}
	for name, data := range files {
		if !slices.Contains(c.names.others, name) {
			return fmt.Errorf("backup: file %q is not one of Layout.Others", name)
		}
		c.m.Files[name] = fileOf(data)
		c.m.Bytes += int64(len(data))
		if err := c.w.put(name, data); err != nil {
			return err
		}
	}
	return nil
}

func fileOf(data []byte) File {
	sum := sha256.Sum256(data)
	return File{int64(len(data)), hex.EncodeToString(sum[:])}
}

func (m *Manifest) encode() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "\t")
	return append(text, '\n'), err
}

// digestFile returns a file's size and SHA-256.
func digestFile(file string) (size int64, digest string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return size, hex.EncodeToString(h.Sum(nil)), err
}
