package pages

import (
	"testing"

	"github.com/pdskit/pdskit/xrpc/site/sitetest"
)

func TestMessages(t *testing.T) {
	sitetest.Languages(t, set)
	sitetest.Messages(t, set, files, "action.create", "action.update", "action.delete")
}
