package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/pdskit/pdskit/internal/diskfull"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/backup"
)

// packages are the names that errors of the library begin with: they say nothing here.
var packages = regexp.MustCompile(`(^|: |\n)(?:account|archive|backup|blobfs|credential|datadir|identity|migrate|sealed|storage|syntax|transfer): `)

// withRemedy says what to do about an error of the machine, of the network or of a name, where its text does
// not say so.
func withRemedy(err error, text string) string {
	for before := ""; before != text; { // one may stand right after another
		before, text = text, packages.ReplaceAllString(text, "$1")
	}
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var path *fs.PathError
	add := func(remedy string) string { return strings.TrimRight(text, ".") + ". " + remedy }
	switch {
	case strings.HasSuffix(text, ")") && strings.Contains(text, "(run this as"), strings.Contains(text, "chown"):
		return text // it says so
	case errors.Is(err, account.ErrNotFound):
		return add("\"pds account list\" lists the accounts that are here")
	case errors.Is(err, backup.ErrNotEmpty):
		return add("A backup is restored into an empty folder: stop the server, move the folder away (\"mv DIR DIR.old\"), and run this again")
	case diskfull.Is(err):
		return add("The disk is full: make room (\"df -h\" shows the disks), and run this again; nothing is lost")
	case errors.Is(err, syscall.EROFS):
		return add("The disk is read-only, or the service file does not let the program write there")
	case errors.Is(err, fs.ErrPermission):
		return add("Run this as the user that the server runs as: \"runuser -u pds -- pds …\", with PDS_ENV_FILE set")
	case errors.As(err, &dns) && dns.IsNotFound:
		return add("There is no such name: is the address right?")
	case errors.As(err, &unknown), errors.As(err, &host):
		return add("Its certificate is not good: is the address right, and does \"pds doctor\" there say why?")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return add("It took too long: is the server overloaded, or the address right?")
	case errors.As(err, &path) && errors.Is(err, fs.ErrNotExist) && !strings.Contains(text, "("):
		return add(missing(path.Path))
	}
	return text
}

// missing says what of a path there is.
func missing(path string) string {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); err != nil {
		return "There is no folder " + dir + ": make it, or name another one"
	}
	return "There is nothing of that name in " + absolute(dir)
}
