package selfcheck

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/certs"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/examples/pds/internal/update"
	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/mail"
)

// mailCheck asks the mail server, or sends a message.
func mailCheck(in Input) doctor.Check {
	return doctor.Check{Name: "mail", Timeout: 40 * time.Second, Run: func(ctx context.Context) []doctor.Finding {
		cfg := in.Config.Mail
		switch {
		case cfg.Sink != "" && in.Config.DevMode, cfg.SMTP == "" && in.Config.DevMode:
			return []doctor.Finding{doctor.Skip("a development server sends no mail")}
		case cfg.Sink != "":
			return []doctor.Finding{doctor.Warn("take PDS_EMAIL_SINK_FILE out", "mail is written to %s and sent to nobody", cfg.Sink)}
		case cfg.SMTP == "":
			return []doctor.Finding{doctor.Warn("set PDS_EMAIL_SMTP_URL and PDS_EMAIL_FROM_ADDRESS", "no mail server is named: users cannot reset passwords, nor move away")}
		}
		list := []doctor.Finding{askMail(ctx, in, cfg)}
		if in.DeadMail != nil {
			if n, err := in.DeadMail(ctx); err == nil && n > 0 {
				list = append(list, doctor.Warn("\"pds mail list\" says why; then \"pds mail retry -all\" or \"pds mail drop -all\"", "%s could not be sent and were given up", plural(n, "message")))
			}
		}
		return list
	}}
}

func askMail(ctx context.Context, in Input, cfg config.Mail) doctor.Finding {
	const remedy = "the words are the mail server's: see PDS_EMAIL_SMTP_URL (465 is smtps://, 587 smtp://; special characters of the password as %XX); many hosts block port 25"
	sender, err := mail.New(mail.Config{URL: cfg.SMTP, From: cfg.From})
	if err != nil {
		return doctor.Bad(remedy, "%v", err)
	}
	if in.MailTo != "" {
		err := sender.Send(ctx, mail.Message{To: in.MailTo, Subject: "Test of " + in.Config.Hostname, Text: "If you read this, mail of the PDS " + in.Config.Hostname + " works.\n"})
		if err != nil {
			return doctor.Bad(remedy, "%v", err)
		}
		return doctor.Good("the mail server has accepted a message to %s: see whether it arrives, and not as spam", in.MailTo)
	}
	if p, ok := sender.(mail.Prober); ok {
		if err := p.Probe(ctx); err != nil {
			return doctor.Bad(remedy, "%v", err)
		}
	}
	return doctor.Good("the mail server takes the password and the sender %s (\"pds doctor -mail-to ADDRESS\" sends a message)", cfg.From)
}

// authority looks at what the server has noted of certificates that it gets itself.
func authority(in Input) doctor.Check {
	return doctor.Check{Name: "acme", Run: func(context.Context) []doctor.Finding {
		const remedy = "see that DNS leads here and that ports 80 and 443 are open from everywhere; then \"systemctl restart pds\" tries again at once"
		s, err := certs.ReadState(filepath.Join(in.Config.DataDirectory, datadir.ACME))
		f := s.Failure
		switch {
		case err != nil:
			return []doctor.Finding{doctor.Warn("\"systemctl restart pds\" writes it anew", "what is noted of certificates cannot be read: %v", err)}
		case f != nil && f.Name != "" && f.Name != in.Config.Hostname:
			return []doctor.Finding{doctor.Warn("see that DNS of "+f.Name+" leads here, or give its account another handle",
				"at %s, the authority gave no certificate: %s", f.At.Format("2006-01-02 15:04 UTC"), f.Reason).About(f.Name)}
		case f != nil && s.Expires.IsZero():
			return []doctor.Finding{doctor.Bad(remedy, "there is no certificate; at %s, the authority said: %s", f.At.Format("2006-01-02 15:04 UTC"), f.Reason)}
		case f != nil:
			return []doctor.Finding{doctor.Warn(remedy, "the certificate is good until %s, and at %s could not be renewed: %s", s.Expires.Format("2006-01-02 15:04 UTC"), f.At.Format("2006-01-02 15:04 UTC"), f.Reason)}
		case s.Expires.IsZero():
			return []doctor.Finding{doctor.Skip("the server has asked for no certificate yet")}
		case s.Expires.Before(in.now()):
			return []doctor.Finding{doctor.Bad(remedy, "the certificate has ended at %s", s.Expires.Format("2006-01-02 15:04 UTC"))}
		}
		return []doctor.Finding{doctor.Good("the authority gives certificates; this one is good until %s", s.Expires.Format("2006-01-02 15:04 UTC"))}
	}}
}

// newer looks at what the server has noted of newer versions. It asks nobody.
func newer(in Input) doctor.Check {
	return doctor.Check{Name: "update", Run: func(context.Context) []doctor.Finding {
		n, err := update.Read(in.Config.DataDirectory)
		switch {
		case err != nil:
			return []doctor.Finding{doctor.Warn("delete the file: it is written anew", "%v", err)}
		case n.Newer(in.Version):
			text := fmt.Sprintf("version %s is out; this is %s", n.Latest, in.Version)
			if n.URL != "" {
				text += " (" + n.URL + ")"
			}
			return []doctor.Finding{doctor.Warn("read what has changed, make a backup, and install it: the guide's section \"Upgrade\"", "%s", text)}
		case n.Problem != "":
			return []doctor.Finding{doctor.Skip("the list of releases, %s, cannot be read: %s", in.Config.UpdateFeed, n.Problem)}
		case n.Asked.IsZero():
			return []doctor.Finding{doctor.Skip("the list of releases was not asked yet")}
		}
		return []doctor.Finding{doctor.Good("there is no newer version than %s, as of %s", in.Version, n.Asked.Format("2006-01-02 15:04 UTC"))}
	}}
}

