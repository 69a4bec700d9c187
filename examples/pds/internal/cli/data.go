package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/examples/pds/internal/accounts"
	"github.com/pdskit/pdskit/examples/pds/internal/check"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/examples/pds/internal/server"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/atproto"
)

const backupHelp = `
The backup is a directory that could itself be the data directory of a server: the
database as it was at one moment, all blobs, the secrets (those of the
environment too) and, of a development server, the PLC directory. Whoever has it has the accounts'
keys: keep it safe.

A backup into the directory of an older one replaces that; blobs that are
there already are not copied again. If it is interrupted, the older one stays good.
The copy of the database is checked before it counts.

With -tar, the backup is written as one tar file; "-" is standard output:

    pds backup -tar - | age -r KEY > pds.tar.age
`

const restoreHelp = `
BACKUP is the directory or tar file that backup made, or "-" for a tar file on
standard input. The data directory, and that of the blobs, must be empty. Every file is checked against the
backup's digests, and everything in the restored directory is read as "pds check" does, before it gets its place.

What was written after the backup is lost, but relays know of it. So the repositories of active
accounts are signed anew, as "pds resync" does, and the network reads them again.

Start the server with the same PDS_HOSTNAME and handle domains as before. Secrets of the
environment count where they are set; else those of the backup do.
`

const checkHelp = `
It reads the structure of the database; every repository as the network would
read it (tree, digests, signature); every blob; the names of accounts; and the events that can
be replayed. Blobs that records refer to but that are not there are counted and
listed; they are no problem in themselves, since an account that was moved here
has such until they are uploaded.

Accounts with a revision from the future are listed too, as a clock that was ahead leaves them: their
data is good, but the network ignores what they write. The report says what to do.

With accounts (DIDs or handles) as arguments, only their repositories are read.
The exit code is 3 if there are problems, or accounts with a revision from the future.
`

const rotateHelp = `
The server must be stopped. A new master key is made, every signing key is sealed
with it, and the old master key is deleted. It can be interrupted at any
moment: run it again to finish. The signing keys themselves stay as they are, so
nobody outside sees a difference. Backups keep the master key of their time.

If PDS_MASTER_KEY gives the keys, put a new one in front ("NEW,OLD"), run this,
and then take the old one away.
`

func backupFlags(c *call) {
	c.BoolVar(&c.values.asTar, "tar", false, "write one tar file; the argument is its name, or - for standard output")
	c.BoolVar(&c.values.fast, "fast", false, "check only the structure of the copy, not every repository")
}

func restoreFlags(c *call) {
	c.BoolVar(&c.values.fast, "fast", false, "check only digests of files, not every repository and blob")
	c.BoolVar(&c.values.noResync, "no-resync", false, "leave repositories as they are, and tell the network nothing")
}

func checkFlags(c *call) {
	c.BoolVar(&c.values.fast, "fast", false, "look for blobs, but do not read them")
}

// open opens the data directory that there is, and its secrets.
func (c *call) open(ctx context.Context, alone bool) (*config.Config, *config.Secrets, *datadir.Dir, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, nil, nil, err
	}
	d, err := datadir.Open(ctx, cfg.DataDirectory, datadir.Options{Blobs: cfg.BlobDirectory, Alone: alone, Existing: true})
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

// checker returns what checks a directory, with the keys that are needed for it.
func checker(d *datadir.Dir, keys [][]byte) (check.Server, error) {
	box, err := sealed.New(keys...)
	if err != nil {
		return check.Server{}, err
	}
	return check.Server{Database: d.DB.Check, Store: d.Store, Accounts: accounts.New(d.Store, box)}, nil
}

