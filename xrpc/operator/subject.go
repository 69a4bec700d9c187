package operator

import (
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/site"
)

// kind is what an act is done to.
type kind int

const (
	nothing kind = iota
	anAccount
	aPart // a record or a blob
	aCode
	aSubscriber
	aRelay
)

// subject is one of them, as it was named in a link or a form.
type subject struct {
	kind kind
	// text is what it was named.
	text string
	did  syntax.DID   // of an account or a blob
	uri  syntax.ATURI // of a record
	cid  syntax.CID   // of a blob
	id   int64        // of a subscriber
}

// maxName is the length in bytes of the longest name of a subject: a record's URI may be long.
const maxName = 3000

var errName = &site.Error{Status: http.StatusBadRequest, Key: "error.name"}

// parseSubject reads the name of a subject of a kind. The error is shown.
func parseSubject(k kind, text string) (x subject, err error) {
	x = subject{kind: k, text: strings.TrimSpace(text)}
	if len(x.text) > maxName || !utf8.ValidString(x.text) || short(x.text, maxName) != x.text {
		return subject{}, errName
	}
	switch k {
	case nothing:
		if x.text != "" {
			err = errName
		}
	case anAccount:
		x.did, err = syntax.ParseDID(x.text)
	case aPart:
		err = x.parsePart()
	case aCode:
		if x.text == "" || len(x.text) > 200 || strings.ContainsAny(x.text, " /") {
			err = errName
		}
	case aSubscriber:
		x.id, err = strconv.ParseInt(x.text, 10, 64)
	case aRelay:
		if x.text == "" || len(x.text) > 500 {
			err = errName
		}
	}
	if err != nil {
		return subject{}, errName
	}
	return x, nil
}

// parsePart reads "at://DID/COLLECTION/KEY", or "DID CID" of a blob.
func (x *subject) parsePart() error {
	if strings.HasPrefix(x.text, "at://") {
		uri, err := syntax.ParseATURI(x.text)
		x.uri = uri
		return err
	}
	did, blob, ok := strings.Cut(x.text, " ")
	blob = strings.TrimSpace(blob)
	if !ok || blob == "" || len(blob) > 256 || strings.Contains(blob, " ") {
		return errName
	}
	var err error
	x.did, err = syntax.ParseDID(did)
	x.cid = syntax.CID(blob)
	x.text = did + " " + blob
	return err
}

// status asks about a record or a blob.
func (x subject) status() api.AdminGetSubjectStatusParams {
	if x.uri != "" {
		return api.AdminGetSubjectStatusParams{URI: x.uri}
	}
	return api.AdminGetSubjectStatusParams{DID: x.did, Blob: x.cid}
}

// update is what changes its status. cid is that of a record; it may be empty.
func (x subject) update(cid syntax.CID) (in api.AdminUpdateSubjectStatusInput) {
	switch {
	case x.kind == anAccount:
		in.Subject.RepoRef = &api.AdminRepoRef{DID: x.did}
	case x.uri != "":
		in.Subject.StrongRef = &api.RepoStrongRef{URI: x.uri, CID: cid}
	default:
		in.Subject.RepoBlobRef = &api.AdminRepoBlobRef{DID: x.did, CID: x.cid}
	}
	return in
}
