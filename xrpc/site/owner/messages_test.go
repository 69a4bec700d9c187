package owner

import (
	"testing"

	"github.com/pdskit/pdskit/xrpc/site/sitetest"
)

func TestMessages(t *testing.T) {
	sitetest.Languages(t, set)
	sitetest.Messages(t, set, files,
		"nav.", "nav.devices", "nav.apps", "nav.app-passwords", "nav.security", "nav.email", "nav.handle", "nav.data", "nav.close")
}
