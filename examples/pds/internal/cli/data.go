package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/examples/pds/internal/server"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/mailqueue"
	adminpages "github.com/pdskit/pdskit/xrpc/operator"
)

const backupHelp = `
DIRECTORY gets a folder for this backup below "generations": the database as it was at one moment,
the secrets (also those from the environment) and, of a development server, the PLC directory. The
blobs of all generations are in one folder beside them. Whoever has a backup has the accounts' keys:
keep it safe.

A backup counts only when it has been verified: each page of the database, every repository, every
blob. If it fails or is interrupted, the older generations are unchanged. Blobs that an earlier
backup copied are read again, here and in the backup, and copied again if the copy is damaged; -fast
reads only the beginning and end of each.

-keep says which older generations stay: the newest of each of the last hours, days, weeks, months
or years. "-keep 7d,4w" is a week of days and a month of weeks, "-keep 3" the last three. Without
-keep, only the new one stays. Blobs that no generation refers to are deleted.

Blobs that the server has lost, or that are damaged on it, are listed, and the exit code is 3. The
backup is good nevertheless, and keeps its own earlier copies of them.

With -tar, the backup is one tar file; "-" is standard output. An older file is replaced, unless the
new backup lacks blobs that the server has lost: then the time is added to the new file's name.

A store of objects, such as AWS S3, R2 or MinIO, is s3://BUCKET/PREFIX in place of DIRECTORY:

    pds backup -s3 -keep 7d,4w -to-age age1... s3://backups/pds

PDS_BACKUP_S3_ENDPOINT (not needed for AWS), _REGION, _ACCESS_KEY_ID, _SECRET_ACCESS_KEY and
_FORCE_PATH_STYLE say how to reach it; the default is the store of PDS_BLOBSTORE_S3_*. Blobs that
are there are not sent again. What was sent is read back, except with -fast. A backup that was
killed does not count; the next one continues it.

If the server's blobs are in a bucket, the backup contains the rows of the database that name them,
but not the blobs. They are as safe as the bucket, which keeps deleted blobs for
PDS_BLOBSTORE_S3_KEEP_DELETED_MS. With -copy-blobs, the backup contains the blobs too.

With -to-age, the backup is encrypted to an age recipient (https://age-encryption.org), whose
identity is not on the server. "pds restore -identity FILE" reads it, and so does the age program:

    pds backup -to-age age1... -tar pds.tar.age

With -every, the program makes backups until it is told to end (SIGTERM, SIGINT), as in a container
without cron. The first one is due that long after the last, or at once if there is none. A failure
is printed to standard error, and the backup is tried again, after a minute at first and after an
hour at most. A backup that is under way at the end is given up, and the exit code is 0.
`

const restoreHelp = `
BACKUP is the directory or tar file of a backup, or "-" for a tar file on standard input. From a
directory, the newest generation is restored; to restore another one, name its folder
(DIRECTORY/generations/TIME). s3://BUCKET/PREFIX is a store of objects, as for "pds backup"; the
right to read is enough. An encrypted file needs -identity.

The data directory, and the one for blobs, must be empty. Every file is compared with the digests in
the backup. Everything that was restored is read, as "pds check" does, before it is put in place.

Changes made after the backup are lost, but relays know of them. So the repositories of active
accounts are signed again, as "pds resync" does, and the network reads them again.

If the backup lacks blobs that it once had, nothing is restored, unless -accept-missing-blobs is
given. If it lacks only blobs that the server did not have either, it is restored, and the exit code
is 3.

Start the server with the same PDS_HOSTNAME and handle domains as before. Secrets that are set in
the environment are used; the others come from the backup.
`

const checkHelp = `
It reads the structure of the database; every repository as the network would read it (tree,
digests, signature); every blob; the names of accounts; and the events that can be replayed. Blobs
that records refer to but that are missing are counted and listed. They are a problem, except in a
deactivated account: an account that is moving here lacks blobs until they are uploaded.

With -blobs-from, missing or damaged blobs are put back from the directory of a backup. If no backup
has them, -accept-missing-blobs notes the ones that are missing now: this command, backups and the
start of the server no longer report them.

A clock that was ahead leaves accounts with a revision in the future. They are listed too: their
data is good, but the network ignores what they write. The report says what to do.

With accounts (DIDs or handles) as arguments, only their repositories are read. The exit code is 3
if there are problems, or accounts with a revision in the future.
`

