package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/filelock"
)

// ErrServed: another server serves from the directory.
var ErrServed = errors.New("datadir: another server serves from this data directory")

// ErrForeign: the directory has the data of another program.
var ErrForeign = errors.New("datadir: the data directory has the data of another server, which is not read")

// serve makes this process the only server of the directory, until it ends. The lock's file says
// which process that is.
func (d *Dir) serve() error {
	f, err := filelock.Try(filepath.Join(d.Path, serveName), filelock.Exclusive)
	if errors.Is(err, filelock.ErrLocked) {
		who, _ := os.ReadFile(filepath.Join(d.Path, serveName))
		if who = who[:min(len(who), 20)]; len(who) > 0 {
			who = append([]byte(" (process "), strings.TrimSpace(string(who))+")"...)
		}
		return fmt.Errorf("%w%s, %s: end that one, or give this one a PDS_DATA_DIRECTORY and a PDS_PORT of its own. Several servers of the same accounts need PDS_DATABASE_URL",
			ErrServed, who, absolute(d.Path))
	} else if err != nil {
		return err
	}
	d.serving = f
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = io.WriteString(f, fmt.Sprintln(os.Getpid()))
	return err
}

// foreign returns ErrForeign if there is no database of ours in a directory, but one of the
// official server: a new and empty one beside it is not what the operator wants.
func foreign(path string) error {
	if _, err := os.Stat(filepath.Join(path, Database)); err == nil {
		return nil
	}
	for _, name := range []string{"account.sqlite", "sequencer.sqlite"} {
		if _, err := os.Stat(filepath.Join(path, name)); err == nil {
			return fmt.Errorf("%w (%s): set PDS_DATA_DIRECTORY to an empty folder, such as /var/lib/pds, and move the accounts with \"pds migrate\" while the other server runs",
				ErrForeign, filepath.Join(absolute(path), name))
		}
	}
	return nil
}

// explain says which variable names a folder that cannot be used, and what may be the cause.
func explain(variable, path string, err error) error {
	text := fmt.Sprintf("%s=%s", variable, path)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: %w. The service file lets the server write /var/lib/pds only: take that, or allow the folder in a drop-in, as deploy/pds.service.d/blobs.conf does", text, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w. The folder must belong to the user that the server runs as: chown -R pds: %s", text, err, path)
	}
	return err
}

// ReadPort returns the port that is noted in a file of a directory; 0: none.
func ReadPort(path, name string) int {
	text, err := os.ReadFile(filepath.Join(path, name))
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || port < 1 || port > 65535 {
		return 0
	}
	return port
}

// WritePort notes a port in a file of a directory.
func WritePort(path, name string, port int) error {
	return durablefile.Write(filepath.Join(path, name), []byte(strconv.Itoa(port)+"\n"))
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
