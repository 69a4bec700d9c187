package slim

import (
	"fmt"
	"strings"
)

// methods are the names that templates of pdskit call methods by, or may: those of fields are among
// them. A test holds it against the templates.
var methods = strings.Fields(`
About Account Accounts Act ActText Action Acts Address Again Age Agent Always App AppPassword
AppPasswords Applied Apps Ask Asked AskedAt At Available Back Backups Behind BlobBytes Blobs
Brand Browsers By ByUse Bytes Cancelled Ceremony Check Checked CheckedAt Checks Choices Clock
Code Code6 Codes Confirm Consent Count CountedAt Counts Create Created Cursor DID DNS Danger
DeactivatedAt Dead Detail Details Disable Disabled Domain Domains Done DoneText Draining
Duplicate Elsewhere Email EmailConfirmedAt End Endpoint Entries Error Errors Factor FactorText
Factors Failed Failure Field Fields Fixed Flow For ForAccount Form Found Free From Full Good
HTTPS Handle HasBackups Head Help Here Hidden Home Host Hosted ID Invite InvitesDisabled IsZero
Items JSON Key Kind Known Label Lang Last LastFailed LastSent LastUsed Leads Left Level
LevelClass LevelText Lines Link Logo Look Loopback Machine Made Mail Mailed Max MaxPassword May
Memory Menu Message MethodOf Min MinPassword Missing More N Name Nav NeedsCode New Newest Next
Node Nodes Not Of Offers Offset Oldest On Options Outcome OutcomeText Overview Own Owner Parts
PasskeyForm Passkeys Past Path Planned Policy Privacy Privileged Problem Problems Proof QR Query
Records Recovery Ref Reference Relay Relays Remedy Remember Renewed Request Reset Resets Return Rev Scope
Scopes Script Secret Seen Sent Seq Sessions Short Shown SignIn SignUp Silent Since Sizes Span
Started Status StatusText Style Subject Subscribers Support T Tag TakedownRef Terms Test Text
Through Time Title Token Took Trusted URI Used Uses Value Version Waiting Who Wrong
`)

// lookUp is the text of a function that finds methods by these names only. The names are constants,
// so that the linker knows that no others are called.
func lookUp() string {
	var b strings.Builder
	b.WriteString("func slimMethod(v reflect.Value, name string) reflect.Value {\n\tswitch name {\n")
	for _, name := range methods {
		fmt.Fprintf(&b, "\tcase %q:\n\t\treturn v.MethodByName(%q)\n", name, name)
	}
	b.WriteString("\t}\n\treturn reflect.Value{}\n}\n\n")
	return b.String()
}
