package datadir

import "syscall"

// Free returns how many bytes are free on the disk of a directory, for who is not root.
func Free(path string) (int64, bool) {
	var st syscall.Statfs_t
	err := syscall.Statfs(path, &st)
	return int64(st.Bavail) * int64(st.Bsize), err == nil
}
