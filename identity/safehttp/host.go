package safehttp

import (
	"fmt"
	"net/netip"
	"strings"
)

// checkHost refuses hosts that are not public, as far as their names tell: addresses, also as
// browsers read them, and names that no public DNS has. It is for where the runtime makes the
// connections, which may have other rules.
func checkHost(host string) error {
	refuse := func() error { return fmt.Errorf("%w: %.260q is not a public host", ErrAddress, host) }
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		if !PublicAddress(a) {
			return refuse()
		}
		return nil
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case last == "", last == name, last == "localhost", last == "local", last == "internal":
		return refuse()
	case last[0] >= '0' && last[0] <= '9':
		return refuse() // 127.1, 0x7f.0.0.1, 0177.1: addresses to the runtime
	}
	return nil
}
