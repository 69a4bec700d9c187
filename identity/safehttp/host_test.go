package safehttp

import (
	"errors"
	"testing"
)

func TestCheckHost(t *testing.T) {
	for host, want := range map[string]bool{
		"example.com": true, "EXAMPLE.com.": true, "1.1.1.1": true, "[2606:4700:4700::1111]": true, "2606:4700:4700::1111": true, "a.7b": false,
		"": false, ".": false, "localhost": false, "LOCALHOST.": false, "a.localhost": false, "printer.local": false, "metadata.google.internal": false, "intranet": false,
		"127.0.0.1": false, "10.0.0.1": false, "[::1]": false, "::ffff:127.0.0.1": false, "169.254.169.254": false,
		"127.1": false, "2130706433": false, "0x7f000001": false, "0x7f.1": false, "0177.0.0.1": false, "127.0.0.1.": false,
	} {
		if err := checkHost(host); (err == nil) != want || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", host, err)
		}
	}
}
