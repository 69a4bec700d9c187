// Package memlimit gives the Go runtime a soft memory limit that fits its container.
//
// Without one, a Go program in a container of 500 MiB assumes that it has the whole machine's
// memory, and is killed before it collects garbage. GOMEMLIMIT prevents that, but is easily
// forgotten, or not updated when the container gets more memory.
package memlimit

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// Set sets the runtime's limit to two thirds of what the control group of the process may use,
// which leaves room for what the runtime does not count: stacks of the system, and mapped files. If
// GOMEMLIMIT is set, or if there is no bound, it leaves everything as it is. Only Linux has control
// groups.
func Set() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if n, ok := Bound(os.DirFS("/")); ok {
		debug.SetMemoryLimit(n / 3 * 2)
	}
}

// Limit returns the runtime's limit in bytes, if there is one.
func Limit() (n int64, ok bool) {
	n = debug.SetMemoryLimit(-1)
	return n, n != math.MaxInt64
}

// Bound returns how many bytes of memory the process may use, by the control groups of a file
// system: version 2 or 1, its own group or any above it. Not ok: as many as there are.
func Bound(root fs.FS) (n int64, ok bool) {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	n = math.MaxInt64
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		switch controllers := "," + fields[1] + ","; {
		case fields[0] == "0" && fields[1] == "":
			n = min(n, least(root, "sys/fs/cgroup", fields[2], "memory.max", "memory.high"))
		case strings.Contains(controllers, ",memory,"):
			n = min(n, least(root, "sys/fs/cgroup/memory", fields[2], "memory.limit_in_bytes"))
		}
	}
	// Version 1 says "no bound" by a number that no machine has.
	return n, n < 1<<50
}

// least is the least of the numbers in the files of a group and of those above it. In a container,
// the group may be known by a path that is not there: then the top is that of the container.
func least(root fs.FS, top, group string, files ...string) int64 {
	n := int64(math.MaxInt64)
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		for _, file := range files {
			text, err := fs.ReadFile(root, path.Join(top, group, file))
			if err != nil {
				continue
			}
			if x, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && x > 0 {
				n = min(n, x)
			}
		}
		if group == "/" {
			return n
		}
	}
}
