package appview

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Preferences with special rules.
const (
	personalDetails = "app.bsky.actor.defs#personalDetailsPref"
	declaredAge     = "app.bsky.actor.defs#declaredAgePref"
)

// inBluesky reports whether a preference is in the namespace of these methods.
func inBluesky(p account.Preference) bool { return strings.HasPrefix(p.Type(), "app.bsky.") }

// getPreferences returns the caller's preferences. Personal details are not for
// app passwords; what age they declare is computed. The moderation service asks for those of an
// account by a parameter that no schema has.
func (s *Service) getPreferences(ctx context.Context, r *xrpc.Request, _ struct{}) (out api.ActorGetPreferencesOutput, err error) {
	did, full := r.Principal.DID, r.Principal.May(auth.ReadPersonal)
	if r.Principal.Role == auth.Administrator {
		if did, err = syntax.ParseDID(r.URL.Query().Get("did")); err != nil {
			return out, xrpc.InvalidRequest("Invalid or missing did parameter")
		}
		full = true
	}
	list, err := s.accounts.Preferences(ctx, did)
	if err != nil {
		return out, err
	}
	shown := slices.DeleteFunc(slices.Clone(list), func(p account.Preference) bool {
		return !inBluesky(p) || p.Type() == personalDetails && !full
	})
	for _, p := range list {
		if age, ok := declared(p, s.now()); ok {
			shown = append(shown, age)
		}
	}
	out.Preferences = make([]data.Raw, len(shown))
	for i, p := range shown {
		if out.Preferences[i], err = data.MarshalJSON(p); err != nil {
			return out, err
		}
	}
	return out, nil
}

// declared computes the age that personal details declare.
func declared(p account.Preference, now time.Time) (account.Preference, bool) {
	var birth syntax.Datetime
	if p.Type() != personalDetails || data.UnmarshalPlainJSON(p["birthDate"], &birth) != nil {
		return nil, false
	}
	if _, err := syntax.ParseDatetime(string(birth)); err != nil {
		return nil, false
	}
	over := func(years int) json.RawMessage {
		if birth.Time().AddDate(years, 0, 0).After(now) {
			return json.RawMessage("false")
		}
		return json.RawMessage("true")
	}
	return account.Preference{
		"$type": json.RawMessage(`"` + declaredAge + `"`), "isOverAge13": over(13), "isOverAge16": over(16), "isOverAge18": over(18),
	}, true
}

// putPreferences replaces the caller's preferences, but for those that the
// session may not touch.
func (s *Service) putPreferences(ctx context.Context, r *xrpc.Request, in api.ActorPutPreferencesInput) (out xrpc.None, err error) {
	given := make([]account.Preference, len(in.Preferences))
	for i, raw := range in.Preferences {
		if err := raw.Into(&given[i]); err != nil {
			return out, xrpc.InvalidRequest("Some preferences are not objects")
		}
	}
	full := r.Principal.May(auth.ManagePersonal)
	for _, p := range given {
		switch {
		case p.Type() == "":
			return out, xrpc.InvalidRequest("Preference is missing a $type")
		case !inBluesky(p):
			return out, xrpc.InvalidRequest("Some preferences are not in the app.bsky namespace")
		case p.Type() == personalDetails && !full:
			return out, xrpc.InvalidRequest("Do not have authorization to set preferences: %s", personalDetails)
		}
	}
	next := slices.DeleteFunc(given, func(p account.Preference) bool { return p.Type() == declaredAge })
	return out, s.accounts.SetPreferences(ctx, s.sessions.By(r), func(old []account.Preference) ([]account.Preference, error) {
		var keep []account.Preference
		for _, p := range old {
			if !inBluesky(p) || p.Type() == personalDetails && !full {
				keep = append(keep, p)
			}
		}
		return append(keep, next...), nil
	})
}
