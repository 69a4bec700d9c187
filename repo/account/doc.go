// Package account knows who there is on a host: accounts with their names, signing keys, status,
// invite codes, takedowns and preferences. What somebody shows to be let in (passwords, sessions,
// tokens sent by mail) is in package account/credential, on top of this one. Neither knows HTTP.
//
// An account is a repository's key-value namespace together with the names that are reserved for
// it on the host. [Open] puts the parts together, from the configuration of the host and the box
// that seals signing keys:
//
//	accounts := account.Open(repo.Config{Store: store}, box)
//	credentials := credential.New(credential.Config{Accounts: accounts})
//	if err := accounts.Repair(ctx); err != nil { … }
//
// A host that signs with keys of its own kind makes them one by one: [NewKeys], [repo.NewHost],
// [New].
//
// # One door
//
// Every change of an account is a [repo.Host.Step] (or a batch of records): one transaction under
// the account's lock, with what it relies on as a precondition, and with the events that tell the
// network. On whose word it is made is looked at in that transaction: see [Caller].
//
// # The counter
//
// Each account has one counter, Account.Credentials. A change or reset of the password, a
// takedown, a deactivation and "sign out everywhere" raise it, and the deletion ends it. Sessions,
// tokens, grants and app passwords carry the value that they were made under, and are void under
// any other. So what was under way when the counter was raised does not survive, and no list of
// sessions has to be complete. What is to outlast a raise is carried over by the same transaction:
// see [Store.Raise]. Whatever was stored before there was a counter counts as of value 0.
//
// # Names
//
// Handles and e-mail addresses are unique on the host. They lie in the host's namespace, which no
// transaction of an account reaches. So an operation that changes names has three transactions:
//
//  1. The new names are written, together with a note of the operation ("pending/").
//  2. The account is changed, by a step. That decides.
//  3. The names that the account does not have, of those that the note lists, are given up, and
//     the note goes.
//
// A process that dies in between leaves the note. [Store.Repair] finishes what notes say, so it
// costs what is pending, however many accounts there are. Until then a name that may be needed is
// held, so no name is ever given to two accounts.
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
//	oauth/…            xrpc/oauth, site    sessions of apps, codes, grants, sign-ins of browsers: see provider, site
//	index/…            repo                rows of repo.Config.Indexes and their stamp
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