// Ages of the last good backup.
const (
	backupLate = 36 * time.Hour
	backupOld  = 8 * 24 * time.Hour
)

// backups looks at the notes that "pds backup" makes.
func backups(in Input) doctor.Check {
	return doctor.Check{Name: "backups", Run: func(ctx context.Context) []doctor.Finding {
		const remedy = "\"systemctl enable --now pds-backup.timer\" makes one each night, \"pds backup DIRECTORY\" one now"
		if in.Config.DatabaseURL != "" {
			return []doctor.Finding{doctor.Skip("the database is PostgreSQL's: its own tools back it up")}
		}
		list, err := Notes(in.Store).List(ctx)
		if err != nil {
			return []doctor.Finding{doctor.Bad("\"pds check\" says more", "the notes of backups cannot be read: %v", err)}
		}
		var found []doctor.Finding
		if len(list) > 0 && list[0].Problem != "" {
			found = append(found, doctor.Warn("\"journalctl -u pds-backup -n 50\" says more", "the last backup had a problem: %s", list[0].Problem))
		}
		for _, b := range list {
			if !b.Good {
				continue
			}
			age := in.now().Sub(b.At)
			text := fmt.Sprintf("the last good backup is from %s, in %s", b.At.UTC().Format("2006-01-02 15:04 UTC"), b.Path)
			switch {
			case age > backupOld:
				return append(found, doctor.Bad(remedy, "%s", text))
			case age > backupLate:
				return append(found, doctor.Warn(remedy, "%s", text))
			}
			return append(found, doctor.Good("%s", text))
		}
		if in.Config.DevMode {
			return []doctor.Finding{doctor.Skip("there is no backup of this development server")}
		}
		return append(found, doctor.Warn(remedy, "there is no good backup"))
	}}
}

func (in Input) now() time.Time {
	if in.Config.Now != nil {
		return in.Config.Now()
	}
	return time.Now()
}

// Free room below which a disk is told of, in bytes and as a share of all.
const (
	littleRoom, noRoom   = 1 << 30, 256 << 20
	littleShare, noShare = 0.10, 0.02
)

// space looks at the disks of the data and of the blobs.
func space(in Input) doctor.Check {
	return doctor.Check{Name: "space", Run: func(context.Context) (list []doctor.Finding) {
		free := in.Free
		if free == nil {
			free = datadir.Space
		}
		dirs := []string{in.Config.DataDirectory}
		if in.Blobs != "" && filepath.Dir(in.Blobs) != filepath.Clean(in.Config.DataDirectory) {
			dirs = append(dirs, in.Blobs)
		}
		for _, dir := range dirs {
			left, total, ok := free(existing(dir))
			share := float64(left) / float64(max(total, 1))
			text := fmt.Sprintf("%s of %s are free", size(left), size(total))
			const remedy = "make room, or put blobs on another disk (PDS_BLOBSTORE_DISK_LOCATION): when it is full, nothing can be written"
			switch {
			case !ok:
				list = append(list, doctor.Skip("free room is not known on this system").About(dir))
			case left < noRoom || share < noShare:
				list = append(list, doctor.Bad(remedy, "%s", text).About(dir))
			case left < littleRoom || share < littleShare:
				list = append(list, doctor.Warn(remedy, "%s", text).About(dir))
			default:
				list = append(list, doctor.Good("%s", text).About(dir))
			}
		}
		return list
	}}
}

// existing is the nearest folder above a path that exists.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		parent := filepath.Dir(path)
		if parent == path {
			return path
		}
		path = parent
	}
}

func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// modes looks at who may read files with secrets.
func modes(in Input) doctor.Check {
	return doctor.Check{Name: "modes", Run: func(context.Context) (list []doctor.Finding) {
		if runtime.GOOS == "windows" {
			return []doctor.Finding{doctor.Skip("there are no file modes on this system")}
		}
		dir := in.Config.DataDirectory
		for _, f := range []struct {
			path string
			mode fs.FileMode
		}{{dir, 0o700}, {filepath.Join(dir, datadir.Secrets), 0o600}} {
			info, err := os.Stat(f.path)
			if err != nil {
				continue // it is elsewhere, or not there yet
			}
			if got := info.Mode().Perm(); got&^f.mode&0o077 != 0 {
				f := doctor.Bad(fmt.Sprintf("chmod %o %s", f.mode, f.path), "others on this machine can read it (mode %04o)", got).About(f.path)
				if in.Config.DevMode {
					f.Level = doctor.Warning
				}
				list = append(list, f)
			}
		}
		if list == nil {
			list = []doctor.Finding{doctor.Good("files with secrets are for the server's user only")}
		}
		return list
	}}
}
