//go:build unix

package datadir

import (
	"fmt"
	"os"
	"os/user"
	"syscall"
)

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
