package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/pdskit/pdskit/storage/backup"
)

// What age files begin with: the second one is the form in printable characters.
const (
	ageBegins   = "age-encryption.org/v1\n"
	armorBegins = armor.Header
)

// maxHeader bounds the header of an encrypted file, of which a line may be as long as it says.
const maxHeader = 1 << 20

// headerReader reads a file of which, at first, only so many bytes may be read.
type headerReader struct {
	in   io.Reader
	left int // -1: no bound
}

func (h *headerReader) Read(p []byte) (int, error) {
	switch {
	case h.left == 0:
		return 0, fmt.Errorf("%w: it is encrypted, with a header of more than %d bytes", backup.ErrBadBackup, maxHeader)
	case h.left < 0:
		return h.in.Read(p)
	}
	n, err := h.in.Read(p[:min(len(p), h.left)])
	h.left -= n
	return n, err
}

// recipients are those of the flag -to-age.
type recipients struct {
	list  []age.Recipient
	names []string
}

func (r *recipients) String() string { return strings.Join(r.names, ",") }

// Set adds recipients, as flag.Value.
func (r *recipients) Set(text string) error {
	list, err := age.ParseRecipients(strings.NewReader(strings.ReplaceAll(text, ",", "\n")))
	if err != nil || len(list) == 0 {
		return errors.New("it must be an age recipient, which begins with age1 (age-keygen makes one)")
	}
	r.list, r.names = append(r.list, list...), append(r.names, text)
	return nil
}

// encryption is how backups are encrypted; nil: they are not.
func (r *recipients) encryption() *backup.Encryption {
	if len(r.list) == 0 {
		return nil
	}
	return &backup.Encryption{ID: r.id(), Begins: ageBegins, Writer: func(out io.Writer) (io.WriteCloser, error) {
		return age.Encrypt(out, r.list...)
	}}
}

func identityFlag(c *call) {
	c.StringVar(&c.values.identity, "identity", "", "the `file` with the age identity that an encrypted backup needs")
}

// decryption returns a backup.Restore.Decrypt, with the identities of the flag.
func (c *call) decryption() (func(io.Reader) (io.Reader, error), error) {
	var identities []age.Identity
	if c.values.identity != "" {
		f, err := os.Open(c.values.identity)
		if err != nil {
			return nil, fmt.Errorf("%w: -identity: %w", errUsage, err)
		}
		defer f.Close()
		if identities, err = age.ParseIdentities(io.LimitReader(f, 1<<20)); err != nil || len(identities) == 0 {
			return nil, fmt.Errorf("%w: %s has no age identity, which begins with AGE-SECRET-KEY-", errUsage, c.values.identity)
		}
	}
	return func(in io.Reader) (io.Reader, error) {
		header := &headerReader{in: in, left: maxHeader}
		defer func() { header.left = -1 }()
		file := bufio.NewReader(header)
		var encrypted io.Reader = file
		begins, _ := file.Peek(len(armorBegins)) // less: it is short
		switch {
		case string(begins) == armorBegins:
			encrypted = armor.NewReader(file)
		case !strings.HasPrefix(string(begins), ageBegins):
			return file, nil
		}
		if identities == nil {
			return nil, fmt.Errorf("%w: the backup is encrypted: give the file with the age identity, -identity FILE", errUsage)
		}
		plain, err := age.Decrypt(encrypted, identities...)
		if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
			return nil, fmt.Errorf("%w: it is encrypted to others than the identity in %s", errUsage, c.values.identity)
		} else if err != nil {
			return nil, fmt.Errorf("%w: %w", backup.ErrBadBackup, err)
		}
		return plain, nil
	}, nil
}
