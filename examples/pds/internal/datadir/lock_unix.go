//go:build unix

package datadir

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"syscall"
)

// lock takes a lock that the system gives back when the process ends, however
// it ends: a shared one, or one for this process alone.
func lock(path string, alone bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrInUse
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// removeStale removes what processes that were killed have left under names that match a pattern: a
// running one has a lock on its file, or on the file inside in its folder.
func removeStale(pattern, inside string) error {
	left, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, name := range left {
		f, err := lock(filepath.Join(name, inside), true)
		if err != nil { // in use, or something else
			continue
		}
		err = os.RemoveAll(name)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// checkOwner keeps the administrator of the machine from opening the database of a
// user, who could not open its journal afterwards.
func checkOwner(file string) error {
	if os.Geteuid() != 0 {
		return nil // the system itself refuses what must not be
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil // there is none yet
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	name := fmt.Sprintf("'#%d'", st.Uid) // as sudo takes it, through a shell
	if u, err := user.LookupId(fmt.Sprint(st.Uid)); err == nil {
		name = u.Username
	}
	return fmt.Errorf("%w (sudo -u %s)", ErrOwner, name)
}
