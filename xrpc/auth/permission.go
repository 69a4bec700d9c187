package auth

import "strings"

// RPC is the resource of permissions to call services.
const RPC = "rpc"

// The other resources.
const (
	repoResource     = "repo"
	blobResource     = "blob"
	accountResource  = "account"
	identityResource = "identity"
	hostResource     = "host"
)

// The actions on records.
const (
	Create = "create"
	Update = "update"
	Delete = "delete"
)

var recordActions = []string{Create, Update, Delete}

// Permission is the right to do one thing: an action on a target of a resource. Make one with the
// functions of this package.
type Permission struct {
	// Resource is "repo", "rpc", "blob", "account", "identity" or "host".
	Resource string
	// Action is, for repo: "create", "update" or "delete"; for rpc: the NSID of the method, or
	// "*" for any; for account: "read" or "manage"; for identity: "submit", or empty; for host:
	// "moderate" or "administer". It is empty for blob.
	Action string
	// Target is, for repo: the collection; for rpc: the service that is called, a DID with a
	// fragment; for blob: the MIME type; for account and identity: the attribute. It is empty for
	// host.
	Target string
}

// FromInput is a placeholder in a declared permission for a value that only the input of a request
// has, such as the collection of createRecord: auth.Write(auth.Create, auth.FromInput). A
// permission with a placeholder is a pattern: it is never granted, it only covers other
// permissions.
const FromInput = "{input}"

// IsPattern reports whether the permission contains [FromInput].
func (p Permission) IsPattern() bool { return p.Action == FromInput || p.Target == FromInput }

// Covers reports whether q is p, or matches the pattern p.
func (p Permission) Covers(q Permission) bool {
	return p.Resource == q.Resource && (p.Action == q.Action || p.Action == FromInput) &&
		(p.Target == q.Target || p.Target == FromInput)
}

// Write is the permission to create, update or delete records of a collection.
func Write(action, collection string) Permission {
	return Permission{repoResource, action, collection}
}

// Call is the permission to call a method of a service ("did:web:example.com#service") on behalf of
// the account. The method "*" means a token that is not bound to a method.
func Call(method, service string) Permission { return Permission{RPC, method, service} }

// Upload is the permission to upload a blob of a declared MIME type. Parameters and case of the
// type are ignored.
func Upload(mime string) Permission {
	mime, _, _ = strings.Cut(mime, ";")
	return Permission{blobResource, "", strings.ToLower(strings.TrimSpace(mime))}
}

// Permissions on the account that scopes can grant.
var (
	ReadEmail   = Permission{accountResource, "read", "email"}
	ManageEmail = Permission{accountResource, "manage", "email"}
	// ManageRepo is the permission to replace the whole repository.
	ManageRepo = Permission{accountResource, "manage", "repo"}
	// ManageHandle is the permission to change the account's handle.
	ManageHandle = Permission{identityResource, "", "handle"}
	// ManageIdentity is the permission to change the DID document, including its keys.
	ManageIdentity = Permission{identityResource, "", "*"}
	// SubmitIdentity is the permission to submit a signed change of the DID document. A scope that
	// grants ManageIdentity grants it too.
	SubmitIdentity = Permission{identityResource, submit, "*"}
)

const submit = "submit"

// Permissions on the account for which there is no scope.
var (
	// ReadCredentials is the permission to list app passwords.
	ReadCredentials = Permission{accountResource, "read", "credentials"}
	// ManageCredentials is the permission to make and revoke app passwords, and to change the
	// e-mail address with which the password can be reset.
	ManageCredentials = Permission{accountResource, "manage", "credentials"}
	// ManageLifecycle is the permission to activate, deactivate and delete the account.
	ManageLifecycle = Permission{accountResource, "manage", "lifecycle"}
	// ReadInvites is the permission to list the account's invite codes. Listing them makes the
	// codes that the account has earned.
	ReadInvites = Permission{accountResource, "read", "invites"}
	// ReadQueue is the permission to read the account's position in a queue of new accounts.
	ReadQueue = Permission{accountResource, "read", "queue"}
	// ReadPersonal and ManagePersonal are the permissions to read and change personal details in
	// the preferences, such as the date of birth.
	ReadPersonal   = Permission{accountResource, "read", "personal"}
	ManagePersonal = Permission{accountResource, "manage", "personal"}
)

// Permissions on the host. No credential of an account has them.
var (
	// Moderate is the permission to see accounts, to take them and their content down, and to send
	// mail to them.
	Moderate = Permission{hostResource, "moderate", ""}
	// Administer is the permission to change and delete accounts, and to make invite codes.
	Administer = Permission{hostResource, "administer", ""}
)

// String returns the permission as "resource:action target", for logs.
func (p Permission) String() string {
	s := p.Resource
	if p.Action != "" {
		s += ":" + p.Action
	}
	if p.Target != "" {
		s += " " + p.Target
	}
	return s
}

// Scope returns the smallest scope that grants the permission, or "" if there is none.
func (p Permission) Scope() string {
	var s Scope
	switch p.Resource {
	case repoResource:
		s = Scope{resource: p.Resource, values: []string{p.Target}, actions: []string{p.Action}}
	case RPC:
		s = Scope{resource: p.Resource, values: []string{p.Action}, audience: p.Target}
	case blobResource, identityResource: // "identity:*" is the one that grants SubmitIdentity too
		s = Scope{resource: p.Resource, values: []string{p.Target}}
	case accountResource:
		s = Scope{resource: p.Resource, values: []string{p.Target}, actions: []string{p.Action}}
	}
	text := s.String()
	if _, err := ParseScope(text); err != nil {
		return ""
	}
	return text
}
