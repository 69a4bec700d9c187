//go:build linux || darwin

package datadir

import "syscall"

// Space returns how many bytes are free on the disk of a directory, for who is not root, and how
// many there are. ok is false where that cannot be found out.
func Space(path string) (free, total int64, ok bool) {
	var st syscall.Statfs_t
	err := syscall.Statfs(path, &st)
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), err == nil
}