const rotateHelp = `
The server must be stopped. A new master key is made, every signing key is encrypted with it, and
the old master key is deleted. It can be interrupted at any moment: run it again to finish. The
signing keys themselves do not change, so nobody outside sees a difference. Earlier backups need the
old master key, which they contain.

If PDS_MASTER_KEY sets the key, put a new one in front ("NEW,OLD"), run this command, and then
remove the old one.
`

func backupFlags(c *call) {
	remoteFlag(c)
	c.BoolVar(&c.values.copyBlobs, "copy-blobs", false, "also copy blobs that are in a bucket; all of them are read")
	c.BoolVar(&c.values.asTar, "tar", false, "write one tar file; the argument is its name, or - for standard output")
	c.BoolVar(&c.values.fast, "fast", false, "check only the structure of the database, and beginning and end of older blobs")
	c.Var(&c.values.toAge, "to-age", "with -tar or -s3, encrypt to this age `recipient`; may be given several times")
	c.DurationVar(&c.values.every, "every", 0, "make a backup every `duration`, such as 24h, until SIGTERM")
	c.Var(&c.values.keep, "keep", "keep older `generations`: a list of numbers with h, d, w, m or y, such as 7d,4w")
}

func restoreFlags(c *call) {
	remoteFlag(c)
	c.BoolVar(&c.values.fast, "fast", false, "check only digests of files, not every repository and blob")
	c.BoolVar(&c.values.noResync, "no-resync", false, "do not sign repositories again, and announce nothing")
	identityFlag(c)
	c.BoolVar(&c.values.acceptMissing, "accept-missing-blobs", false, "restore without the blobs that the backup lacks, and note them as lost for good")
}

func checkFlags(c *call) {
	c.BoolVar(&c.values.fast, "fast", false, "look for blobs, but do not read them")
	c.StringVar(&c.values.blobsFrom, "blobs-from", "", "put back missing or damaged blobs from the `directory` of a backup")
	c.BoolVar(&c.values.acceptMissing, "accept-missing-blobs", false, "note the blobs that are missing now as lost for good, and no longer report them")
}

// open opens the data directory that there is, and its secrets.
func (c *call) open(ctx context.Context, alone bool) (*config.Config, *config.Secrets, *datadir.Dir, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, nil, nil, err
	}
	d, err := datadir.Open(ctx, cfg.DataDirectory, datadir.Options{Database: cfg.DatabaseURL, Blobs: cfg.BlobDirectory, S3: cfg.S3, KeepDeleted: cfg.KeepDeleted, Alone: alone, Existing: true})
	if err != nil {
		return nil, nil, nil, err
	}
	if err = cfg.CheckKeys(); err == nil {
		var secrets *config.Secrets
		if secrets, err = cfg.Secrets(); err == nil {
			return cfg, secrets, d, nil
		}
	}
	return nil, nil, nil, errors.Join(err, d.Close())
}

// stock is what a store holds, with what checks it.
type stock struct {
	check.Checker
	Accounts *account.Store
}

// inStock returns what a store holds, with the keys that are needed for it.
func inStock(store storage.Store, keys [][]byte) (stock, error) {
	box, err := sealed.New(keys...)
	if err != nil {
		return stock{}, err
	}
	accounts := account.Open(repo.Config{Store: store}, box)
	return stock{accounts.Checker(), accounts}, nil
}

// inDir is inStock for a data directory, whose database is checked too.
func inDir(d *datadir.Dir, keys [][]byte) (stock, error) {
	s, err := inStock(d.Store, keys)
	s.Database = d.Check
	return s, err
}

// openAccounts opens the data directory with what checks it, and finds the accounts that the
// arguments name.
func (c *call) openAccounts(ctx context.Context, alone bool) (s stock, list []account.Account, d *datadir.Dir, err error) {
	_, secrets, d, err := c.open(ctx, alone)
	if err != nil {
		return s, nil, nil, err
	}
	if s, err = inDir(d, secrets.MasterKeys); err != nil {
		return s, nil, nil, errors.Join(err, d.Close())
	}
	for _, id := range c.args {
		a, err := s.Accounts.Account(ctx, syntax.AtIdentifier(id))
		if err != nil {
			return s, nil, nil, errors.Join(fmt.Errorf("%s: %w", id, err), d.Close())
		}
		list = append(list, a)
	}
	return s, list, d, nil
}

