package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/archive"
	"github.com/pdskit/pdskit/storage/sealed"
)

const exportHelp = `
FILE gets one account as a tar file: its repository (repo.car), its blobs, its private preferences,
and account.json, which lists the contents. "-" is standard output. With -dir, FILE becomes a folder
with the same files. FILE must not exist. The server may run meanwhile.

At the end, the export is read again: every block, record and blob is compared with its CID, and the
signature is checked with the account's key. Blobs that the server does not have are listed, and the
exit code is 3.

The export contains neither the account's password nor its keys. It is a copy for the owner, and can
restore this account: see "pds help account import". To move to another server, use "pds migrate".
`

const importHelp = `
FILE is a tar file, or a folder, that "pds account export" has made. The account must exist on this
server. The server must be stopped.

The records and preferences in FILE replace those of the account; what was written after the export
is lost. Missing blobs are put back. Everything is verified before anything is changed. The
repository must be signed by the account's present key; -any-key accepts another signature, as after
a change of keys. In that case, be sure where FILE comes from. The repository is signed again, and
the network is told to read it again. After an interruption, run the command again.

Before anything is signed, the clock is compared with those of the directory and of the relays, as
"pds resync" does.
`

func exportFlags(c *call) {
	c.BoolVar(&c.values.asDir, "dir", false, "write a folder instead of a tar file")
}

func importFlags(c *call) {
	c.BoolVar(&c.values.anyKey, "any-key", false, "accept a repository that is not signed by the account's present key")
}

// portable opens the data directory with its accounts, whose temporary files lie there too.
func (c *call) portable(ctx context.Context, alone bool) (*account.Store, *datadir.Dir, archive.Options, error) {
	_, secrets, d, err := c.open(ctx, alone)
	if err != nil {
		return nil, nil, archive.Options{}, err
	}
	box, err := sealed.New(secrets.MasterKeys...)
	temp := filepath.Join(d.Path, datadir.Temp)
	if err = cmp.Or(err, os.MkdirAll(temp, 0o700)); err != nil {
		return nil, nil, archive.Options{}, errors.Join(err, d.Close())
	}
	return account.Open(repo.Config{Store: d.Store, TempDir: temp}, box), d, archive.Options{Temp: temp}, nil
}

func accountExport(ctx context.Context, c *call) (err error) {
	accounts, d, opt, err := c.portable(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	a, err := accounts.Account(ctx, syntax.AtIdentifier(c.args[0]))
	if err != nil {
		return fmt.Errorf("%s: %w", c.args[0], err)
	}
	key, err := accounts.Signer(ctx, a.DID)
	if err != nil {
		return err
	}
	shown := c.progress("blobs")
	opt.Progress = shown.at
	check := archive.Options{Key: key.PublicKey()}
	m, err := c.writeArchive(ctx, accounts, a.DID, opt, check)
	shown.done()
	if err != nil {
		return err
	}
	if to := c.args[1]; to != "-" { // standard output is the archive's
		err = c.result(m, "Exported %s (%s) to %s, and read it again: %d records and %d blobs (%s).",
			m.Handle, m.DID, absolute(to), m.Records, len(m.Blobs), bytes64(m.Bytes()))
	}
	return errors.Join(err, missingInArchive(m))
}

// writeArchive writes an archive where the arguments say, and verifies what was written.
func (c *call) writeArchive(ctx context.Context, accounts *account.Store, did syntax.DID, opt, check archive.Options) (m *archive.Manifest, err error) {
	to := c.args[1]
	switch {
	case to == "-" && c.values.asDir:
		return nil, fmt.Errorf("%w: a folder does not fit into standard output", errUsage)
	case to == "-":
		return streamArchive(ctx, accounts, did, c.Stdout, opt, check)
	case c.values.asDir:
		_, err = archive.ToDir(ctx, accounts, did, to, opt)
	default:
		_, err = archive.ToFile(ctx, accounts, did, to, opt)
	}
	if err != nil {
		return nil, err
	}
	if m, err = archive.Verify(ctx, to, check); err != nil {
		err = fmt.Errorf("%s is not what was written (is the disk good?): %w", absolute(to), err)
	}
	return m, err
}

// streamArchive verifies an archive while it is written.
func streamArchive(ctx context.Context, accounts *account.Store, did syntax.DID, out io.Writer, opt, check archive.Options) (m *archive.Manifest, err error) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		var err error
		m, err = archive.VerifyTar(ctx, r, check)
		r.CloseWithError(err)
		done <- err
	}()
	_, err = archive.ToTar(ctx, accounts, did, io.MultiWriter(out, w), opt)
	w.CloseWithError(err)
	return m, errors.Join(err, <-done)
}

// missingInArchive is an error about the blobs that an archive lacks; nil if there are none.
func missingInArchive(m *archive.Manifest) error {
	if len(m.Missing) == 0 {
		return nil
	}
	err := fmt.Errorf("%w: %d blobs that records refer to are not on the server, or are damaged", errProblems, len(m.Missing))
	return withFirst(err, m.Missing)
}

func accountImport(ctx context.Context, c *call) (err error) {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	accounts, d, opt, err := c.portable(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if _, err := c.checkClock(ctx, cfg, d.Store.Events); err != nil {
		return err
	}
	shown := c.progress("blobs")
	opt.Progress, opt.AnyKey = shown.at, c.values.anyKey
	res, err := archive.Import(ctx, accounts, c.args[0], opt)
	shown.done()
	switch {
	case errors.Is(err, archive.ErrNoAccount):
		return fmt.Errorf("%w. An export is for an account that is still here: see \"Accounts that move\" in the operator's guide", err)
	case errors.Is(err, repo.ErrInvalidImport) && !c.values.anyKey:
		return fmt.Errorf("%w (if the account's key was changed since, and you know where the file comes from: -any-key)", err)
	case err != nil:
		return err
	}
	m := res.Manifest
	err = c.result(res, "%s (%s) is as it was on %s: %d records. %d blobs were put back.",
		m.Handle, m.DID, m.Created.Format("2006-01-02 15:04 MST"), m.Records, res.Blobs)
	if res.Missing > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d blobs that records refer to are neither here nor in the file", errProblems, res.Missing))
	}
	return err
}
