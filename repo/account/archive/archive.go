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

// Bounds of what is read into memory, in bytes.
const (
	maxPreferences = 1 << 20
	maxManifest    = 256 << 20
)

// Errors of archives.
var (
	// ErrBad: a file is no archive, was cut off or was changed.
	ErrBad = errors.New("archive: not a good archive")
	// ErrExists: there is something already where an archive is to be written.
	ErrExists = errors.New("archive: there is something already")
	// ErrNoAccount: the account of an archive is not at this server.
	ErrNoAccount = errors.New("archive: the account is not here")
)

// Manifest says what an archive has.
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
	// Missing are the CIDs of blobs that records refer to and that the server did not have, or not
	// as they were. They are not in the archive.
	Missing []string `json:"missingBlobs,omitempty"`
}

// Blob is a blob of an archive.
type Blob struct {
	CID  string `json:"cid"`
	MIME string `json:"mimeType"`
	Size int64  `json:"size"`
}

// Bytes is the length of all blobs together.
func (m *Manifest) Bytes() (n int64) {
	for _, b := range m.Blobs {
		n += b.Size
	}
	return n
}

// Options are those of all functions. The zero value works.
type Options struct {
	// Temp is the folder where a copy of the repository lies while an archive is written. Empty:
	// the system's for temporary files.
	Temp string
	// Key, if not nil, must have signed the repository that is verified. Import takes the present
	// key of the account, unless AnyKey is set.
	Key *crypto.PublicKey
	// AnyKey lets Import accept a repository with any signature, for an account whose key has
	// changed since the archive was written. Then anybody may have written the archive.
	AnyKey bool
	// Progress, if not nil, is told how many blobs are done.
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
