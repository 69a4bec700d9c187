package auth

import "strings"

// The resources of permissions.
const (
	repoResource     = "repo"
	rpcResource      = "rpc"
	blobResource     = "blob"
	accountResource  = "account"
	identityResource = "identity"
)

// The actions on records.
const (
	Create = "create"
	Update = "update"
	Delete = "delete"
)

var recordActions = []string{Create, Update, Delete}

// Permission is one thing that a caller wants to do: an action on a target of a resource.
// Make one with the functions of this package.
type Permission struct {
	// Resource is "repo", "rpc", "blob", "account" or "identity".
	Resource string
	// Action is, for repo: "create", "update" or "delete"; for rpc: the NSID of the method, or
	// "*" for any; for account: "read" or "manage". It is empty for blob and identity.
	Action string
	// Target is, for repo: the collection; for rpc: the service that is called, a DID with a
	// fragment; for blob: the MIME type; for account and identity: the attribute.
	Target string
}

// Write is the permission to create, update or delete records of a collection.
func Write(action, collection string) Permission {
	return Permission{repoResource, action, collection}
}

// Call is the permission to call a method of a service ("did:web:example.com#service") on behalf
// of the account. The method "*" stands for a token that is bound to no method.
func Call(method, service string) Permission { return Permission{rpcResource, method, service} }

// Upload is the permission to upload a blob of a declared MIME type. Parameters of the type do not
// count, nor does the case of its letters.
func Upload(mime string) Permission {
	mime, _, _ = strings.Cut(mime, ";")
	return Permission{blobResource, "", strings.ToLower(strings.TrimSpace(mime))}
}

// The permissions on the account that scopes can grant.
var (
	ReadEmail   = Permission{accountResource, "read", "email"}
	ManageEmail = Permission{accountResource, "manage", "email"}
	// ManageRepo is the permission to replace the whole repository.
	ManageRepo = Permission{accountResource, "manage", "repo"}
	// ManageHandle is the permission to change the account's handle.
	ManageHandle = Permission{identityResource, "", "handle"}
	// ManageIdentity is the permission to change the DID document, keys included.
	ManageIdentity = Permission{identityResource, "", "*"}
)

// The permissions on the account for which there is no scope.
var (
	// ReadCredentials is the permission to list app passwords.
	ReadCredentials = Permission{accountResource, "read", "credentials"}
	// ManageCredentials is the permission to make and revoke app passwords, and to change the
	// address that resets the password.
	ManageCredentials = Permission{accountResource, "manage", "credentials"}
	// ManageLifecycle is the permission to activate, deactivate and delete the account.
	ManageLifecycle = Permission{accountResource, "manage", "lifecycle"}
)

// String returns the permission as "resource:action target", for logs.
func (p Permission) String() string {
	s := p.Resource
	if p.Action != "" {
		s += " " + p.Action
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
	case rpcResource:
		s = Scope{resource: p.Resource, values: []string{p.Action}, audience: p.Target}
	case blobResource, identityResource:
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
