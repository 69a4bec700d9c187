// Package account manages the accounts of a host: their names, signing keys, status, invite codes,
// takedowns and preferences. Credentials (passwords, sessions, tokens sent by mail) are in package
// account/credential, which builds on this one. Neither package depends on HTTP.
//
// An account is a repository's key-value namespace together with the names that are reserved for
// it on the host. [Open] puts the parts together, from the configuration of the host and the box
// that seals signing keys:
//
//	accounts := account.Open(repo.Config{Store: store}, box)
//	credentials := credential.New(credential.Config{Accounts: accounts})
//	if err := accounts.Repair(ctx); err != nil { … }
//
// A host with its own kind of signing keys makes the parts one by one: [NewKeys], [repo.NewHost],
// [New].
//
// # One door
//
// Every change of an account is a [repo.Host.Step] (or a batch of records): one transaction under
// the account's lock. The state that the change relies on is a precondition of the transaction, and
// the events that announce the change are part of it. The transaction also checks who asks for the
// change: see [Caller].
//
// # The counter
//
// Each account has one counter, Account.Credentials. A change or reset of the password, a takedown,
// a deactivation and "sign out everywhere" raise the counter, and the deletion of the account ends
// it. Sessions, tokens, grants and app passwords store the counter's value at their creation, and
// are void once it has changed. So a sign-in that was under way when the counter was raised is void
// too, and no list of sessions has to be complete. The same transaction can carry credentials over
// to the new value: see [Store.Raise]. Credentials stored before the counter existed have the value
// 0.
//
// # Names
//
// Handles and e-mail addresses are unique on the host. They are stored in the host's namespace,
// which no transaction of an account can write. So an operation that changes names has three
// transactions:
//
//  1. The new names are written, together with a note of the operation ("pending/").
//  2. The account is changed. This transaction decides whether the operation succeeds.
//  3. Names in the note that the account does not have are released, and the note is deleted.
//
// A process that dies in between leaves the note. [Store.Repair] completes the operations in the
// notes, so its cost depends on their number, not on the number of accounts. Until then the names
// in the note stay reserved, so no name is ever given to two accounts.
//
// # Keys
//
// All keys that packages of this module write, in an account's namespace:
//
//	account            account             the account: an Account in JSON
//	key/signing        account             the signing key, sealed
//	key/next           account             the signing key that RotateKey brings in, sealed
//	preferences        account             the preferences, in JSON
//	takedown/record/…  account             a record that is taken down: the reference
//	takedown/blob/…    account             a blob that is taken down: the reference
//	session/NAME       account/credential  a session; expires
//	apppassword/NAME   account/credential  an app password, hashed
//	mailtoken/PURPOSE  account/credential  a token that was sent by mail; expires
//	factor/list        account/credential  second factors and passkeys, in JSON
//	factor/totp        account/credential  the secret of the authenticator app, sealed
//	factor/enrolment   account/credential  such a secret that is not confirmed yet, sealed; expires
//	factor/guesses     account/credential  how many wrong codes were tried; expires
//	mail/unconfirmed   xrpc/atproto/server how many messages an address got that is not confirmed; expires
//	oauth/…            xrpc/oauth, site    sessions of apps, codes, grants, sign-ins of browsers: see provider, site
//	index/…            repo                rows of repo.Config.Indexes and their stamp
//	sweep/…            repo                of the last deletion of unused blobs; of one under way, expires
//	link/…             repo                rows of indexes of earlier versions; deleted when found
//	durable/…          storage/durable     the account's alarm and what was delivered to the log
//
// and in the host's namespace:
//
//	handle/HANDLE        account             the DID that has the handle
//	email/ADDRESS        account             the DID that has the address, in lower case
//	userhandle/HANDLE    account             the DID that authenticators know by that name
//	created/TIME/DID     account             accounts in the order of their creation
//	deleteafter/TIME/DID account             deactivated accounts that wish to be deleted at a time
//	moderated/DID        account             an account that is, or has something that was, taken down
//	pending/DID/ID       account             an operation on names that has not ended
//	accounts             account             how many accounts there are, and the layout's version
//	invite/CODE          account             an invite code with its uses
//	invitesof/DID/CODE   account             the codes that belong to an account, or to "admin"
//	invitesat/TIME/CODE  account             all codes by the time at which they were made
//	invitesused/N/CODE   account             all codes by the number of their uses
//	invitesindexed       account             that all codes have such entries
//	reservedkey/KEY      account             a signing key for an account that will come; expires
//	reservedfor/DID      account             its did:key, by the account's DID; expires
//	reset/TOKEN          account/credential  the DID that a token to reset a password is for; expires
//	oauth/…              xrpc/oauth, site    authorization requests, used proofs, and browsers; expire
//	passkey/HASH         xrpc/passkey        a challenge that was given out; expires
//	audit/…              xrpc/audit          what administrators have done
//	operator/…           xrpc/operator       sessions of the administrator, which expire, and notes of backups
//	lost-blob/DID/CID    repo/check          a blob that was accepted as lost
//	durable/alarms/…     storage/durable     alarms by time
//	maintenance/sweep    xrpc/pds            how far the deletion of unused blobs has come
//	probe                xrpc/pds            the time at which the store was last found writable
//
// Hosts may keep keys of their own in both, below prefixes that are not in the tables.
package account
