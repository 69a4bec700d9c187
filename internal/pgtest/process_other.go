//go:build unix && !linux

package pgtest

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func parent() (unlock func()) { return func() {} }

// children returns the child processes of a process.
func children(parent int) (pids []int) {
	out, _ := exec.Command("pgrep", "-P", strconv.Itoa(parent)).Output()
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
