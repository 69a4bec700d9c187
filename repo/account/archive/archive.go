package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
)

// Names in an archive.
const (
	repoName        = "repo.car"
	preferencesName = "preferences.json"
	manifestName    = "account.json"
	blobsName       = "blobs/"
)

// Limits on what is read into memory, in bytes.
const (
	maxPreferences = 8 << 20
	maxManifest    = 256 << 20
)

// Errors of archives.
var (
	// ErrBad: a file is not an archive, or was truncated or changed.
	ErrBad = errors.New("archive: not a good archive")
	// ErrExists: the file or folder to write already exists.
	ErrExists = errors.New("archive: there is something already")
	// ErrNoAccount: the account of an archive is not on this server.
	ErrNoAccount = errors.New("archive: the account is not here")
)

// Manifest describes the contents of an archive.
type Manifest struct {
	Format  int           `json:"format"` // 1
	Created time.Time     `json:"created"`
	DID     syntax.DID    `json:"did"`
	Handle  syntax.Handle `json:"handle"`
	Commit  string        `json:"commit"` // CID of the commit in repo.car
	Rev     syntax.TID    `json:"rev"`
	Records int           `json:"records"`
	// Preferences is the SHA-256 of preferences.json, in hexadecimal.
	Preferences string `json:"preferencesSHA256"`
	Blobs       []Blob `json:"blobs"`
	// Missing are the CIDs of blobs that records refer to and that the server has lost or damaged.
	// They are not in the archive.
	Missing []string `json:"missingBlobs,omitempty"`
}

// Blob is a blob of an archive.
type Blob struct {
	CID  string `json:"cid"`
	MIME string `json:"mimeType"`
	Size int64  `json:"size"`
}

// Bytes returns the total size of all blobs.
func (m *Manifest) Bytes() (n int64) {
	for _, b := range m.Blobs {
		n += b.Size
	}
	return n
}

// Options are the options of all functions. The zero value works.
type Options struct {
	// Temp is the folder for a temporary copy of the repository while an archive is written. Empty:
	// the system's.
	Temp string
	// Key, if not nil, must have signed the repository. Import uses the account's present key,
	// unless AnyKey is set.
	Key *crypto.PublicKey
	// AnyKey lets Import accept a repository with any signature, for an account whose key has
	// changed since. Then anybody may have written the archive.
	AnyKey bool
	// Progress, if not nil, is called with the number of blobs processed.
	Progress func(blobs int)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

func (o Options) progress(n int) {
	if o.Progress != nil {
		o.Progress(n)
	}
}

func (o Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// preferences are those of an account.
type preferences = []account.Preference

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