func backupOnce(ctx context.Context, c *call) (err error) {
	if err := c.checkRemote(); err != nil {
		return err
	}
	cfg, secrets, d, err := c.open(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if d.DB == nil {
		return datadir.ErrServer
	}
	file, err := secrets.File()
	if err != nil {
		return err
	}
	shown := c.progress("blobs")
	checked := c.progress("accounts checked")
	b := backup.Backup{
		Layout: datadir.Layout, Version: server.Version, Host: cfg.Hostname, Files: d.Files(file),
		Keep: c.values.keep, Fast: c.values.fast, Progress: shown.at,
		Excused: func(ctx context.Context, copied storage.Store, blob backup.Lost) (bool, error) {
			s, err := inStock(copied, secrets.MasterKeys)
			if err != nil {
				return false, err
			}
			return s.Excused(ctx, blob.DID, blob.CID)
		},
		Verify: func(ctx context.Context, copied storage.Store) error {
			shown.done()
			return c.verifyBackup(ctx, copied, secrets, checked)
		},
	}
	if b.Encryption = c.values.toAge.encryption(); b.Encryption != nil && !c.values.asTar && !c.isRemote() {
		return fmt.Errorf("%w: -to-age is for -tar and s3://; a directory is not encrypted", errUsage)
	}
	m, at, err := c.writeBackup(ctx, cfg, b, d)
	checked.done()
	defer func() { c.noteBackup(ctx, d, m, at, err) }()
	if err != nil {
		return err
	}
	if !c.values.asTar || c.args[0] != "-" { // standard output is the backup's
		blobs := fmt.Sprintf("with %d blobs", m.Blobs)
		if m.BlobsElsewhere != "" {
			blobs = fmt.Sprintf("without the blobs, which are in %s (deleted ones for %s; -copy-blobs copies them)", m.BlobsElsewhere, cfg.KeepDeleted)
		}
		err = c.result(m, "Backed up %s, %s, to %s. It has the server's keys in it: keep it safe.", bytes64(m.Bytes), blobs, c.place(at))
	}
	if err = errors.Join(err, c.lostBlobs(m)); at != c.args[0] {
		err = fmt.Errorf("%w\nThe older %s was not replaced: it may have what is lost", err, c.place(c.args[0]))
	}
	return err
}

// noteBackup notes a backup in the store, for the administrator's pages. If that fails, the backup is
// worth as much.
func (c *call) noteBackup(ctx context.Context, d *datadir.Dir, m *backup.Manifest, at string, failed error) {
	x := adminpages.Backup{At: time.Now(), Path: c.place(cmp.Or(at, c.args[0])), Good: m != nil}
	if m != nil {
		x.At, x.Bytes, x.Blobs = m.Created, m.Bytes, int64(m.Blobs)
	}
	if failed != nil {
		x.Problem, _, _ = strings.Cut(failed.Error(), "\n")
	}
	if err := (adminpages.Backups{KV: d.Store.KV}).Note(context.WithoutCancel(ctx), x); err != nil {
		fmt.Fprintf(c.Stderr, "warning: the backup could not be noted for the administrator's pages: %v\n", err)
	}
}

// errLostBlobs: the backup is good, but the server is not.
var errLostBlobs = fmt.Errorf("%w: the server has lost", errProblems)

// lostBlobs is an error about blobs that the server has lost; nil if there are none.
func (c *call) lostBlobs(m *backup.Manifest) error {
	if m.Lost == 0 {
		return nil
	}
	err := fmt.Errorf("%w %d blobs, or they are damaged", errLostBlobs, m.Lost)
	kept := false
	for i, l := range m.LostBlobs {
		if kept = kept || l.Kept; i < 10 {
			where := "not in the backup either"
			if l.Kept {
				where = "kept in the backup"
			}
			err = fmt.Errorf("%w\n  %s of %s (%s)", err, l.CID, l.DID, where)
		}
	}
	if m.Lost > 10 {
		err = fmt.Errorf("%w\n  and %d more", err, m.Lost-10)
	}
	if kept && c.isRemote() {
		err = fmt.Errorf("%w\nThe backup is good. To put back what it has: restore it into another directory DIR (PDS_DATA_DIRECTORY=DIR pds restore -no-resync %s), and run: pds check -blobs-from DIR", err, c.args[0])
	} else if kept {
		err = fmt.Errorf("%w\nThe backup is good. To put back what it has: pds check -blobs-from %s", err, absolute(c.args[0]))
	}
	return err
}

// writeBackup writes a backup in the form that the flags ask for, and returns where it is.
func (c *call) writeBackup(ctx context.Context, cfg *config.Config, b backup.Backup, d *datadir.Dir) (m *backup.Manifest, at string, err error) {
	at = c.args[0]
	src := d.Source()
	src.CopyBlobs = c.values.copyBlobs && d.Bucket != nil
	switch {
	case c.isRemote():
		m, err = c.toRemote(ctx, cfg, b, src)
	case !c.values.asTar:
		m, err = b.ToDir(ctx, src, at)
	case at == "-":
		m, err = b.ToTar(ctx, src, c.Stdout)
	default:
		return b.ToTarFile(ctx, src, at)
	}
	return m, at, err
}

// verifyBackup checks the accounts in the copy of a database. The rest has been checked.
func (c *call) verifyBackup(ctx context.Context, copied storage.Store, secrets *config.Secrets, shown *progress) error {
	if c.values.fast {
		return nil
	}
	s, err := inStock(copied, secrets.MasterKeys)
	if err != nil {
		return err
	}
	// The copy may be of a moment at which an account was being made or deleted.
	if err := s.Accounts.Repair(ctx); err != nil {
		return err
	}
	report, err := s.Run(ctx, check.Options{Blobs: check.NoBlobs, Progress: shown.at})
	if err != nil {
		return err
	}
	return problemsError(report)
}

// problemsError is an error with the first problems of a report; nil if there are none.
func problemsError(r *check.Report) error {
	if len(r.Problems) == 0 {
		return nil
	}
	return withFirst(errProblems, r.Problems)
}

// withFirst is an error with the first ten of a list, a line each.
func withFirst[T any](err error, list []T) error {
	for i, x := range list {
		if i == 10 {
			return fmt.Errorf("%w\n  and %d more", err, len(list)-i)
		}
		err = fmt.Errorf("%w\n  %v", err, x)
	}
	return err
}

func runCheck(ctx context.Context, c *call) (err error) {
	s, list, d, err := c.openAccounts(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	shown := c.progress("accounts checked")
	opt := check.Options{Progress: shown.at}
	if c.values.fast {
		opt.Blobs = check.FindBlobs
	}
	opt.AcceptMissing = c.values.acceptMissing
	if from := c.values.blobsFrom; from != "" {
		if _, err := os.Stat(filepath.Join(from, datadir.Blobs)); err != nil {
			return fmt.Errorf("%w: -blobs-from %s: it is not the directory of a backup: %w", errUsage, from, err)
		}
		opt.From = func(ctx context.Context, did syntax.DID, blob cid.Cid) (io.ReadCloser, storage.BlobInfo, error) {
			return datadir.Layout.Blob(ctx, from, did, blob)
		}
	}
	for _, a := range list {
		opt.Accounts = append(opt.Accounts, a.DID)
	}
	report, err := s.Run(ctx, opt)
	shown.done()
	if err != nil {
		return err
	}
	for i, p := range report.Problems {
		if p.Kind == check.NoBlobsThere {
			report.Problems[i].What = d.Explain(check.ErrNoBlobs).Error()
		}
	}
	if err := c.showReport(report); err != nil {
		return err
	}
	if n := report.Found + report.Ahead; n > 0 {
		return fmt.Errorf("%w: %d", errProblems, n)
	}
	return nil
}

// aheadRemedy is what to do about revisions from the future.
const aheadRemedy = `
The network ignores revisions that are more than five minutes ahead, so nobody sees what these
accounts write. If the clock of this machine is right now, it was ahead when they were written. (It
says %s.) Their data is good. There are two ways:

  - wait until %s, and then run "pds resync" for them;
  - or, now, stop the server and run "pds resync -rewind". They are signed anew, with the present
    time. Those who ignored the revisions from the future, as the protocol asks of relays,
    follow again at once. Those who took them ignore the account until the time above.
`

// showAhead writes what there is to say about accounts with revisions from the future.
func (c *call) showAhead(r *check.Report) {
	if r.Ahead == 0 {
		return
	}
	const form = "2006-01-02 15:04:05 MST"
	var last time.Time
	for _, a := range r.AheadAccounts {
		fmt.Fprintf(c.Stdout, "AHEAD     %s: its revision is of %s\n", a.DID, a.Rev.Time().Format(form))
		if a.Until.After(last) {
			last = a.Until
		}
	}
	if more := r.Ahead - len(r.AheadAccounts); more > 0 {
		fmt.Fprintf(c.Stdout, "AHEAD     %d more\n", more)
	}
	fmt.Fprintf(c.Stdout, aheadRemedy, time.Now().UTC().Format(form), last.UTC().Format(form))
}

func (c *call) showReport(r *check.Report) error {
	if c.json {
		return c.writeJSON(r)
	}
	fmt.Fprintf(c.Stdout, "accounts  %d\nrecords   %d, %s\nblobs     %d\nevents    %d\n", r.Accounts, r.Records, bytes64(r.Bytes), r.Blobs, r.Events)
	if r.PutBack > 0 {
		fmt.Fprintf(c.Stdout, "blobs that were put back: %d\n", r.PutBack)
	}
	if r.MissingBlobs > 0 {
		fmt.Fprintf(c.Stdout, "blobs that are not there: %d\n", r.MissingBlobs)
		for _, b := range r.Missing {
			fmt.Fprintf(c.Stdout, "  %s of %s\n", b.CID, b.DID)
		}
	}
	for _, p := range r.Problems {
		fmt.Fprintf(c.Stdout, "PROBLEM   %s\n", p)
	}
	c.showAhead(r)
	switch {
	case r.Found+r.Ahead == 0 && r.MissingBlobs == 0:
		fmt.Fprintln(c.Stdout, "All is well.")
	case r.Found+r.Ahead == 0:
		fmt.Fprintln(c.Stdout, "Nothing is damaged. The blobs that are not there were accepted as lost, or their accounts are not active.")
	}
	return nil
}

// accountFactors shows or resets factors in the data directory. The owner is told by no mail.
func accountFactors(reset bool) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		s, list, d, err := c.openAccounts(ctx, false)
		if err != nil {
			return err
		}
		store := credential.New(credential.Config{Accounts: s.Accounts})
		if reset {
			_, err = store.ResetFactors(ctx, list[0].DID, operator())
		}
		set, failed := store.Factors(ctx, account.Trusted(list[0].DID))
		return errors.Join(err, failed, c.writeJSON(set), d.Close())
	}
}

func rotateKeys(ctx context.Context, c *call) (err error) {
	cfg, _, d, err := c.open(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	// A rotation that was interrupted is finished with its own key.
	if rotating, err := cfg.Rotating(); err != nil {
		return err
	} else if !rotating {
		if err := cfg.AddMasterKey(); err != nil {
			return err
		}
	}
	secrets, err := cfg.Secrets()
	if err != nil {
		return err
	}
	box, err := sealed.New(secrets.MasterKeys...)
	if err != nil {
		return err
	}
	shown := c.progress("accounts")
	n, err := account.Open(repo.Config{Store: d.Store}, box).Reseal(ctx, shown.at)
	shown.done()
	if err != nil {
		return fmt.Errorf("%w (nothing is lost: run rotate-keys again)", err)
	}
	mail, err := mailqueue.New(mailqueue.Config{Store: d.Store, Box: box})
	if err == nil {
		_, err = mail.Reseal(ctx)
	}
	if err != nil {
		return fmt.Errorf("mail that waits: %w (nothing is lost: run rotate-keys again)", err)
	}
	if err := cfg.DropMasterKeys(); err != nil {
		return err
	}
	return c.result(map[string]int{"sealed": n}, "Sealed %d keys with another master key.", n)
}
