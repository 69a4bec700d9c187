package memlimit_test

import (
	"os"
	"os/exec"
	"runtime/debug"
	"testing"
	"testing/fstest"

	"github.com/pdskit/pdskit/examples/pds/internal/memlimit"
)

func TestBound(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64 // 0: none
	}{
		{"no control groups", nil, 0},
		{"a container", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "786432000\n", "sys/fs/cgroup/memory.high": "max\n"}, 786432000},
		{"no bound", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 0},
		{"a unit of systemd", map[string]string{"proc/self/cgroup": "0::/system.slice/pds.service\n", "sys/fs/cgroup/system.slice/pds.service/memory.max": "500\n", "sys/fs/cgroup/system.slice/memory.max": "max\n"}, 500},
		{"a group above it", map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "500\n", "sys/fs/cgroup/a/memory.max": "300\n"}, 300},
		{"a soft bound", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "500\n", "sys/fs/cgroup/memory.high": "400\n"}, 400},
		{"the path of the host", map[string]string{"proc/self/cgroup": "0::/docker/1234\n", "sys/fs/cgroup/memory.max": "500\n"}, 500},
		{"version 1", map[string]string{"proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/1234\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "500\n"}, 500},
		{"version 1 without a bound", map[string]string{"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		{"nonsense", map[string]string{"proc/self/cgroup": "x\n0::/../../etc\n", "sys/fs/cgroup/memory.max": "-1\n", "sys/fs/cgroup/etc/memory.max": "much"}, 0},
	} {
		root := fstest.MapFS{}
		for name, text := range c.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		n, ok := memlimit.Bound(root)
		if ok != (c.want > 0) || ok && n != c.want {
			t.Errorf("%s: %d, %t; want %d", c.name, n, ok, c.want)
		}
	}
}

// What the environment says counts.
func TestEnvironmentCounts(t *testing.T) {
	if os.Getenv("MEMLIMIT_TEST") != "" {
		before := debug.SetMemoryLimit(-1)
		memlimit.Set()
		if n, ok := memlimit.Limit(); n != before || !ok || n != 123<<20 {
			t.Fatalf("%d, before %d", n, before)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestEnvironmentCounts$")
	cmd.Env = append(os.Environ(), "MEMLIMIT_TEST=1", "GOMEMLIMIT=123MiB")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