// openAccounts opens the data directory with what checks it, and finds the accounts that the
// arguments name.
func (c *call) openAccounts(ctx context.Context, alone bool) (s check.Server, list []atproto.Account, close func() error, err error) {
	_, secrets, d, err := c.open(ctx, alone)
	if err != nil {
		return s, nil, nil, err
	}
	if s, err = checker(d, secrets.MasterKeys); err != nil {
		return s, nil, nil, errors.Join(err, d.Close())
	}
	for _, id := range c.args {
		a, err := s.Accounts.Account(ctx, syntax.AtIdentifier(id))
		if err != nil {
			return s, nil, nil, errors.Join(fmt.Errorf("%s: %w", id, err), d.Close())
		}
		list = append(list, a)
	}
	return s, list, d.Close, nil
}

func backup(ctx context.Context, c *call) (err error) {
	cfg, secrets, d, err := c.open(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	file, err := secrets.File()
	if err != nil {
		return err
	}
	shown := c.progress("blobs")
	checked := c.progress("accounts checked")
	b := datadir.Backup{
		Version: server.Version, Host: cfg.Hostname, Files: map[string][]byte{datadir.Secrets: file}, Progress: shown.at,
		Verify: func(ctx context.Context, copied *datadir.Dir) (missing int, err error) {
			shown.done()
			return c.verifyBackup(ctx, d, copied, secrets, checked)
		},
	}
	m, err := c.writeBackup(ctx, b, d)
	checked.done()
	if err != nil {
		return err
	}
	if c.values.asTar && c.args[0] == "-" {
		return nil // standard output is the backup's
	}
	return c.result(m, "Backed up %s, with %d blobs, to %s. It has the server's keys in it: keep it safe.", bytes64(m.Bytes), m.Blobs, absolute(c.args[0]))
}

// writeBackup writes a backup in the form that the flags ask for.
func (c *call) writeBackup(ctx context.Context, b datadir.Backup, d *datadir.Dir) (m *datadir.Manifest, err error) {
	dest := c.args[0]
	switch {
	case !c.values.asTar:
		return b.ToDir(ctx, d, dest)
	case dest == "-":
		return b.ToTar(ctx, d, c.Stdout)
	}
	// Under its name there is never half a backup.
	f, err := os.CreateTemp(filepath.Dir(dest), filepath.Base(dest)+".part-*")
	if err != nil {
		return nil, err
	}
	m, err = b.ToTar(ctx, d, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), dest)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return m, err
}

// verifyBackup checks the copy of a database. Blobs are looked for, since their bytes have just been read;
// those that the server does not have either are not the backup's fault.
func (c *call) verifyBackup(ctx context.Context, from, copied *datadir.Dir, secrets *config.Secrets, shown *progress) (missing int, err error) {
	if c.values.fast {
		return 0, copied.DB.Check(ctx)
	}
	s, err := checker(copied, secrets.MasterKeys)
	if err != nil {
		return 0, err
	}
	if c.values.asTar {
		s.Store.Blobs = from.Store.Blobs // they are in the tar file
	}
	// The copy may be of a moment at which an account was being made or deleted.
	if err := s.Accounts.Repair(ctx); err != nil {
		return 0, err
	}
	report, err := s.Run(ctx, check.Options{Blobs: check.FindBlobs, Progress: shown.at})
	if err != nil {
		return 0, err
	}
	for _, b := range report.Missing {
		id, err := cid.Decode(b.CID)
		if err != nil {
			return 0, err
		}
		if _, promoted, err := from.Store.Blobs.Stat(ctx, b.DID, id); err == nil && promoted {
			report.Problems = append(report.Problems, check.Problem{DID: b.DID, What: "blob " + b.CID + " is not in the backup"})
		}
	}
	return report.MissingBlobs, problemsError(report)
}

// problemsError is an error with the first problems of a report; nil if there are none.
func problemsError(r *check.Report) error {
	if len(r.Problems) == 0 {
		return nil
	}
	err := errProblems
	for i, p := range r.Problems {
		if i == 10 {
			return fmt.Errorf("%w\n  and %d more", err, len(r.Problems)-i)
		}
		err = fmt.Errorf("%w\n  %s", err, p)
	}
	return err
}

