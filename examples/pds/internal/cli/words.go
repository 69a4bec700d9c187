package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/migrate"
)

// inWords is the text of an error for people: what servers have refused is told without status and
// machine-readable name, that they do not answer without addresses of methods.
func inWords(err error) string {
	text := err.Error()
	moves := errors.As(err, new(*migrate.Error)) // it says itself whose password is meant
	var visit func(err error)
	visit = func(err error) {
		if e, ok := err.(*xrpc.Error); ok && e != nil {
			text = strings.ReplaceAll(text, e.Error(), refusal(e, moves))
			return
		}
		if e, ok := err.(*url.Error); ok && e.Err != nil {
			text = strings.ReplaceAll(text, "xrpc: "+e.Error(), "it does not answer: "+brief(e.Err).Error())
			return
		}
		if senseless(err) {
			text = strings.ReplaceAll(text, err.Error(), "the answer makes no sense: is it that of a PDS?")
			return
		}
		switch x := err.(type) {
		case interface{ Unwrap() error }:
			if inner := x.Unwrap(); inner != nil {
				visit(inner)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range x.Unwrap() {
				visit(inner)
			}
		}
	}
	visit(err)
	return withRemedy(err, text)
}

// senseless reports whether an error says that the answer of a server is not one of its kind.
func senseless(err error) bool { return strings.HasPrefix(err.Error(), "xrpc: answer of ") }

// refusal says what a server has refused, and what to do if that is known. user: it was called with
// the password of a user, not that of the administrator.
func refusal(e *xrpc.Error, user bool) string {
	message := strings.TrimRight(e.Message, ".")
	if message == "" {
		message = strings.ToLower(http.StatusText(e.Status))
	}
	said := "the server refuses: " + message
	is := func(name string) bool { return e.Is(&xrpc.Error{Name: name}) }
	switch {
	case strings.HasPrefix(message, "Params/") || strings.HasPrefix(message, "Input/"):
		_, problem, ok := strings.Cut(message, ": ")
		if !ok {
			problem = message
		}
		return problem
	case is("HandleNotAvailable"):
		return said + ": choose another handle"
	case is("UnsupportedDomain"):
		return said + ". Make the account with a name under the server's domain; a domain of its own is set afterwards, by \"pds account update-handle\""
	case e.Status == http.StatusUnauthorized && !user:
		return "the server does not take the administrator's password: is PDS_ADMIN_PASSWORD, or else secrets.json in PDS_DATA_DIRECTORY, that of this server, and was the server started since it was changed? It says: " + message
	case e.Status == http.StatusTooManyRequests:
		if wait := e.RetryAfter(time.Now()); wait > 0 {
			return fmt.Sprintf("there were too many tries: %s. Try again in %s", message, wait.Round(time.Second))
		}
		return "there were too many tries: " + message
	case is("ClockNotTrusted"):
		return "the server's clock is wrong, so that it signs nothing now: set it (timedatectl)"
	case e.Status == http.StatusNotFound, e.Status == http.StatusNotImplemented:
		return "there is no such method at that address: is it that of a PDS? It says: " + message
	case e.Status >= 500:
		return "the server cannot do it now: " + message + ". Its log says more"
	}
	return said
}

// explainHandle says how a domain gets to be the handle of an account, if that is why it was refused.
func explainHandle(err error, did syntax.DID, handle string, domains []string) error {
	handle = strings.ToLower(handle)
	for _, d := range domains {
		if strings.HasSuffix(handle, d) {
			return err
		}
	}
	e, ok := err.(*xrpc.Error)
	if _, invalid := syntax.ParseHandle(handle); invalid != nil || !ok || e.Status != http.StatusBadRequest && e.Status != http.StatusBadGateway || e.Is(&xrpc.Error{Name: "HandleNotAvailable"}) {
		return err
	}
	return fmt.Errorf("%w.\nA domain must lead to the account before it can be its handle. Where its DNS is managed, add\n\n"+
		"    name   _atproto.%s\n    type   TXT\n    value  did=%s\n\nor let its web site answer https://%s/.well-known/atproto-did with\n\n    %s\n\n"+
		"Then run this again. \"dig +short TXT _atproto.%s\" shows what is seen of it", err, handle, did, handle, did, handle)
}
