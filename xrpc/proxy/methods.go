package proxy

import (
	"slices"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// protected are the methods by which an account is managed, in lower case.
var protected = []string{
	"com.atproto.admin.sendemail",
	"com.atproto.identity.requestplcoperationsignature",
	"com.atproto.identity.signplcoperation",
	"com.atproto.identity.updatehandle",
	"com.atproto.server.activateaccount",
	"com.atproto.server.confirmemail",
	"com.atproto.server.createapppassword",
	"com.atproto.server.deactivateaccount",
	"com.atproto.server.getaccountinvitecodes",
	"com.atproto.server.getsession",
	"com.atproto.server.listapppasswords",
	"com.atproto.server.requestaccountdelete",
	"com.atproto.server.requestemailconfirmation",
	"com.atproto.server.requestemailupdate",
	"com.atproto.server.revokeapppassword",
	"com.atproto.server.updateemail",
}

// Protected reports whether a method manages accounts. No service may call such a method for an
// account: it is never forwarded, and nobody should get a service token for it. Case is ignored.
func Protected(method syntax.NSID) bool {
	_, found := slices.BinarySearch(protected, strings.ToLower(string(method)))
	return found
}