func restore(ctx context.Context, c *call) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	shown := c.progress("files")
	checked := c.progress("accounts checked")
	signed := c.progress("accounts signed anew")
	var report *check.Report
	var resynced resynced
	r := datadir.Restore{Blobs: cfg.BlobDirectory, Progress: shown.at, Verify: func(ctx context.Context, d *datadir.Dir, m *datadir.Manifest) error {
		shown.done()
		// The keys are those of the backup itself.
		restored := *cfg
		restored.DataDirectory = d.Path
		if err := restored.CheckKeys(); err != nil {
			return err
		}
		secrets, err := restored.Secrets()
		if err != nil {
			return err
		}
		s, err := checker(d, secrets.MasterKeys)
		if err != nil {
			return err
		}
		if err := s.Accounts.Repair(ctx); err != nil {
			return err
		}
		if c.values.fast {
			err = d.DB.Check(ctx)
		} else if report, err = s.Run(ctx, check.Options{Progress: checked.at}); err == nil {
			if n := report.MissingBlobs - m.Missing; n > 0 {
				report.Problems = append(report.Problems, check.Problem{What: fmt.Sprintf("the backup has lost %d blobs", n)})
			}
			err = problemsError(report)
		}
		checked.done()
		if err != nil || c.values.noResync {
			return err
		}
		// Only a clock that somebody else confirms tells which revisions are from the future.
		confirmed, err := c.checkClock(ctx, cfg, s.Store.Events)
		if err != nil {
			return err
		}
		resynced, err = resyncAll(ctx, s, nil, confirmed, signed.at)
		signed.done()
		return err
	}}
	m, err := r.From(ctx, c.args[0], c.In, cfg.DataDirectory)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("Restored the backup of %s made at %s to %s.", m.Host, m.Created.Format("2006-01-02 15:04 MST"), absolute(cfg.DataDirectory))
	if report != nil {
		text += fmt.Sprintf(" All is well with %s, %d records and %d blobs.", accountCount(report.Accounts), report.Records, report.Blobs)
		if report.MissingBlobs > 0 {
			text += fmt.Sprintf(" The server did not have %d blobs that records refer to.", report.MissingBlobs)
		}
	}
	if resynced.accounts > 0 {
		text += fmt.Sprintf(" The repositories of %s were signed anew.", accountCount(resynced.accounts))
	}
	c.warnAhead(resynced)
	if m.Host != cfg.Hostname {
		fmt.Fprintf(c.Stderr, "warning: the backup is of %s, but PDS_HOSTNAME is %s\n", m.Host, cfg.Hostname)
	}
	return c.result(map[string]any{"backup": m, "check": report, "resynced": resynced.accounts}, "%s", text)
}

func runCheck(ctx context.Context, c *call) (err error) {
	s, list, close, err := c.openAccounts(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, close()) }()
	shown := c.progress("accounts checked")
	opt := check.Options{Progress: shown.at}
	if c.values.fast {
		opt.Blobs = check.FindBlobs
	}
	for _, a := range list {
		opt.Accounts = append(opt.Accounts, a.DID)
	}
	report, err := s.Run(ctx, opt)
	shown.done()
	if err != nil {
		return err
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
	if r.Found+r.Ahead == 0 {
		fmt.Fprintln(c.Stdout, "All is well.")
	}
	return nil
}

func rotateKeys(ctx context.Context, c *call) (err error) {
	cfg, _, d, err := c.open(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	// A rotation that was interrupted is finished with its own key.
	rotating, err := cfg.Rotating()
	if err != nil {
		return err
	}
	if !rotating {
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
	n, err := accounts.New(d.Store, box).Reseal(ctx, shown.at)
	shown.done()
	if err != nil {
		return fmt.Errorf("%w (nothing is lost: run rotate-keys again)", err)
	}
	if err := cfg.DropMasterKeys(); err != nil {
		return err
	}
	return c.result(map[string]int{"sealed": n}, "Sealed %d keys with another master key.", n)
}
